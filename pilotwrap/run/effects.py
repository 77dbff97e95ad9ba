"""What the state machine asks for: effects, which the driver does in the order in which they are given.

Spawn and Signal go to the starter in order. StageOut supersedes a StageIn that is still under way, Spool supersedes
a StageOut, Done everything: the driver may drop what was superseded, and what it says late is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pilotwrap.model.reasons import Reason
from pilotwrap.run.events import Files, To

EndState = Literal["finished", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Report:
    """The fields of the JobReport which the machine decides; times are of the driver's monotonic clock."""

    state: EndState
    reason: Reason
    exit_code: int | None = None
    detail: str = ""
    files: Files = field(default_factory=dict)
    started_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Write the acquisition into the spool and fsync it; answer Recorded or RecordFailed."""


@dataclass(frozen=True, slots=True)
class StageIn:
    """Bring the inputs; answer StagedIn or StageInFailed."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the payload; answer Started or SpawnFailed, later Exited."""


@dataclass(frozen=True, slots=True)
class Signal:
    """TERM now, KILL `grace_s` later, to whatever lives of the payload; a second one only shortens the grace."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class StageOut:
    """Send away the outputs, the log, or both; answer StagedOut or StageOutFailed."""

    outputs: bool
    log: bool


@dataclass(frozen=True, slots=True)
class Spool:
    """Write the terminal report into the spool and fsync it; answer Spooled or SpoolFailed."""

    report: Report


@dataclass(frozen=True, slots=True)
class Send:
    """Tell the server; answer Answered with the same `to` and `number`. `report` stands in a terminal one."""

    to: To
    number: int
    report: Report | None = None


@dataclass(frozen=True, slots=True)
class Settle:
    """Write `accepted` into the spool; there is no answer: should it fail, `flush` tells again and hears `already`."""


@dataclass(frozen=True, slots=True)
class Wake:
    """A Tick at this time, please; the last Wake replaces all earlier ones."""

    at: float


@dataclass(frozen=True, slots=True)
class Done:
    """The life is over; `told`: its teller has accepted the report (a caller has it by our answer)."""

    told: bool


Effect = Record | StageIn | Spawn | Signal | StageOut | Spool | Send | Settle | Wake | Done
