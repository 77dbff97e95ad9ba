"""What the calls of one fake launcher hold of their nodes, in a file that all of them share (FAKE_HELD names it)."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

HELD = "FAKE_HELD"
NODES = "FAKE_NODES"
CORES = "FAKE_CORES"
GPUS = "FAKE_GPUS"
POLL_S = 0.01
Book = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """So many nodes out of some, and so many cores and GPUs of each; `alone`: all of them."""

    among: Sequence[str]
    count: int
    cores: int = 0
    gpus: int = 0
    alone: bool = False


def named(default: str) -> tuple[str, ...]:
    """Return the nodes that there are."""
    return tuple(os.environ.get(NODES, default).split(","))


def each_has() -> tuple[int, int]:
    """Return the cores and GPUs of a node."""
    return int(os.environ.get(CORES, "64")), int(os.environ.get(GPUS, "0"))


def possible(wish: Wish) -> bool:
    """Tell whether idle nodes could give it."""
    return len(_given(wish, {})) == wish.count


def taken(wish: Wish) -> list[str]:
    """Wait, behind those that came before, until it is free, and hold it until this process ends; return the nodes."""
    me = str(os.getpid())
    if HELD not in os.environ:
        return _given(wish, {}) or _waits_for_ever()
    with _book() as book:
        book["queue"].append(me)
    while True:
        with _book() as book:
            given = _given(wish, book["held"]) if book["queue"][0] == me else []
            if given:
                book["queue"].remove(me)
                book["held"][me] = _share(wish, given)
                return given
        time.sleep(POLL_S)  # a file tells nobody


def taken_now(wish: Wish) -> list[str]:
    """Hold it if it is free; return the nodes, none if it is not."""
    with _book() as book:
        given = _given(wish, book["held"])
        if given:
            book["held"][str(os.getpid())] = _share(wish, given)
    return given


def _waits_for_ever() -> NoReturn:
    while True:
        signal.pause()


def _share(wish: Wish, given: Sequence[str]) -> Book:
    cores, gpus = each_has() if wish.alone else (wish.cores, wish.gpus)
    return {"nodes": list(given), "cores": cores, "gpus": gpus}


def _given(wish: Wish, held: Mapping[str, Book]) -> list[str]:
    cores, gpus = each_has()
    fit = []
    for node in wish.among:
        here = [share for share in held.values() if node in share["nodes"]]
        free = cores - sum(share["cores"] for share in here), gpus - sum(share["gpus"] for share in here)
        if not here if wish.alone else (free[0] >= wish.cores and free[1] >= wish.gpus):
            fit.append(node)
    return fit[: wish.count] if len(fit) >= wish.count else []


@contextmanager
def _book() -> Iterator[Book]:
    """Give what is written down, without those that are gone, and write it back."""
    empty: Book = {"queue": [], "held": {}}
    if HELD not in os.environ:
        yield empty
        return
    with Path(os.environ[HELD]).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        book: Book = json.loads(file.read() or json.dumps(empty))
        book["queue"] = [pid for pid in book["queue"] if _lives(pid)]
        book["held"] = {pid: share for pid, share in book["held"].items() if _lives(pid)}
        yield book
        file.truncate(0)
        file.write(json.dumps(book))


def _lives(pid: str) -> bool:
    return Path(f"/proc/{pid}/exe").exists()  # a dead one that nobody has waited for has none
