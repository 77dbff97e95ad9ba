"""The directory of one run, `PARENT/aa/RUN_ID`: made atomically, locked while the run lives."""

import contextlib
import errno
import fcntl
import json
import os
import time
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pilotwrap.model.errors import BadInputError, SiteEnvironmentError

DEFAULT_PARENT = "pilotwrap-runs"
NAME_ANOTHER = "name another with --run-dir"
_MODE = 0o700
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@dataclass(frozen=True)
class RunDirectory:
    """A run's own directory and the lock that says that the run lives."""

    path: Path
    run_id: str
    lock_fd: int

    @property
    def journal(self) -> Path:
        """Return the events' file."""
        return self.path / "journal.jsonl"

    @property
    def spool(self) -> Path:
        """Return the spool's file."""
        return self.path / "spool.jsonl"

    @property
    def report(self) -> Path:
        """Return the RunReport's file."""
        return self.path / "report.json"

    def job(self, name: str) -> Path:
        """Return a job's own directory; `name` is ours, never a server's."""
        return self.path / "jobs" / name


def new_run_id(now: float) -> str:
    """Return a name that sorts by time and is like no other."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(now)) + "-" + os.urandom(4).hex()


def shard(run_id: str) -> str:
    """Return the folder, of 256, that a run lies in: no single one gets all runs of a machine."""
    return f"{zlib.crc32(run_id.encode()) & 0xFF:02x}"


def make(parent: Path, run_id: str, remedy: str = NAME_ANOTHER) -> RunDirectory:
    """Make and lock the directory; BadInputError when the run exists, SiteEnvironmentError when it cannot be made.

    `remedy` is what the latter says to do.
    """
    if not run_id or run_id.startswith(".") or set(run_id) - _SAFE:
        raise BadInputError(f"run id {run_id!r}", why="it must be letters, digits, '.', '_' and '-'")
    path = parent.resolve() / shard(run_id) / run_id
    try:
        path.parent.mkdir(mode=_MODE, parents=True, exist_ok=True)
        path.mkdir(mode=_MODE)
        for name in ("jobs", "plans"):
            (path / name).mkdir(mode=_MODE)
        lock_fd = _locked(path)
    except FileExistsError as error:
        raise BadInputError(f"the run {run_id} exists already at {path}") from error
    except OSError as error:
        raise SiteEnvironmentError(
            f"the run directory {path} cannot be made",
            why=error.strerror or str(error),
            remedy=remedy,
        ) from error
    return RunDirectory(path=path, run_id=run_id, lock_fd=lock_fd)


def open_to(run: RunDirectory, uid: int, gids: Collection[int]) -> None:
    """Let another user pass through to the jobs' own directories; BadInputError where the way there is closed to it.

    It may pass, not list, and all other files there stay readable by us alone.
    """
    for folder in (run.path.parent, run.path, run.path / "jobs", run.path / "plans"):
        folder.chmod(0o711)
    for folder in run.path.parents:
        said = folder.stat()
        shift = 6 if said.st_uid == uid else 3 if said.st_gid in gids else 0
        if not said.st_mode >> shift & 1:
            raise BadInputError(
                f"the payload's user {uid} cannot enter {folder}",
                why=f"its mode is {said.st_mode & 0o7777:04o}",
                remedy="give a --run-dir that this user can reach",
            )


def _locked(path: Path) -> int:
    """Take the lock and write who we are, for whoever finds this directory after our death."""
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    os.write(fd, json.dumps({"host": os.uname().nodename, "boot": boot, "start": time.time()}).encode() + b"\n")
    return fd


def write_file(path: Path, text: str) -> None:
    """Write a small file of the run, whole or not at all, readable by us alone; raises SiteEnvironmentError."""
    part = path.with_name(path.name + ".part")
    data = text.encode()
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)
        part.replace(path)
    except OSError as error:
        raise SiteEnvironmentError(
            f"{path} cannot be written",
            why=error.strerror or str(error),
            remedy="free some space there, or choose another --run-dir",
        ) from error
