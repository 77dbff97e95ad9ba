"""How a run goes, in one line that is written over, on a terminal only."""

import time
from collections.abc import Callable
from typing import TextIO

EVERY_S = 0.2
"""Faster than a person reads."""

_ENDED = ("finished", "failed", "cancelled")
_CLEAR = "\r\x1b[K"


class Progress:
    """Shows the counts of jobs by phase; does nothing, and counts nothing, where nobody looks."""

    def __init__(self, stream: TextIO, *, on: bool) -> None:
        self._stream = stream
        self._on = on
        self._shown_at: float | None = None

    def show(self, counted: Callable[[], dict[str, int]]) -> None:
        """Show what `counted` says, if a person could have read the last line by now."""
        now = time.monotonic()
        if not self._on or (self._shown_at is not None and now - self._shown_at < EVERY_S):
            return
        self._shown_at = now
        counts = counted()
        going = sum(number for phase, number in counts.items() if phase not in _ENDED)
        ended = ", ".join(f"{counts[state]} {state}" for state in _ENDED if state in counts)
        self._write(f"{_CLEAR}{going} going on{', ' + ended if ended else ''}")

    def clear(self) -> None:
        """Leave the line empty for what is printed next."""
        if self._shown_at is not None:
            self._write(_CLEAR)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
