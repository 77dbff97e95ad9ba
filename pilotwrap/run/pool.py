"""The nodes that some jobs share: what of them is free, who waits for a share, and who holds one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotwrap.plan.ledger import Ledger, give_back
from pilotwrap.plan.limits import too_late
from pilotwrap.plan.order import Held, Reservation, Waiting, turn, unreserved
from pilotwrap.plan.shortage import shortage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilotwrap.model.allocation import UnfitNode
    from pilotwrap.model.reasons import Reason
    from pilotwrap.run.job import Job

BEGINNING_S = 10.0
"""From the lending of a share to the payload's start: stage-in, the launcher (a guess; nothing is promised on it)."""


class Pool:
    """A ledger, with the jobs that wait for it or hold something of it, in the order of their coming."""

    def __init__(self, ledger: Ledger, stop_at: float | None = None, unfit: Sequence[UnfitNode] = ()) -> None:
        self.ledger = ledger
        self.waiting: list[Job] = []
        self._stop_at = stop_at
        self._unfit = unfit
        self._held: dict[str, tuple[Job, float]] = {}
        """Each holder, and when it got its share."""

        self._reservation: Reservation | None = None
        self._given: tuple[Ledger, int] | None = None

    @property
    def spare(self) -> Ledger:
        """Return what is free and reserved for nobody."""
        return unreserved(self.ledger, self._holders(), self._reservation)

    def wait(self, job: Job) -> None:
        """Put a job behind those that wait."""
        self.waiting.append(job)
        self._given = None

    def sift(self, now: float, still: Callable[[Job], bool]) -> list[tuple[Job, Reason, str]]:
        """Take out those that need nothing any more; return those that can have no share (any more), and why."""
        self.waiting = [job for job in self.waiting if still(job)]
        if self._given is not None and self._stop_at is None:
            return []
        refused = [(job, *why) for job in self.waiting if (why := self._refusal(job, now))]
        gone = {job.name for job, _, _ in refused}
        self.waiting = [job for job in self.waiting if job.name not in gone]
        return refused

    def lend(self, now: float) -> list[Job]:
        """Lend what is free to those whose turn it is; return them."""
        state = self.ledger, len(self.waiting)
        if not self.waiting:
            self._reservation = None
            return []
        if self._given is not None and self._given[0] is state[0] and self._given[1] == state[1]:
            return []
        waiting = [Waiting(job.name, job.spec, _takes_s(job)) for job in self.waiting]
        this = turn(self.ledger, waiting, self._holders(), now, self._reservation)
        self.ledger, self._reservation, shares = this.ledger, this.reservation, dict(this.lent)
        lucky = [job for job in self.waiting if job.name in shares]
        for job in lucky:
            job.allotment, job.holding = shares[job.name], True
            self._held[job.name] = job, now
        self.waiting = [job for job in self.waiting if job.name not in shares]
        self._given = self.ledger, len(self.waiting)
        return lucky

    def give_back(self, job: Job) -> None:
        """Have a job's share free again."""
        if job.holding and job.allotment and self._held.pop(job.name, None):
            self.ledger = give_back(self.ledger, job.allotment)
            job.holding = False

    def _holders(self) -> list[Held]:
        return [
            Held(job.name, job.allotment, _free_at(job, since)) for job, since in self._held.values() if job.allotment
        ]

    def _refusal(self, job: Job, now: float) -> tuple[Reason, str] | None:
        fetched = job.fetched
        if fetched is not None:
            from pilotwrap.panda.job import UnrunnableJob

            if isinstance(fetched, UnrunnableJob):
                return fetched.reason, fetched.why
        # a server knows the time left and gives what fits it; only a limit that the job itself names is held against it
        named = job.spec if fetched is None else fetched.shape
        late = too_late(named.walltime_s if named else None, None if self._stop_at is None else self._stop_at - now)
        if late or self._given is not None:
            return ("walltime", late) if late else None
        short = shortage(self.ledger, job.spec, self._unfit)
        return (short.reason, str(short)) if short else None


def _takes_s(job: Job) -> float | None:
    walltime_s = job.spec.walltime_s
    return None if walltime_s is None else BEGINNING_S + walltime_s + job.state.rules.grace_s


def _free_at(job: Job, since: float) -> float | None:
    if job.spec.walltime_s is None:
        return None
    began = since + BEGINNING_S if job.state.started_at is None else job.state.started_at
    return began + job.spec.walltime_s + job.state.rules.grace_s
