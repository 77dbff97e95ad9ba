"""The probe's child program: asks NVML and says each answer at once on the descriptor that its first word names.

It is a program of its own because a driver can hang or crash whoever asks it. One JSON line is written before each
call (a mark), one for each device, and one at the end: what was found before a crash counts, and the mark names the
call that did it. The numbers of modes and errors are nvml.h's, by way of nvidia-ml-py (module `pynvml`).
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
_PR_SET_PDEATHSIG = 1
"""prctl.h: the signal that we get when our parent dies; a probe that hangs must not outlive it."""

_MIG_ENABLED = 1
"""nvml.h: NVML_DEVICE_MIG_ENABLE."""

_MOST_GPUS = 64
"""More than any node has (16 in a DGX-2); a count beyond it is no count."""

_MODES = ("default", "exclusive-thread", "prohibited", "exclusive-process")
"""nvml.h: nvmlComputeMode_t."""

Field = str | int | float | bool | None


class _Refusal(Exception):  # noqa: N818 - an answer of NVML's, handled where it is asked
    """NVML said no: the reason by our names, and its own words."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Asker:
    """NVML, asked one call at a time, each with its mark."""

    def __init__(self, nvml: ModuleType, descriptor: int) -> None:
        self._nvml = nvml
        self._descriptor = descriptor
        self._reasons = {
            nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "library-missing",
            nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "mismatch",
            nvml.NVML_ERROR_NO_PERMISSION: "not-granted",
            nvml.NVML_ERROR_GPU_IS_LOST: "lost",
        }
        self._silent = {
            nvml.NVML_ERROR_NOT_SUPPORTED,
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            nvml.NVML_ERROR_INVALID_ARGUMENT,
            nvml.NVML_ERROR_NOT_FOUND,
            nvml.NVML_ERROR_NO_DATA,
        }

    def constant(self, name: str) -> int:
        """Return one of nvml.h's numbers."""
        return int(getattr(self._nvml, name))

    def ask(self, call: str, index: int | None, *arguments: object) -> Any:  # noqa: ANN401 - pynvml has no types
        """Return the answer of a call; _Refusal when there is none. `index` is the GPU's, for the mark."""
        answer = self.ask_if_any(call, index, *arguments)
        if isinstance(answer, _Refusal):
            raise answer
        return answer

    def ask_if_any(self, call: str, index: int | None, *arguments: object) -> Any:  # noqa: ANN401 - pynvml has no types
        """Return the answer, or the _Refusal of a device that has no such thing; every other one is raised."""
        say(self._descriptor, kind="mark", call=call, index=index)
        try:
            return getattr(self._nvml, call)(*arguments)
        except self._nvml.NVMLError as error:
            refusal = _Refusal(self._reasons.get(error.value, "unknown"), f"{call}: {error}")
            if error.value in self._silent:
                return refusal
            raise refusal from error
        except UnicodeDecodeError as error:
            raise _Refusal("unknown", f"{call}: it answered bytes that are no text") from error


def say(descriptor: int, **fields: Field) -> None:
    """Write one line, whatever a library has left before it; a reader that has gone ends us."""
    os.write(descriptor, b"\n" + json.dumps(fields).encode() + b"\n")


def main(descriptor: int) -> None:
    """Say all that NVML knows; the last line is the end record."""
    devices = 0
    try:
        asker = _asker(descriptor)
        asker.ask("nvmlInit", None)
        version = _text(asker.ask("nvmlSystemGetDriverVersion", None))
        say(descriptor, kind="driver", version=version, cuda=_cuda(asker))
        for index in range(_count(asker)):
            for device in _devices(asker, index):
                say(descriptor, kind="device", **device)
                devices += 1
    except _Refusal as refusal:
        say(descriptor, kind="error", reason=refusal.reason, detail=refusal.detail)
    say(descriptor, kind="end", devices=devices)


def _asker(descriptor: int) -> Asker:
    """Load the library before pynvml: without it there is nothing that pynvml's slow import could add."""
    say(descriptor, kind="mark", call="dlopen", index=None)
    try:
        ctypes.CDLL(LIBRARY)
        import pynvml
    except OSError as error:
        raise _Refusal("library-missing", f"{LIBRARY} cannot be loaded: {error}") from error
    except ImportError as error:
        raise _Refusal("library-missing", f"the Python package nvidia-ml-py cannot be imported: {error}") from error
    return Asker(pynvml, descriptor)


def _cuda(asker: Asker) -> str | None:
    """Return the newest CUDA that the driver serves: 12040 is 12.4."""
    number = asker.ask_if_any("nvmlSystemGetCudaDriverVersion_v2", None)
    return None if isinstance(number, _Refusal) else f"{number // 1000}.{number % 1000 // 10}"


def _count(asker: Asker) -> int:
    count = int(asker.ask("nvmlDeviceGetCount", None))
    if count > _MOST_GPUS:
        raise _Refusal("unknown", f"nvmlDeviceGetCount: it counts {count} GPUs")
    return count


