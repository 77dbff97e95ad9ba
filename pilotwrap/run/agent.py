"""Who runs the jobs that a run has: what differs between this program itself and PanDA's own pilot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pilotwrap.model.plan import Plan
from pilotwrap.model.report import TimelineEntry
from pilotwrap.run.orders import Payload
from pilotwrap.run.preparation import payload_of, prepare
from pilotwrap.run.verdict import outcome

if TYPE_CHECKING:
    from pilotwrap.model.outcome import Outcome, RankOutcome
    from pilotwrap.run.effects import StageOut
    from pilotwrap.run.events import StagedOut, StageOutFailed
    from pilotwrap.run.job import Job
    from pilotwrap.run.link import Message
    from pilotwrap.run.surroundings import Surroundings

FAR_S = 3600.0
"""Until somebody looks again where nothing is under way."""


class Agent(Protocol):
    """Does for a job's life what only those who run it can; `prepare` and `stage_out` are called on workers."""

    def prepare(self, job: Job) -> Plan:
        """Make all that the job needs before its first process starts; raises PilotwrapError."""

    def payload(self, job: Job) -> Payload:
        """Return where the job's processes run and where their words go."""

    def begins(self, job: Job, started: Message) -> bool:
        """Tell whether the payload runs as soon as the job's first process does; `started` is the starter's word."""

    def outcome(self, job: Job, ranks: Sequence[RankOutcome], told: Sequence[RankOutcome]) -> Outcome:
        """Return what the end of all the job's processes means."""

    def stage_out(self, job: Job, effect: StageOut) -> StagedOut | StageOutFailed:
        """Bring away what is asked for."""

    def stepped(self, job: Job) -> None:
        """Take notice that the job's life has gone on."""

    def poll(self, now: float) -> float:
        """Look after what is under way; return in how many seconds to look again."""

    def timeline(self, began: float) -> tuple[TimelineEntry, ...]:
        """Return what it has to say of the run's course; `began` is on the monotonic clock."""

    def close(self) -> None:
        """Let go of what it holds."""


class DirectAgent:
    """This program itself: the job's processes are the payload."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def prepare(self, job: Job) -> Plan:
        """Stage in, fetch the transformation, plan."""
        return prepare(job, self._around)

    def payload(self, job: Job) -> Payload:
        """Return the job's own directory where it has files."""
        return payload_of(job, self._around)

    def begins(self, _job: Job, _started: Message) -> bool:
        """Return True."""
        return True

    def outcome(self, _job: Job, ranks: Sequence[RankOutcome], told: Sequence[RankOutcome]) -> Outcome:
        """Judge by the worst rank."""
        return outcome(ranks, told)

    def stage_out(self, job: Job, effect: StageOut) -> StagedOut | StageOutFailed:
        """Bring outputs and log to where the storage map says."""
        from pilotwrap.run.collection import collect

        return collect(job, self._around, outputs=effect.outputs, log=effect.log)

    def stepped(self, _job: Job) -> None:
        """Need nothing."""

    def poll(self, _now: float) -> float:
        """Need nothing."""
        return FAR_S

    def timeline(self, _began: float) -> tuple[TimelineEntry, ...]:
        """Have nothing to add: a payload's start and end stand in its report."""
        return ()

    def close(self) -> None:
        """Hold nothing."""
