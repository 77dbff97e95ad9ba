"""When a run ends: because a signal came, or because its allocation's own end is near."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilotwrap.run.driver import Driver
    from pilotwrap.run.events import StopReason

STOP_BUDGET_S = 5.0
"""From TERM to everything told and gone: inside the shortest grace of any batch system (Flux's 5 s)."""

LOST_S = 20.0
"""How long jobs are still told of when the starter is gone and nobody waits; `flush` tells the rest (a guess)."""

IDLE_S = 1.0
"""How long the driver sleeps at most; everything that matters wakes it."""


class Stopper:
    """Ends the run: when a signal came, or when the allocation's own end is near."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.reason: StopReason | None = None
        self._until: float | None = None
        self._lost = False
        driver.preemption.found = self._taken_back

    @property
    def spent(self) -> bool:
        """Tell whether the time to end in is over: no answer of the server is waited for any more."""
        return self._until is not None and time.monotonic() >= self._until

    def asked(self, _signal: int) -> None:
        """Take a signal: near the allocation's end it is the batch system's, else somebody's."""
        stop_at = self._driver.around.stop_at
        near_end = stop_at is not None and time.monotonic() >= stop_at - STOP_BUDGET_S
        self._stop("walltime" if near_end else "cancelled", STOP_BUDGET_S)
        if self.reason == "cancelled":
            self._driver.preemption.ask()

    def due_in(self, now: float) -> float:
        """End the run if its time has come, or its starter is gone; return the seconds until then."""
        if self._driver.starter_lost and not self._lost:
            self._lost = True
            self._driver.stop("preempted", LOST_S)
        stop_at = self._driver.around.stop_at
        if stop_at is None or self.reason:
            return IDLE_S
        if now >= stop_at:
            rules = self._driver.around.rules
            self._stop("walltime", rules.grace_s + rules.tell_s + rules.log_s)
            self._driver.stopped = self._driver.stopped or 0
        return max(0.0, stop_at - now)

    def _taken_back(self) -> None:
        """Name the true reason of a stop that is under way, which ends as soon as it would have; or stop."""
        self._driver.stopped = self._driver.stopped or 0
        if self.reason == "cancelled":
            self.reason = "preempted"
        left = STOP_BUDGET_S if self._until is None else max(0.0, self._until - time.monotonic())
        self._stop("preempted", left)

    def _stop(self, reason: StopReason, budget_s: float) -> None:
        self.reason = self.reason or reason
        until = time.monotonic() + budget_s
        self._until = until if self._until is None else min(until, self._until)
        self._driver.stop(self.reason, budget_s)
