"""What is said of a job, as the arguments of update_job: in its exact types, clipped and cleaned. Pure.

A wrong type is refused; an over-long text, an exit code beyond 32 bit or a NUL character loses the whole update
(measured on panda-server at commit 9cc3603).
"""

import json
import math
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, ValidationError

from pilotwrap import __version__
from pilotwrap.model.base import Value
from pilotwrap.model.outcome import Usage
from pilotwrap.model.reasons import Reason
from pilotwrap.model.report import FileReport, JobReport
from pilotwrap.panda.answers import Json

PandaState = Literal["starting", "running", "transferring", "holding", "finished", "failed"]
Int32 = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Int64 = Annotated[int, Field(ge=0, lt=2**63)]
Factor = Annotated[float, Field(allow_inf_nan=False)]
Argument: TypeAlias = int | float | str

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
    "pilot_log": 4000,
    "stdout": 2048,  # what panda-server 0.8.1 keeps of it; its successor keeps all
    "cpu_architecture_level": 20,
    "grid": 50,
    "source_site": 36,
    "destination_site": 36,
}
"""Bytes that a column holds: the postgres schema counts characters, Oracle's bytes."""

_LINED = frozenset({"pilot_log", "stdout", "meta_data"})
"""Texts of several lines."""

_OURS = frozenset(
    {"job_id", "job_status", "attempt_nr", "batch_id", "node", "job_sub_status", "job_output_report"},
)
"""Never taken from a pilot: which attempt it is and how it ended is known here, and its batch id may not change."""

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


_NOTHING: Mapping[str, Json] = MappingProxyType({})


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
    cpu_conversion_factor: Factor | None = None
    cpu_architecture_level: str | None = None
    mean_core_count: Int32 | None = None
    n_events: Int32 | None = None
    n_input_files: Int32 | None = None
    exe_error_code: Int32 | None = None
    exe_error_diag: str | None = None
    pilot_timing: str | None = None
    pilot_log: str | None = None
    stdout: str | None = None
    meta_data: str | None = None
    job_metrics: str | None = None
    scheduler_id: str | None = None
    site_name: str | None = None
    corrupted_files: str | None = None
    grid: str | None = None
    source_site: str | None = None
    destination_site: str | None = None
    max_rss: Int64 | None = None
    max_vmem: Int64 | None = None
    max_swap: Int64 | None = None
    max_pss: Int64 | None = None
    avg_rss: Int64 | None = None
    avg_vmem: Int64 | None = None
    avg_swap: Int64 | None = None
    avg_pss: Int64 | None = None
    tot_rchar: Int64 | None = None
    tot_wchar: Int64 | None = None
    tot_rbytes: Int64 | None = None
    tot_wbytes: Int64 | None = None
    rate_rchar: Int64 | None = None
    rate_wchar: Int64 | None = None
    rate_rbytes: Int64 | None = None
    rate_wbytes: Int64 | None = None

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


def beat_update(beat: Beat, said: Mapping[str, Json] = _NOTHING) -> JobUpdate:
    """Return the update that says where a job is; the batch id must be the same through an attempt.

    `said` holds what a pilot said of it, by update_job's names: it knows better what it measured.
    """
    ours = JobUpdate(
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
    return ours.model_copy(update=_usable(said))


def terminal_update(report: JobReport, said: Mapping[str, Json] = _NOTHING) -> JobUpdate:
    """Return the final update of a job; raises ValueError for a report without panda_id.

    The server has no state `cancelled` for us to send: it makes it of `failed` when it has asked for the end itself.
    `said` holds what a pilot said of it, by update_job's names: what it measured, and its own error code if it has one.
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
    theirs = _usable(said)
    both = ended.model_copy(update=theirs)
    if report.state == "finished":
        return both.model_copy(update={"pilot_error_code": 0, "pilot_error_diag": None})
    return _failed(both, report, theirs)


def _failed(ended: JobUpdate, report: JobReport, theirs: Mapping[str, Argument]) -> JobUpdate:
    diag = cleaned(report.detail or report.reason, "pilot_error_diag")
    code = ERROR_CODES[report.reason] or ERROR_CODES["internal"]
    if theirs.get("pilot_error_code"):
        code, diag = int(theirs["pilot_error_code"]), str(theirs.get("pilot_error_diag") or diag)
    failed = {"job_status": "failed", "pilot_error_code": code, "pilot_error_diag": diag}
    return ended.model_copy(update={**failed, "job_sub_status": report.reason})


def _usable(said: Mapping[str, Json]) -> dict[str, Argument]:
    """Return what a pilot said that we don't know better; what does not fit would lose the whole update."""
    wanted = {name: value for name, value in said.items() if name in JobUpdate.model_fields.keys() - _OURS}
    try:
        found = _said_update(wanted)
    except ValidationError as error:
        unfit = {problem["loc"][0] for problem in error.errors(include_url=False, include_input=False)}
        found = _said_update({name: value for name, value in wanted.items() if name not in unfit})
    values = {name: value for name in wanted if (value := getattr(found, name)) is not None}
    texts = {name: cleaned(value, name) for name, value in values.items() if isinstance(value, str)}
    return {**values, **{name: text for name, text in texts.items() if text is not None}}


def _said_update(said: Mapping[str, Json]) -> JobUpdate:
    return JobUpdate.model_validate({**said, "job_id": NO_SUCH_JOB, "job_status": "running"}, strict=True)


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
    spared = "\n\t" if field in _LINED else ""
    kept = "".join(
        " " if letter not in spared and unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} else letter
        for letter in text
    )
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
