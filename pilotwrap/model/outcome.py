"""`pilotwrap.outcome/1`: what happened to each rank of one attempt."""

from typing import Literal

from pydantic import Field

from pilotwrap.model.base import Value
from pilotwrap.model.reasons import Reason


class Usage(Value):
    """What the payload used; seconds and KiB."""

    wall_s: float = 0.0
    user_s: float = 0.0
    system_s: float = 0.0
    max_rss_kib: int = 0


class RankOutcome(Value):
    """How one rank ended; rank None: the launcher itself."""

    rank: int | None
    host: str
    exit_code: int | None
    signal: int | None
    reason: Reason
    detail: str = ""
    ended_by: str = ""
    """Who had it ended, as its rank shim saw it; empty: it ended by itself."""

    started_at: float | None = None
    """Seconds since the epoch."""

    usage: Usage = Usage()
    left: int = 0
    """Processes that had to be ended after the rank's own had ended."""


class Outcome(Value):
    """How a whole attempt ended."""

    schema_: Literal["pilotwrap.outcome/1"] = Field(default="pilotwrap.outcome/1", alias="schema")
    reason: Reason
    exit_code: int | None
    """The payload's: the highest of those ranks that ended for this reason and by themselves, 128 + N for signal N."""

    ranks: tuple[RankOutcome, ...]
    detail: str = ""
    usage: Usage = Usage()