def _devices(asker: Asker, index: int) -> Iterator[dict[str, Field]]:
    """Yield a GPU, or in its place its MIG instances; one that cannot be asked is yielded as unusable."""
    device: dict[str, Field] = {"index": index, "type": "gpu", "health": "ok", "reason": None, "detail": ""}
    try:
        handle = asker.ask("nvmlDeviceGetHandleByIndex", index, index)
        device["pci_address"] = pci_address(_text(asker.ask("nvmlDeviceGetPciInfo", index, handle).busId))
        device.update({**_identity(asker, index, handle), **_manner(asker, index, handle)})
        device.update(_health(asker, index, handle, device))
        instances = _instances(asker, index, handle)
    except _Refusal as refusal:
        yield {**device, "health": "unusable", "reason": refusal.reason, "detail": refusal.detail}
        return
    if instances is None:
        yield device
    elif not instances:
        yield {**device, "health": "unusable", "reason": "mig-without-instances", "detail": "MIG is on, no instance"}
    for number, instance in instances or ():
        yield {**device, "type": "mig", "instance": number, **_identity(asker, index, instance)}


def _identity(asker: Asker, index: int, handle: object) -> dict[str, Field]:
    memory = asker.ask_if_any("nvmlDeviceGetMemoryInfo", index, handle)
    return {
        "model": _text(asker.ask("nvmlDeviceGetName", index, handle)),
        "uuid": _text(asker.ask("nvmlDeviceGetUUID", index, handle)),
        "memory_mib": None if isinstance(memory, _Refusal) else int(memory.total) // (1024 * 1024),
    }


def _instances(asker: Asker, index: int, handle: object) -> list[tuple[int, object]] | None:
    """Return the MIG instances with their numbers; None: MIG is off."""
    mode = asker.ask_if_any("nvmlDeviceGetMigMode", index, handle)
    if isinstance(mode, _Refusal) or mode[0] != _MIG_ENABLED:
        return None
    places = range(asker.ask("nvmlDeviceGetMaxMigDeviceCount", index, handle))
    asked = ((place, asker.ask_if_any("nvmlDeviceGetMigDeviceHandleByIndex", index, handle, place)) for place in places)
    return [(place, instance) for place, instance in asked if not isinstance(instance, _Refusal)]


def _manner(asker: Asker, index: int, handle: object) -> dict[str, Field]:
    """Return how processes may use a GPU, and how fast it is (cores times MHz)."""
    mode = asker.ask_if_any("nvmlDeviceGetComputeMode", index, handle)
    cores = asker.ask_if_any("nvmlDeviceGetNumGpuCores", index, handle)
    clock = asker.ask_if_any("nvmlDeviceGetMaxClockInfo", index, handle, asker.constant("NVML_CLOCK_SM"))
    told = not isinstance(cores, _Refusal) and not isinstance(clock, _Refusal)
    known = not isinstance(mode, _Refusal) and 0 <= mode < len(_MODES)
    return {"compute_mode": _MODES[mode] if known else None, "speed": int(cores) * int(clock) if told else None}


def _health(asker: Asker, index: int, handle: object, device: dict[str, Field]) -> dict[str, Field]:
    """Return whether a GPU that answers may be used, and if not, why."""
    damage = _memory_damage(asker, index, handle)
    if damage:
        return {"health": "unusable", "reason": "ecc", "detail": damage}
    if device["compute_mode"] == "prohibited":
        return {"health": "unusable", "reason": "not-granted", "detail": "its compute mode is prohibited"}
    return {}


def _memory_damage(asker: Asker, index: int, handle: object) -> str:
    """Return what is wrong with a GPU's memory; empty: nothing that it tells."""
    uncorrected = (asker.constant("NVML_MEMORY_ERROR_TYPE_UNCORRECTED"), asker.constant("NVML_VOLATILE_ECC"))
    errors = asker.ask_if_any("nvmlDeviceGetTotalEccErrors", index, handle, *uncorrected)
    if not isinstance(errors, _Refusal) and errors:
        return f"{errors} uncorrectable memory errors since the driver was loaded"
    rows = asker.ask_if_any("nvmlDeviceGetRemappedRows", index, handle)
    if not isinstance(rows, _Refusal) and (rows[2] or rows[3]):
        return "a row remap failed" if rows[3] else "a row remap waits for a reset of the GPU"
    pages = asker.ask_if_any("nvmlDeviceGetRetiredPagesPendingStatus", index, handle)
    if not isinstance(pages, _Refusal) and pages:
        return "retired memory pages wait for a reset of the GPU"
    return ""


def pci_address(bus_id: str) -> str:
    """Return `00000000:C1:00.0` as sysfs writes it, `0000:c1:00.0`."""
    domain, _, rest = bus_id.strip().lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}" if rest and all(digit in "0123456789abcdef" for digit in domain) else bus_id


def _text(answer: object) -> str:
    """Return text: releases before 11.515 answer bytes."""
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)


def program() -> None:
    """Be the child."""
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - positional only
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    main(descriptor)
    os._exit(0)  # a library's destructors can hang as well as its calls
