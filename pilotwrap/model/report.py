"""`pilotwrap.report/1`: the JobReport (one a job, to its teller) and the RunReport (the answer of `run`)."""

from typing import Literal

from pydantic import Field

from pilotwrap.model.base import Value
from pilotwrap.model.outcome import Usage
from pilotwrap.model.reasons import Reason

MAX_REPORT_BYTES = 64 * 1024
"""A RunReport is at most this long (the contract); the full Outcome is a file."""

JobState = Literal["finished", "failed", "cancelled"]
RunState = Literal["finished", "failed", "cancelled", "no-work", "ran"]


class FileReport(Value):
    """One output or log that travelled."""

    guid: str
    size: int
    adler32: str
    url: str | None = None


class JobReport(Value):
    """The terminal word on one attempt of one job; written to the spool before it is sent."""

    schema_: Literal["pilotwrap.jobreport/1"] = Field(default="pilotwrap.jobreport/1", alias="schema")
    name: str | None = None
    """Of the job's directory and journal in the run's own directory."""

    panda_id: int | None = None
    attempt_nr: int | None = None
    state: JobState
    reason: Reason
    detail: str = ""
    """One sentence for a person: what happened and why."""

    exit_code: int | None = None
    """The payload's own; 128 + N for signal N."""

    node: str = ""
    batch_id: str | None = None
    core_count: int | None = None
    started_at: float | None = None
    """Seconds since the epoch, when the payload started; None: it never did."""

    ended_at: float | None = None
    usage: Usage = Usage()
    files: dict[str, FileReport] = {}
    """Outputs and the log by their lfn."""

    told: bool = False
    """Accepted by its teller."""


class RankCount(Value):
    """Ranks that ended alike."""

    reason: Reason
    exit_code: int | None
    count: int
    examples: tuple[str, ...] = ()
    """At most 10, `HOST:RANK`."""


class TimelineEntry(Value):
    """Something that happened, seconds after the run's start."""

    at_s: float
    what: str


class OutcomeFile(Value):
    """Where the full Outcome lies."""

    path: str
    sha256: str


class RunReport(Value):
    """What a whole run did; at most 64 KiB as JSON."""

    schema_: Literal["pilotwrap.report/1"] = Field(default="pilotwrap.report/1", alias="schema")
    version: str
    image: str | None = None
    state: RunState
    reason: Reason
    detail: str = ""
    exit_code: int | None = None
    """The payload's."""

    jobs: tuple[JobReport, ...] = ()
    job_count: int = 0
    """All jobs of the run; `jobs` may hold fewer, failed ones first, to keep within 64 KiB."""

    ranks: tuple[RankCount, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()
    usage: Usage = Usage()
    outcome: OutcomeFile | None = None
    run_dir: str | None = None
