"""What is said of a job, as the arguments of update_job: in its exact types, clipped and cleaned. Pure.

A wrong type is refused; an over-long text, an exit code beyond 32 bit or a NUL character loses the whole update
(measured on panda-server at commit 9cc3603).
"""

import json
import math
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Annotated, Literal

from pydantic import Field

from pilotwrap import __version__
from pilotwrap.model.base import Value
from pilotwrap.model.outcome import Usage
from pilotwrap.model.reasons import Reason
from pilotwrap.model.report import FileReport, JobReport
from pilotwrap.panda.answers import Json

PandaState = Literal["starting", "running", "transferring", "holding", "finished", "failed"]
Int32 = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Int64 = Annotated[int, Field(ge=0, lt=2**63)]

NO_SUCH_JOB = -1
"""PandaIDs come from a sequence that starts at 1."""

LIMITS: dict[str, int] = {
    "node": 128,
    "pilot_error_diag": 500,
    "exe_error_diag": 500,
    "job_metrics": 500,
    "pilot_id": 200,
    "batch_id": 80,
    "job_sub_status": 80,
    "cpu_consumption_unit": 128,  # this one and the next two are not cut by the server: the whole update is lost
    "pilot_timing": 100,
    "scheduler_id": 128,
    "start_time": 19,
    "end_time": 19,
}
"""Bytes that a column holds: the postgres schema counts characters, Oracle's bytes."""

ERROR_CODES: dict[Reason, int] = {
    "ok": 0,
    "payload-exit": 1305,  # PAYLOADEXECUTIONFAILURE
    "payload-signal": 1305,
    "out-of-memory": 1212,  # PAYLOADOUTOFMEMORY
    "stage-in": 1099,  # STAGEINFAILED
    "stage-out": 1137,  # STAGEOUTFAILED
    "walltime": 1213,  # REACHEDMAXTIME
    "bad-input": 1110,  # SETUPFAILURE
    "usage": 1110,
    "node-unusable": 1344,  # RESOURCEUNAVAILABLE
    "node-lost": 1200,  # KILLSIGNAL, "terminated by unknown kill signal"
    "allocation": 1344,
    "launcher": 1110,
    "binding": 1344,
    "image": 1360,  # IMAGENOTFOUND
    "environment": 1110,
    "credential": 1364,  # MISSINGCREDENTIALS
    "endpoint": 1318,  # COMMUNICATIONFAILURE
    "pilot": 1319,  # INTERNALPILOTPROBLEM
    "panda-queue": 1359,  # PANDAQUEUENOTACTIVE
    "server": 1318,
    "no-work": 1385,  # NOJOBSINPANDA
    "preempted": 1379,  # PREEMPTION
    "cancelled": 1144,  # PANDAKILL
    "internal": 1319,  # INTERNALPILOTPROBLEM
}
"""pilotErrorCode for each reason, as PanDA's monitor knows them: pilot3 3.11.5, pilot/common/errorcodes.py."""

_LAST_SECOND = 253402300799
"""9999-12-31 23:59:59 UTC, where datetime ends."""


