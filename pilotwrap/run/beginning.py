"""Launches whose launcher may queue them in silence: which have begun, and which have waited too long."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pilotwrap.model.outcome import Outcome
from pilotwrap.run.orders import begun_mark, signals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilotwrap.run.job import Job
    from pilotwrap.run.orders import Order

BEGIN_S = 15.0
"""From a launcher's start to its rank 0's, where nothing of this run holds what it waits for (as for srun)."""

END_S = 4.0
"""TERM to KILL of a launcher that has no ranks to end (a guess)."""


class Beginnings:
    """Follows launches by the mark that rank 0 leaves; looks for it once, when a launch is due."""

    def __init__(self, plans: Path, limit_s: float = BEGIN_S) -> None:
        self.limit_s = limit_s
        self._plans = plans
        self._waiting: dict[str, tuple[Job, float]] = {}
        self._begun: set[str] = set()
        self._stuck: set[str] = set()

    @property
    def due(self) -> Iterator[float]:
        """Return when to look again for each that is not known to have begun."""
        return (at for _, at in self._waiting.values())

    def started(self, job: Job, at: float) -> None:
        """Take notice that a job's launcher runs."""
        if job.plan and job.plan.launch.waits:
            self._waiting[job.name] = job, at + self.limit_s

    def ends(self, now: float) -> list[Order]:
        """Return the orders that end those that have waited too long."""
        return [order for job in self.overdue(now) for order in signals(job.alive, END_S)]

    def overdue(self, now: float) -> list[Job]:
        """Return those that have waited too long, each once; one that may wait for another launch of ours has not."""
        found = []
        for job in [job for job, at in self._waiting.values() if at <= now]:
            del self._waiting[job.name]
            if Path(begun_mark(str(self._plans / f"{job.name}.ranks"))).exists():
                self._begun.add(job.name)
            elif self._begun:
                self._waiting[job.name] = job, now + self.limit_s
            else:
                self._stuck.add(job.name)
                found.append(job)
        return found

    def ended(self, job: Job, outcome: Outcome, at: float) -> Outcome:
        """Return what a job's end means; what it held may be what another one waits for."""
        self._waiting.pop(job.name, None)
        if job.name in self._begun:
            self._begun.discard(job.name)
            self._waiting = {name: (one, at + self.limit_s) for name, (one, _) in self._waiting.items()}
        if job.name not in self._stuck or job.plan is None:
            return outcome
        self._stuck.discard(job.name)
        launcher, nodes = Path(job.plan.launch.argv[0]).name, len(job.plan.nodes)
        detail = (
            f"{launcher} was asked for {job.plan.ranks} ranks on {nodes} nodes and has begun none in "
            f"{self.limit_s:.0f} s: it waits for what something else holds; end that, or ask for less"
        )
        return outcome.model_copy(update={"reason": "launcher", "exit_code": None, "detail": detail})
