"""Which processes on this host carry a mark in their environment, and the end of them."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def marked(mark: str) -> list[int]:
    """Return the ids of all living processes but this one whose environment at their start held `mark`."""
    return [pid for pid in _all() if pid != os.getpid() and mark.encode() in _environment(pid)]


def end(mark: str) -> list[int]:
    """Kill every process that carries `mark` and return their ids; a test's last net, never its claim."""
    found = marked(mark)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def _all() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or somebody else's
        return b""
