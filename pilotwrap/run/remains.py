"""What dead runs left, sent by the next one: a mark says which runs may have something to tell.

`PARENT/open/RUN_ID` is an empty file that lies there while a run has, or may have, unreported jobs; so the next run
on the same file system finds dead ones with one listing, not by looking into every run that ever was.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pilotwrap.model.errors import PilotwrapError
from pilotwrap.panda.flush import Errand, Reporter, flush
from pilotwrap.run.rundir import RunDirectory, shard

OPEN = "open"
FLUSH_S = 60.0
"""For all that dead runs left; what cannot be told within it is left to the next run, or to `pilotwrap flush`."""


def mark(run: RunDirectory) -> None:
    """Say that this run may leave something."""
    folder = _folder(run)
    with contextlib.suppress(OSError):  # without a mark `pilotwrap flush PARENT` still finds the run
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / run.run_id).touch(mode=0o600)


def unmark(run: RunDirectory) -> None:
    """Say that all of this run is told."""
    with contextlib.suppress(OSError):
        (_folder(run) / run.run_id).unlink(missing_ok=True)


def tell_remains(run: RunDirectory, client_of: Callable[..., Reporter]) -> threading.Thread:
    """Send what dead runs beside this one left, on a thread of its own."""
    thread = threading.Thread(target=_tell, args=(run, client_of), name="remains", daemon=True)
    thread.start()
    return thread


def _tell(run: RunDirectory, client_of: Callable[..., Reporter]) -> None:
    deadline = time.monotonic() + FLUSH_S
    for name in _marked(run):
        dead = run.path.parent.parent / shard(name) / name
        if time.monotonic() > deadline:
            return
        if not dead.is_dir():
            (_folder(run) / name).unlink(missing_ok=True)
            continue
        with contextlib.suppress(PilotwrapError, OSError):  # another node's run may be at it, or have just finished
            result = flush(dead, Errand(client_of, time.time(), deadline))
            if not result.left and not result.living:
                (_folder(run) / name).unlink(missing_ok=True)


def _marked(run: RunDirectory) -> list[str]:
    try:
        return sorted(path.name for path in _folder(run).iterdir() if path.name != run.run_id)
    except OSError:
        return []


def _folder(run: RunDirectory) -> Path:
    return run.path.parent.parent / OPEN