class JobUpdate(Value):
    """One call of update_job; only what is set is sent."""

    job_id: int
    job_status: PandaState
    attempt_nr: Int32 | None = None
    job_output_report: str | None = None
    node: str | None = None
    trans_exit_code: Int32 | None = None
    pilot_error_code: Int32 | None = None
    pilot_error_diag: str | None = None
    job_sub_status: str | None = None
    pilot_id: str | None = None
    batch_id: str | None = None
    core_count: Int32 | None = None
    start_time: str | None = None
    end_time: str | None = None
    cpu_consumption_time: Int32 | None = None
    cpu_consumption_unit: str | None = None
    max_rss: Int64 | None = None

    def arguments(self) -> dict[str, Json]:
        """Return the arguments by the server's names; null is refused by many of them, so it is left out."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}


class Beat(Value):
    """What a job that has not ended says of itself."""

    panda_id: int
    attempt_nr: int | None
    state: Literal["starting", "running", "transferring"]
    node: str = ""
    batch_id: str | None = None
    core_count: int | None = None
    started_at: float | None = None
    """Seconds since the epoch."""

    usage: Usage = Usage()


def beat_update(beat: Beat) -> JobUpdate:
    """Return the update that says where a job is; the batch id must be the same through an attempt."""
    return JobUpdate(
        job_id=beat.panda_id,
        job_status=beat.state,
        attempt_nr=_int32(beat.attempt_nr),
        node=cleaned(beat.node, "node"),
        batch_id=cleaned(beat.batch_id, "batch_id"),
        pilot_id=_pilot_id(beat.batch_id),
        core_count=_int32(beat.core_count),
        start_time=utc(beat.started_at),
        cpu_consumption_time=_cpu_time(beat.usage),
        cpu_consumption_unit="s",
        max_rss=_int64(beat.usage.max_rss_kib),
    )


def terminal_update(report: JobReport) -> JobUpdate:
    """Return the final update of a job; raises ValueError for a report without panda_id.

    The server has no state `cancelled` for us to send: it makes it of `failed` when it has asked for the end itself.
    """
    if report.panda_id is None:
        raise ValueError("a report without panda_id is not for PanDA")
    ended = JobUpdate(
        job_id=report.panda_id,
        job_status="finished",
        attempt_nr=_int32(report.attempt_nr),
        job_output_report=file_report(report.files),
        node=cleaned(report.node, "node"),
        trans_exit_code=_int32(report.exit_code),
        pilot_error_code=0,
        pilot_id=_pilot_id(report.batch_id),
        batch_id=cleaned(report.batch_id, "batch_id"),
        core_count=_int32(report.core_count),
        start_time=utc(report.started_at),
        end_time=utc(report.ended_at),
        cpu_consumption_time=_cpu_time(report.usage),
        cpu_consumption_unit="s",
        max_rss=_int64(report.usage.max_rss_kib),
    )
    return ended if report.state == "finished" else _failed(ended, report)


def _failed(ended: JobUpdate, report: JobReport) -> JobUpdate:
    return ended.model_copy(
        update={
            "job_status": "failed",
            "pilot_error_code": ERROR_CODES[report.reason] or ERROR_CODES["internal"],
            "pilot_error_diag": cleaned(report.detail or report.reason, "pilot_error_diag"),
            "job_sub_status": report.reason,
        }
    )


def probe_update() -> JobUpdate:
    """Return an update that changes nothing: its answer tells whether the credential may report."""
    return JobUpdate(job_id=NO_SUCH_JOB, job_status="running")


def file_report(files: Mapping[str, FileReport]) -> str:
    """Return the JSON text that lists the outputs and the log; the server wants text, not an object."""
    entries = {
        cleaned(lfn, "lfn") or "": {
            "guid": cleaned(file.guid, "guid") or "",
            "fsize": file.size,
            "adler32": cleaned(file.adler32, "adler32") or "",
        }
        | ({"surl": cleaned(file.url, "surl")} if file.url else {})
        for lfn, file in files.items()
    }
    return json.dumps(entries)


def cleaned(text: str | None, field: str) -> str | None:
    """Return a text without control characters, cut to its column; None for nothing."""
    if not text:
        return None
    kept = "".join(" " if unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} else letter for letter in text)
    limit = LIMITS.get(field)
    return kept if limit is None else kept.encode()[:limit].decode(errors="ignore")


def utc(at: float | None) -> str | None:
    """Return seconds since the epoch in the one form that the server does not drop silently."""
    if at is None or not math.isfinite(at) or not 0 <= at <= _LAST_SECOND:
        return None
    return datetime.fromtimestamp(int(at), timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def _pilot_id(batch_id: str | None) -> str | None:
    # the monitor splits it at the bars; the pilot's own has the batch id in the same place
    return cleaned(f"pilotwrap|{(batch_id or 'none')[:80]}|{__version__}", "pilot_id")


def _cpu_time(usage: Usage) -> int | None:
    used = usage.user_s + usage.system_s
    return _int32(int(used)) if math.isfinite(used) and used >= 0 else None


def _int32(number: int | None) -> int | None:
    return None if number is None else max(-(2**31), min(number, 2**31 - 1))


def _int64(number: int) -> int:
    return max(0, min(number, 2**63 - 1))
