"""What happens to a job: the events that the driver feeds to the state machine, in JSON as the journal keeps them.

Every event carries `at`: seconds of the driver's monotonic clock, the only time that the machine knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

from pilotwrap.model.errors import BadInputError
from pilotwrap.model.reasons import Reason

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Files = Mapping[str, Mapping[str, str | int | None]]
"""What travelled: lfn → the fields of a `model.report.FileReport`."""

To = Literal["starting", "running", "heartbeat", "terminal"]
Answer = Literal["ok", "kill", "already", "refused", "broken", "unreachable"]
StopReason = Literal["cancelled", "walltime", "preempted"]


@dataclass(frozen=True, slots=True)
class Acquired:
    """The job is ours: fetched from the server, pushed, or taken from a spec."""

    at: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """The acquisition is on the disk, fsynced."""

    at: float


@dataclass(frozen=True, slots=True)
class RecordFailed:
    """The acquisition cannot be written."""

    at: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StagedIn:
    """All inputs are there."""

    at: float


@dataclass(frozen=True, slots=True)
class StageInFailed:
    """An input, or what the payload needs around it, cannot be had."""

    at: float
    reason: Reason = "stage-in"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """The starter says that the payload runs."""

    at: float


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The starter says that no payload runs, and none will."""

    at: float
    reason: Reason = "launcher"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Exited:
    """The payload and all that it left behind are gone; `reason` is the driver's judgement of its own end."""

    at: float
    reason: Reason
    exit_code: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StagedOut:
    """What StageOut asked for has travelled."""

    at: float
    files: Files = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageOutFailed:
    """Something of it has not; `files` did."""

    at: float
    detail: str = ""
    files: Files = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spooled:
    """The terminal report is on the disk, fsynced."""

    at: float


@dataclass(frozen=True, slots=True)
class SpoolFailed:
    """The terminal report cannot be written."""

    at: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of the send with this serial number, as the client understood it."""

    at: float
    to: To
    number: int
    verdict: Answer
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: the answer to a Wake, or the driver's own habit."""

    at: float


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The run must end: everything is killed `budget_s` seconds after `at`."""

    at: float
    reason: StopReason
    budget_s: float


@dataclass(frozen=True, slots=True)
class StarterLost:
    """Nothing can be spawned or signalled any more; the lifelines are ending the payload."""

    at: float


Event = (
    Acquired
    | Recorded
    | RecordFailed
    | StagedIn
    | StageInFailed
    | Started
    | SpawnFailed
    | Exited
    | StagedOut
    | StageOutFailed
    | Spooled
    | SpoolFailed
    | Answered
    | Tick
    | StopAsked
    | StarterLost
)

EVENTS: Mapping[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}
"""By the name which stands in the journal."""


_ENCODE = json.JSONEncoder(separators=(",", ":"), default=dict).encode


def to_json(event: Event) -> str:
    """Return one line of JSON; `event` holds the kind."""
    fields = {name: getattr(event, name) for name in event.__slots__}
    return _ENCODE({"event": type(event).__name__, **fields})


def from_json(line: str) -> Event:
    """Return the event of one journal line; BadInputError when it is none."""
    try:
        fields = json.loads(line)
        kind = fields.pop("event")
        return _adapter(kind).validate_python(fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInputError(
            f"not an event: {line[:80]!r}",
            why=f"{type(error).__name__}",
            remedy="the journal is damaged here; the lines before it are good",
        ) from error


@cache
def _adapter(kind: str) -> TypeAdapter[Event]:
    # Reading is for `why` and for tests; a job that runs only writes, so the validator is built where it is used.
    from pydantic import TypeAdapter

    return TypeAdapter(EVENTS[kind])
