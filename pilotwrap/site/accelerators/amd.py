"""AMD's devices: their PCI numbers, the topology of KFD (the compute part of the driver), and ROCm's variables.

Sources: the public PCI ID list; the kernel's drivers/gpu/drm/amd/amdkfd/kfd_topology.c, Documentation/gpu/amdgpu
(unique_id, mem_info_vram_total, RAS); ROCm's page "GPU isolation techniques"; OLCF's Frontier user guide.
"""

import re
from collections.abc import Sequence

from pilotwrap.model.node import Accelerator, DeviceKind, HealthReason, Vendor
from pilotwrap.model.snapshot import DeviceSaid, Snapshot
from pilotwrap.site.accelerators.kfd import TOPOLOGY, Unit, is_there, refused, units
from pilotwrap.site.accelerators.said import as_said, ill
from pilotwrap.site.accelerators.selection import named, numbered
from pilotwrap.site.digits import number_of
from pilotwrap.site.looks import Looks

NAME: Vendor = "amd"
PCI_VENDOR = "1002"
MASK = "ROCR_VISIBLE_DEVICES"
HIP_MASK = "HIP_VISIBLE_DEVICES"
OPENCL_MASK = "GPU_DEVICE_ORDINAL"
HIP_ALIAS = "CUDA_VISIBLE_DEVICES"
MASKS: tuple[str, ...] = (MASK, HIP_MASK, OPENCL_MASK)
UNCOUNTED: frozenset[HealthReason] = frozenset({"not-granted"})

MODELS = {
    "738c": "AMD Instinct MI100",
    "7408": "AMD Instinct MI250X",
    "740c": "AMD Instinct MI250X/MI250",
    "740f": "AMD Instinct MI210",
    "74a0": "AMD Instinct MI300A",
    "74a1": "AMD Instinct MI300X",
}
DIES = frozenset({"7408", "740c"})
"""One of two dies (GCDs) of a card, each a device of its own."""

_FOLDER = "/sys/bus/pci/devices"
LOOKS = Looks(
    variables=MASKS,
    files=(
        f"{TOPOLOGY}/*/properties",
        f"{TOPOLOGY}/*/mem_banks/0/properties",
        *(f"{_FOLDER}/<{PCI_VENDOR}>/{name}" for name in ("unique_id", "mem_info_vram_total", "ras/umc_err_count")),
    ),
)


def devices(said: DeviceSaid, snapshot: Snapshot) -> tuple[Accelerator, ...]:
    """Return the device, or its partitions; nothing where the driver has no compute part for it (a display's)."""
    own = [unit for unit in units(snapshot) if unit.address == said.address.lower()]
    display = said.pci_class.lower().startswith("0x0300")
    seen = _seen(said, snapshot, "gcd" if _number(said) in DIES or len(own) > 1 else "gpu")
    if own:
        return _parts(seen, [unit for unit in own if unit.memory_mib or not display])
    if refused(snapshot):
        return (ill(seen, "not-granted", "the driver does not tell its compute part to us"),)
    return () if display and is_there(snapshot) else (seen,)


def in_order(found: Sequence[Accelerator], snapshot: Snapshot) -> list[Accelerator]:
    """Return the devices as ROCm numbers them: along KFD's nodes, where it tells them."""
    told = list(dict.fromkeys(unit.address for unit in units(snapshot)))
    rank = {address: place for place, address in enumerate(told)}
    return sorted(found, key=lambda device: rank.get(device.pci_address.lower(), len(rank)))


def visible(found: Sequence[Accelerator], snapshot: Snapshot) -> list[Accelerator]:
    """Return what ROCr's variable leaves, and of that HIP's and OpenCL's, whose numbers count within it.

    Slurm writes one list into ROCR_, CUDA_VISIBLE_DEVICES and GPU_DEVICE_ORDINAL (src/plugins/gres): a repeat of
    ROCr's is the same grant said again, not a selection within it.
    """
    said = snapshot.variables
    counted = [device for device in found if device.reason not in UNCOUNTED]
    own = said.get(MASK)
    left = counted if own is None else _picked(own, counted)
    hip = said.get(HIP_MASK) or _unless(own, said.get(HIP_ALIAS))
    opencl = _unless(own, said.get(OPENCL_MASK))
    picked = [_picked(text, left) for text in (hip, opencl) if text]
    return [device for device in left if all(device in some for some in picked)]


def mask(chosen: Sequence[Accelerator], counted: Sequence[Accelerator]) -> dict[str, str]:
    """Return what shows these devices alone: one variable, for HIP's would count within ROCr's."""
    return {MASK: ",".join(str(counted.index(device)) for device in chosen)}


def _unless(own: str | None, text: str | None) -> str | None:
    return None if text == own else text


def _picked(text: str, counted: Sequence[Accelerator]) -> list[Accelerator]:
    """Return the devices that a list names, as far as it is valid: it ends at a repeat, too."""
    chosen: list[Accelerator] = []
    for word in text.split(","):
        by_name = word.strip().upper().startswith("GPU-")
        device = named(word.strip(), counted, any_case=True) if by_name else numbered(word, counted)
        if device is None or device in chosen:
            break
        chosen.append(device)
    return chosen


def _parts(seen: Accelerator, own: Sequence[Unit]) -> tuple[Accelerator, ...]:
    """Return a device as its units: one, or its partitions."""
    found = []
    for part, unit in enumerate(own):
        name = f"GPU-{unit.unique_id:016x}" if unit.unique_id else None
        memory = unit.memory_mib or (seen.memory_mib // len(own) if seen.memory_mib else None)
        told = {"uuid": seen.uuid or name, "memory_mib": memory, "part": part if len(own) > 1 else None}
        found.append(seen.model_copy(update=told))
    return tuple(found)


def _seen(said: DeviceSaid, snapshot: Snapshot, kind: DeviceKind) -> Accelerator:
    """Return the device with what the driver's own files tell of it."""
    folder = f"{_FOLDER}/{said.address}"
    serial = (snapshot.text(f"{folder}/unique_id") or "").strip().lower()
    uuid = f"GPU-{serial.zfill(16)}" if re.fullmatch(r"[0-9a-f]{1,16}", serial) and serial.strip("0") else None
    memory = (number_of(snapshot.text(f"{folder}/mem_info_vram_total")) or 0) // 1024**2
    told = {"kind": kind, "uuid": uuid, "memory_mib": memory or None}
    seen = as_said(said, NAME, MODELS.get(_number(said), said.device)).model_copy(update=told)
    errors = re.search(r"^ue: *([1-9][0-9]*)", snapshot.text(f"{folder}/ras/umc_err_count") or "", re.MULTILINE)
    if errors:
        return ill(seen, "ecc", f"{errors[1]} uncorrectable memory errors since the driver was loaded")
    return seen


def _number(said: DeviceSaid) -> str:
    return said.device.removeprefix("0x").lower()
