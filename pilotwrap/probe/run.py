"""Starts a probe, reads it until its end record or its deadline, and leaves nothing of it."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pilotwrap.model.snapshot import ProbeSaid

DEADLINE_S = 30.0
"""Eight GPUs without the persistence daemon take most of it to wake up; also what the project decided on."""

_REAP_S = 0.4
"""A killed child that is not gone by then sleeps in the driver (state D) and is left behind: waited for twice, it costs
less than the second that a fault may take beyond the deadline."""

_LOOK_S = 0.002
_MAX_BYTES = 1024 * 1024

_PROGRAM = "import sys; sys.path += sys.argv[2:]; from pilotwrap.probe.nvml import program; program()"

Record = dict[str, str | int | float | bool | None]


class Said(TypedDict):
    """A ProbeSaid's keys, without the 130 ms (measured) that its model takes to load."""

    probe: str
    exit: int | None
    timed_out: bool
    records: list[Record]
    detail: str


def probe_nvml(deadline_s: float = DEADLINE_S, environment: Mapping[str, str] | None = None) -> ProbeSaid:
    """Return what NVML says of this node's GPUs; never raises, and takes little longer than the deadline (seconds).

    Worth its start (some 50 ms) only where NVIDIA devices are there or asked for.
    """
    from pilotwrap.model.snapshot import ProbeSaid

    return ProbeSaid.model_validate(said_by_nvml(deadline_s, environment))


def said_by_nvml(deadline_s: float = DEADLINE_S, environment: Mapping[str, str] | None = None) -> Said:
    """Return the same as plain values.

    Records are of kind `mark`, `driver`, `device`, `error` and `end`; a crash or a hang adds an `error` that names the
    GPU and the call.
    """
    until = time.monotonic() + deadline_s
    reading, writing = os.pipe()
    try:
        child = _start(writing, environment)
    except OSError as error:
        os.close(reading)
        return _told([], f"the probe cannot be started: {error.strerror}")
    finally:
        os.close(writing)
    try:
        lines, ended = _read(reading, until)
    finally:
        os.close(reading)
        timed_out = time.monotonic() >= until
        code = _end(child, patient=not timed_out)
    return _said(_records(lines), ended=ended, timed_out=timed_out and not ended, code=code)


def _start(writing: int, environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    """Start the child without site-packages, of which it needs one module: half the time of its start."""
    pynvml = importlib.util.find_spec("pynvml")
    places = [str(Path(found).parent) for found in [pynvml and pynvml.origin] if found]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROGRAM, str(writing), str(Path(__file__).parents[2]), *places],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(writing,),
        start_new_session=True,
        env=environment,
    )


def _read(reading: int, until: float) -> tuple[list[bytes], bool]:
    """Return the complete lines, and whether the end record is one: a grandchild may keep the pipe open after it."""
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    data = b""
    while (left := until - time.monotonic()) > 0 and len(data) < _MAX_BYTES:
        if not poll.poll(left * 1000):
            break
        chunk = os.read(reading, 65536)
        data += chunk
        if not chunk or _is_end(data):
            break
    return data.split(b"\n")[:-1], _is_end(data)


def _is_end(data: bytes) -> bool:
    return data.endswith(b"\n") and b'"kind": "end"' in data[:-1].rpartition(b"\n")[2]


def _end(child: subprocess.Popen[bytes], *, patient: bool) -> int | None:
    """Return how the child ended, nothing of its group left; None: it is stuck in the driver.

    The group is killed while the child is still unreaped: until then nobody else can have its number.
    """
    until = time.monotonic() + (_REAP_S if patient else 0)
    while not _has_exited(child.pid) and time.monotonic() < until:
        time.sleep(_LOOK_S)
    os.killpg(child.pid, signal.SIGKILL)
    try:
        return child.wait(_REAP_S)
    except subprocess.TimeoutExpired:
        return None


def _has_exited(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _records(lines: list[bytes]) -> list[Record]:
    """Return the lines that are records; a library that found our pipe and wrote into it is not heard."""
    parsed = (_record(line) for line in lines)
    return [record for record in parsed if record]


def _record(line: bytes) -> Record | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("kind"), str):
        return None
    plain = (str, int, float, bool, type(None))
    return {name: value for name, value in said.items() if isinstance(value, plain)}


def _said(records: list[Record], *, ended: bool, timed_out: bool, code: int | None) -> Said:
    detail = ""
    if not ended:
        mark = next((record for record in reversed(records) if record["kind"] == "mark"), {})
        where = f"in {mark.get('call')}" + (f" of GPU {mark['index']}" if mark.get("index") is not None else "")
        reason, how = _ending(code, timed_out=timed_out)
        detail = f"{how} {where}" if mark else how
        index, call = mark.get("index"), mark.get("call")
        records.append({"kind": "error", "reason": reason, "index": index, "call": call, "detail": detail})
    return _told(records, detail, code, timed_out=timed_out)


def _told(records: list[Record], detail: str, code: int | None = None, *, timed_out: bool = False) -> Said:
    return {"probe": "nvml", "exit": code, "timed_out": timed_out, "records": records, "detail": detail}


def _ending(code: int | None, *, timed_out: bool) -> tuple[str, str]:
    if timed_out:
        return "timeout", "NVML did not answer in time"
    if code is not None and code < 0:
        return "crash", f"NVML ended the probe by signal {-code}"
    return "unknown", f"the probe ended early with exit code {code}"
