"""What travels, and on which terms: the values and the one trouble of staging."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from pilotwrap.model.base import Value
from pilotwrap.model.errors import PilotwrapError
from pilotwrap.model.report import FileReport

_T = TypeVar("_T")

_PAUSE_S = 1.0
"""Before the second try; doubled before each further one. A guess."""

STAGE_S = 6 * 3600.0
"""The longest a job's files may take one way (a guess: longer than any queue's data on a slow day)."""

_POLL_S = 0.2
"""How often a pause looks whether it was asked to stop; a guess: fast beside any kill grace."""


class Transfer(Value):
    """An input: from `url` to its `lfn` in the job's directory; what is known of it must agree."""

    lfn: str
    url: str
    size: int | None = None
    adler32: str | None = None
    md5: str | None = None
    sha256: str | None = None


class Outgoing(Value):
    """An output or the log: from its `lfn` in the job's directory to `url`."""

    lfn: str
    url: str
    guid: str
    durable: bool = True
    """A copy to a file system is fsynced before it is called done; not worth its time for a log."""


@dataclass(frozen=True)
class StagedOut:
    """What travelled, by lfn; `error` is why the rest did not."""

    files: dict[str, FileReport] = field(default_factory=dict)
    error: PilotwrapError | None = None


class TransferTrouble(Exception):  # noqa: N818 - inside staging only; what leaves it is a StageInError or StageOutError
    """Why one try failed and what helps; `again`: another try may succeed; `status`: of the HTTP answer."""

    def __init__(self, why: str, remedy: str = "", *, again: bool = False, status: int | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
        self.again = again
        self.status = status


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Terms:
    """How long a transfer may go on (`deadline` in seconds of `clock`), and who may end it earlier."""

    deadline: float = math.inf
    stopped: Callable[[], bool] = _never
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    attempts: int = 3

    def left_s(self) -> float:
        """Return the seconds left; none left or a stop asked for is a TransferTrouble."""
        left = self.deadline - self.clock()
        if self.stopped():
            raise TransferTrouble("it was stopped on request")
        if left <= 0:
            raise TransferTrouble("the time for it is over", "allow more time, or use a faster storage")
        return left

    def pause(self, seconds: float) -> None:
        """Wait that long, or until stopped."""
        until = self.clock() + seconds
        while (rest := until - self.clock()) > 0:
            self.sleep(min(rest, _POLL_S, self.left_s()))

    def tried(self, action: Callable[[], _T]) -> _T:
        """Return what the action gives, tried anew after a trouble that may pass."""
        for attempt in range(1, self.attempts):
            try:
                return action()
            except TransferTrouble as trouble:  # noqa: PERF203 - each try of its own
                if not trouble.again:
                    raise
                self.pause(_PAUSE_S * 2 ** (attempt - 1))
        return action()

    def acquire(self, lock: threading.Lock) -> None:
        """Take a lock whose holder may be waiting for a slow server."""
        while not lock.acquire(timeout=_POLL_S):
            self.left_s()
