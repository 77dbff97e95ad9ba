"""How a run goes, in one line that is written over, on a terminal only."""

import time
from collections.abc import Callable
from typing import TextIO

EVERY_S = 0.2
"""Faster than a person reads."""

_ENDED = ("finished", "failed", "cancelled")


def progress_on(stream: TextIO, *, on: bool) -> Callable[[Callable[[], dict[str, int]]], None]:
    """Return what shows the counts of jobs by phase; does nothing, and counts nothing, where nobody looks."""
    last = [0.0, 0.0]

    def show(counted: Callable[[], dict[str, int]]) -> None:
        now = time.monotonic()
        if not on or now - last[0] < EVERY_S:
            return
        last[0] = now
        counts = counted()
        going = sum(number for phase, number in counts.items() if phase not in _ENDED)
        ended = ", ".join(f"{counts[state]} {state}" for state in _ENDED if state in counts)
        stream.write(f"\r\x1b[K{going} going on{', ' + ended if ended else ''}")
        stream.flush()
        last[1] = 1.0

    return show
