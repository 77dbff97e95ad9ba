"""File-system calls of each process of a command, by strace."""

import collections
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

CALLS = (
    "open,openat,stat,lstat,fstat,newfstatat,statx,readlink,readlinkat,access,faccessat,faccessat2,getdents,getdents64"
)
"""What a parallel file system's metadata server is asked: opens, the stat family, links, access, listings."""

_LINE = re.compile(r"^(\d+) +(\w+)\((.*)$")
_STARTS = ("execve", "clone", "clone3", "fork", "vfork")


class Traced(NamedTuple):
    """A process: its argv (that of its parent until it executes something), and its calls."""

    argv: str
    calls: int


def traced(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> list[Traced]:
    """Run a command under strace and return its processes, in the order of their start."""
    strace = ["strace", "-f", "-o", str(log), "-e", f"trace={CALLS},{','.join(_STARTS)}"]
    subprocess.run([*strace, *command], check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=env)
    counts: collections.Counter[str] = collections.Counter()
    names: dict[str, str] = {}
    for line in log.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        pid, call, rest = match.groups()
        names.setdefault(pid, "(forked)")
        if call == "execve" and "[" in rest and "= -1" not in rest:
            names[pid] = rest.split("[", 1)[1].split("]", 1)[0]
        if call not in _STARTS:
            counts[pid] += 1
    return [Traced(name, counts[pid]) for pid, name in names.items()]


def total(processes: Sequence[Traced]) -> int:
    """Return the calls of all processes together."""
    return sum(process.calls for process in processes)
