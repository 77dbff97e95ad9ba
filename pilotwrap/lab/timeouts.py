"""Which silent jobs are given up, and with which code. Pure.

The codes and texts are those of panda-server's daemon `copyArchive` and its `Watcher` at commit 9cc3603.
"""

from dataclasses import dataclass

HOLDING_FACTOR = 1.5
"""A job that its pilot left in `holding` is given 3 h where a running one is given 2 h."""


@dataclass(frozen=True)
class Limits:
    """Seconds of silence after which a job is given up; the defaults are the real server's."""

    sent_s: float = 1800.0
    running_s: float = 7200.0


@dataclass(frozen=True)
class Loss:
    """Why a job was given up: the job dispatcher's error code and its text."""

    code: int
    diag: str


def loss(state: str, silent_s: float, limits: Limits, *, had_diag: bool = False) -> Loss | None:
    """Return why a job in this state is given up after so much silence; None while it may still speak."""
    if state == "sent":
        minutes = max(1, round(limits.sent_s / 60))
        text = f"Sent job didn't receive reply from pilot within {minutes} min"
        return Loss(102, text) if silent_s > limits.sent_s else None
    if state in {"starting", "running"} and silent_s > limits.running_s:
        return Loss(101, "job recovery failed") if had_diag else Loss(100, "lost heartbeat")
    if state == "holding" and silent_s > limits.running_s * HOLDING_FACTOR:
        return Loss(103, "timeout in holding")
    if state == "transferring" and silent_s > limits.running_s:
        return Loss(104, "timeout in transferring")
    return None
