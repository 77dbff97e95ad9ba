"""The demo's jobs, what each must come to, and whether it did."""

import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotwrap.lab.envelope import Json
from pilotwrap.lab.queuedata import storage_path

ENDPOINT = "LAB"
INPUT, OUTPUT = "text.txt", "words.txt"
TEXT = "one node two nodes many nodes one job one word at the end\n" * 2000

_MPI_LIBRARIES = ("libmpich.so.12", "libmpich.so")
_MPI_PROGRAM = """
import ctypes
mpi = ctypes.CDLL("{library}")
mpi.MPI_Init(None, None)
rank, size, total = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
mpi.MPI_Comm_rank(0x44000000, ctypes.byref(rank))
mpi.MPI_Comm_size(0x44000000, ctypes.byref(size))
mpi.MPI_Allreduce(ctypes.byref(rank), ctypes.byref(total), 1, 0x4c000405, 0x58000003, 0x44000000)
mpi.MPI_Finalize()
print("rank", rank.value, "of", size.value, "sum", total.value, flush=True)
raise SystemExit(size.value != 4 or total.value != 6)
"""
"""Python speaking to MPICH itself; its handles MPI_COMM_WORLD, MPI_INT and MPI_SUM are those of MPICH's mpi.h."""


@dataclass(frozen=True)
class DemoJob:
    """A job and the end that it must come to."""

    title: str
    spec: dict[str, Json]
    state: str
    reason: str


@dataclass(frozen=True)
class DemoRow:
    """How one job of the demo ended, at the server and in the run's report."""

    title: str
    panda_id: int
    state: str
    reason: str
    as_expected: bool
    seconds: float


def demo_jobs(directory: Path) -> tuple[DemoJob, ...]:
    """Return the jobs; the input of the first is written into the directory's storage."""
    copies: dict[str, Json] = {
        "command": ["sh", "-c", "echo copy $PILOTWRAP_RANK of $PILOTWRAP_SIZE"],
        "ranks_per_node": 8,
    }
    return (
        _counting(directory / "storage" / INPUT),
        DemoJob("eight copies", copies, "finished", "ok"),
        *_mpi_job(),
        _failing(),
        DemoJob("outlives its wall time", {"command": ["sleep", "60"], "walltime_s": 1}, "failed", "walltime"),
        _leaving(),
    )


def pilot_jobs(directory: Path) -> tuple[DemoJob, ...]:
    """Return those that make sense for PanDA's own pilot: one process each, its input where the mv copytool looks.

    The wall time is left out: the pilot looks at it once a minute.
    """
    return (_counting(directory / "storage" / storage_path(INPUT)), _failing(), _leaving())


def hand_storage(directory: Path, uid: int, gid: int) -> None:
    """Give the storage to another user, who may pass through the demo's directory to it, and not list that."""
    directory.chmod(0o711)
    storage = directory / "storage"
    for path in (storage, *storage.rglob("*")):
        os.chown(path, uid, gid)


def _counting(text: Path) -> DemoJob:
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text(TEXT)
    content = TEXT.encode()
    given: Json = {
        "lfn": INPUT,
        "size": len(content),
        "adler32": f"{zlib.adler32(content):08x}",
        "endpoint": ENDPOINT,
    }
    made: Json = {"lfn": OUTPUT, "endpoint": ENDPOINT}
    count = f"tr -s ' ' '\\n' < {INPUT} | sort | uniq -c | sort -rn > {OUTPUT}"
    words: dict[str, Json] = {"command": ["sh", "-c", count], "inputs": [given], "outputs": [made]}
    return DemoJob("counts words: an input and an output", words, "finished", "ok")


def _failing() -> DemoJob:
    command: Json = ["sh", "-c", "echo oops >&2; exit 3"]
    return DemoJob("fails on purpose", {"command": command}, "failed", "payload-exit")


def _leaving() -> DemoJob:
    daemon = "setsid sh -c 'sleep 300 & exec sleep 301' < /dev/null > /dev/null 2>&1 & sleep 0.2; echo done"
    return DemoJob("leaves a daemon behind", {"command": ["sh", "-c", daemon]}, "finished", "ok")


def mpi_library() -> str | None:
    """Return the MPI library that is here with its launcher; None: neither can be used."""
    if not any(shutil.which(name) for name in ("mpiexec.hydra", "mpiexec.mpich")):
        return None
    return next((name for name in _MPI_LIBRARIES if _loads(name)), None)


def _loads(library: str) -> bool:
    """Tell whether a library can be loaded, by a process of its own: MPICH's UCX takes over its process's signals."""
    argv = [sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", library]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def demo_rows(
    jobs: Mapping[int, DemoJob], listed: Sequence[Mapping[str, Json]], reported: Mapping[int, tuple[str, float]]
) -> tuple[DemoRow, ...]:
    """Compare what each job came to at the server, and its reason in the run's report, with what it must."""
    rows = []
    states = {int(str(one["panda_id"])): one for one in listed}
    for panda_id, job in jobs.items():
        found = states.get(panda_id, {})
        reason, seconds = reported.get(panda_id, ("never reported", 0.0))
        state = str(found.get("state", "unknown"))
        good = state == job.state and reason == job.reason and found.get("reports") == 1
        rows.append(DemoRow(job.title, panda_id, state, reason, good, seconds))
    return tuple(rows)


def still_running(directory: Path) -> tuple[int, ...]:
    """Return the processes, other than this one, that run inside of the demo's directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                cwd = (entry / "cwd").readlink()
            except OSError:
                continue
            if cwd.is_relative_to(directory):
                found.append(int(entry.name))
    return tuple(found)


def _mpi_job() -> tuple[DemoJob, ...]:
    library = mpi_library()
    if library is None:
        return ()
    command: Json = [sys.executable, "-c", _MPI_PROGRAM.format(library=library)]
    spec: dict[str, Json] = {"command": command, "mode": "mpi", "ranks_per_node": 4}
    return (DemoJob("MPI, four ranks", spec, "finished", "ok"),)
