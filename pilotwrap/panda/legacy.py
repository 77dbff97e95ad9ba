"""The legacy calls of a PanDA pilot: read in either dialect, put into the current API's terms, answered. Pure.

Names and replies are those of panda-server 0.8.1 (jobdispatcher/JobDispatcher.py and Protocol.py); what pilots send was
read in pilot3 3.7.0.36 (forms, through curl) and 3.11.5.1 (gzipped JSON that no header announces).
"""

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import parse_qsl, urlencode

from pydantic import ValidationError

from pilotwrap.model.base import Value
from pilotwrap.model.errors import BadInputError
from pilotwrap.model.report import FileReport
from pilotwrap.panda.answers import Json, plain
from pilotwrap.panda.job import MAX_PANDA_ID
from pilotwrap.panda.update import Argument, cleaned, utc

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Of a body, unpacked. A guess with room: a job's metadata are a few MiB at most."""

MAX_ARGUMENTS = 1000
"""In one call; updateJob knows 58."""

MAX_JSON_TEXT = 4 * 1024 * 1024
"""Bytes of a JSON text inside an argument, which cannot be cut. A guess: some 20,000 files."""

STATES = frozenset({"starting", "running", "transferring", "holding", "finished", "failed"})
"""What updateJob takes; to any other state the server answers StatusCode 0 and does nothing (measured)."""

NO_JOB = 20
UNKEPT = 30
"""StatusCodes, from jobdispatcher/Protocol.py."""

_MEMORY = {
    f"{how}{what}": f"{how}_{what.lower()}"
    for hows, whats in (
        (("max", "avg"), ("RSS", "VMEM", "SWAP", "PSS")),
        (("tot", "rate"), ("RCHAR", "WCHAR", "RBYTES", "WBYTES")),
    )
    for how in hows
    for what in whats
}

UPDATE_NAMES: dict[str, str] = {
    "xml": "job_output_report",
    "metaData": "meta_data",
    "node": "node",
    "siteName": "site_name",
    "schedulerID": "scheduler_id",
    "pilotID": "pilot_id",
    "batchID": "batch_id",
    "transExitCode": "trans_exit_code",
    "pilotErrorCode": "pilot_error_code",
    "pilotErrorDiag": "pilot_error_diag",
    "exeErrorCode": "exe_error_code",
    "exeErrorDiag": "exe_error_diag",
    "cpuConsumptionTime": "cpu_consumption_time",
    "cpuConsumptionUnit": "cpu_consumption_unit",
    "cpuConversionFactor": "cpu_conversion_factor",
    "cpu_architecture_level": "cpu_architecture_level",
    "pilotTiming": "pilot_timing",
    "pilotLog": "pilot_log",
    "stdout": "stdout",
    "startTime": "start_time",
    "endTime": "end_time",
    "nEvents": "n_events",
    "nInputFiles": "n_input_files",
    "jobMetrics": "job_metrics",
    "jobSubStatus": "job_sub_status",
    "coreCount": "core_count",
    "meanCoreCount": "mean_core_count",
    "corruptedFiles": "corrupted_files",
    "grid": "grid",
    "source_site": "source_site",
    "destination_site": "destination_site",
    **_MEMORY,
}
"""updateJob's arguments and update_job's, but for the job's id, state and attempt."""

_KNOWN_ELSEWHERE = {
    *("jobId", "state", "attemptNr"),
    *("token", "timestamp", "timeout", "workdir", "remainingSpace", "messageLevel", "computingElement"),
}
"""Read by themselves, or of no use to the current API."""

_NUMBER = re.compile(r"[+-]?[0-9]{1,19}(?P<fraction>\.[0-9]*)?(?P<power>[eE][+-]?[0-9]{1,3})?")
_PANDA_ID = re.compile(r"[0-9]{1,19}")
_ADLER32 = re.compile(r"[0-9a-f]{1,8}")
_GZIP = b"\x1f\x8b"
_MAX_CONVERSION = 100_000.0
"""A guess: the column holds five digits before the point."""
_MAX_IGNORED = 20


@dataclass(frozen=True)
class LegacyCall:
    """One call, its arguments as they came; `wants_json` tells the dialect of the reply."""

    name: str
    arguments: Mapping[str, Json]
    wants_json: bool = False

    def needed(self, name: str) -> Json:
        """Return an argument; raises BadInputError, in the server's words, when it is not there."""
        if name not in self.arguments:
            raise BadInputError(f"{self.name}() missing 1 required positional argument: {name!r}")
        return self.arguments[name]


class PilotUpdate(Value):
    """What a pilot said of its job with updateJob."""

    panda_id: int
    attempt_nr: int | None
    state: str
    """As sent: see `STATES`."""

    arguments: dict[str, Argument]
    """All else that is known, by update_job's names, in its types and lengths."""

    ignored: tuple[str, ...] = ()
    """Names which mean nothing to us, or whose values nobody could use."""


def read_call(name: str, headers: Mapping[str, str], body: bytes, query: str = "") -> LegacyCall:
    """Return the call in a request; a GET has its arguments in the query. Raises BadInputError."""
    known = {key.lower(): value for key, value in headers.items()}
    wants_json = "application/json" in known.get("accept", "")
    unpacked = _unpacked(body)
    if unpacked and known.get("content-type", "").partition(";")[0].strip() == "application/json":
        arguments = _json_arguments(unpacked)
    else:
        arguments = _form_arguments(unpacked.decode(errors="replace") if unpacked else query)
    return LegacyCall(name, arguments, wants_json)


def pilot_update(call: LegacyCall) -> PilotUpdate:
    """Return what an updateJob says; raises BadInputError when it does not say of which job, or in which state."""
    digits = _PANDA_ID.fullmatch(str(call.needed("jobId")))
    state = call.needed("state")
    if digits is None or not 0 < int(digits[0]) <= MAX_PANDA_ID or not isinstance(state, str):
        raise BadInputError("updateJob() without a usable jobId and state")
    said = {UPDATE_NAMES[name]: (name, value) for name, value in call.arguments.items() if name in UPDATE_NAMES}
    read = {current: _READERS.get(current, _text)(value, current) for current, (_, value) in said.items()}
    unusable = {name for current, (name, value) in said.items() if read[current] is None and value not in ("", None)}
    unknown = call.arguments.keys() - UPDATE_NAMES.keys() - _KNOWN_ELSEWHERE
    return PilotUpdate(
        panda_id=int(digits[0]),
        attempt_nr=_int32(call.arguments.get("attemptNr")),
        state=plain(state)[:40],
        arguments={name: value for name, value in read.items() if value is not None},
        ignored=_named(unknown | unusable),
    )


def file_report_of(update: PilotUpdate) -> dict[str, FileReport]:
    """Return the files that the pilot says to have stored, by their lfn; what cannot be read is left out.

    A file whose checksum is an MD5 sum has an empty adler32.
    """
    try:
        found = json.loads(str(update.arguments.get("job_output_report", "")))
    except (ValueError, RecursionError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    reports = {cleaned(lfn, "lfn") or "": _file(entry) for lfn, entry in entries if isinstance(entry, dict)}
    return {lfn: report for lfn, report in reports.items() if lfn and report is not None}


def encoded(reply: Mapping[str, Json], *, wants_json: bool) -> tuple[Literal["application/json", "text/plain"], bytes]:
    """Return a reply's Content-Type and body, as a server 0.8.1 sends it."""
    if wants_json:
        return "application/json", json.dumps(reply).encode()
    texts = {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in reply.items()}
    return "text/plain", urlencode(texts, errors="replace").encode()


def job_reply(call: LegacyCall, entry: Mapping[str, Json] | None) -> dict[str, Json]:
    """Return getJob's reply: the job flat, or in a list where a number of jobs was asked for."""
    if entry is None:
        return {"StatusCode": NO_JOB} | ({"errorDialog": "no jobs in PanDA"} if call.wants_json else {})
    job = {"StatusCode": 0, **entry}
    return {"StatusCode": 0, "jobs": [job]} if "nJobs" in call.arguments else job


def asked_ids(call: LegacyCall) -> tuple[int | None, ...]:
    """Return the jobs that getStatus asks for, parted by blanks; None for what is no id."""
    words = str(call.needed("ids")).split()[:MAX_ARGUMENTS]
    return tuple(int(word) if _PANDA_ID.fullmatch(word) else None for word in words)


def status_reply(asked: Iterable[int | None], states: Mapping[int, str]) -> dict[str, Json]:
    """Return getStatus' reply; attempts are not known here, so each is 0."""
    known = [states.get(panda_id, "notfound") if panda_id is not None else "notfound" for panda_id in asked]
    return {"StatusCode": 0, "status": "+".join(known), "attemptNr": "+".join("0" for _ in known)}


def _unpacked(body: bytes) -> bytes:
    if len(body) > MAX_BODY_BYTES:
        raise BadInputError(f"the body is longer than {MAX_BODY_BYTES} bytes")
    if not body.startswith(_GZIP):
        return body
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise BadInputError("the body is no whole gzip", why=str(error)) from None
    if len(unpacked) > MAX_BODY_BYTES:
        raise BadInputError(f"the body unpacks to more than {MAX_BODY_BYTES} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise BadInputError("the body is no whole gzip", why="it breaks off, or something follows it")
    return unpacked


def _json_arguments(body: bytes) -> Mapping[str, Json]:
    try:
        found = json.loads(body.decode(errors="replace"))
    except (ValueError, RecursionError):
        raise BadInputError("the body is no JSON") from None
    if not isinstance(found, dict) or len(found) > MAX_ARGUMENTS:
        raise BadInputError(f"the body is no JSON object of at most {MAX_ARGUMENTS} arguments")
    return found


def _form_arguments(text: str) -> Mapping[str, Json]:
    try:
        found = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_ARGUMENTS)
    except ValueError:
        raise BadInputError(f"the form has more than {MAX_ARGUMENTS} arguments") from None
    # a form of pilot3 3.7 says what Python prints of a value that is not set
    return {name: None if value == "None" else value for name, value in found}


def _text(value: Json, name: str) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return cleaned(str(value), name)


def _json_text(value: Json, name: str) -> str | None:
    text = value if isinstance(value, str | None) else json.dumps(value)
    return cleaned(text, name) if len(text or "") <= MAX_JSON_TEXT else None


def _number(value: Json) -> float | None:
    """Return a finite number, an int where it is one."""
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value.strip())
        if found is None:
            return None
        value = float(found[0]) if found["fraction"] or found["power"] else int(found[0])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return max(-(2**63), min(value, 2**63 - 1))
    return value if math.isfinite(value) else None


def _int32(value: Json, _name: str = "") -> int | None:
    number = _number(value)
    return None if number is None else max(-(2**31), min(round(number), 2**31 - 1))


def _size(value: Json, _name: str) -> int | None:
    """Return bytes or kB; pilots say -1 for what they do not know."""
    number = _number(value)
    return None if number is None or number < 0 else min(int(number), 2**63 - 1)


def _factor(value: Json, _name: str) -> float | None:
    number = _number(value)
    return float(number) if number is not None and 0 <= number < _MAX_CONVERSION else None


def _time(value: Json, _name: str) -> str | None:
    """Return seconds since the epoch, or a time that is written as it must be, in that one form."""
    number = _number(value)
    if number is not None:
        return utc(number)
    try:
        return str(datetime.strptime(str(value), "%Y-%m-%d %H:%M:%S"))  # noqa: DTZ007 - UTC, which is never written
    except ValueError:
        return None


Reader = Callable[[Json, str], Argument | None]
_READERS: dict[str, Reader] = {
    **dict.fromkeys(("job_output_report", "meta_data"), _json_text),
    **dict.fromkeys(("start_time", "end_time"), _time),
    **dict.fromkeys(("trans_exit_code", "pilot_error_code", "exe_error_code", "cpu_consumption_time"), _int32),
    **dict.fromkeys(("n_events", "n_input_files", "core_count", "mean_core_count"), _int32),
    "cpu_conversion_factor": _factor,
    **dict.fromkeys(_MEMORY.values(), _size),
}


def _named(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(plain(name)[:40] for name in sorted(names)[:_MAX_IGNORED])


def _file(entry: Mapping[str, Json]) -> FileReport | None:
    size = _size(entry.get("fsize"), "fsize")
    checksum = _ADLER32.fullmatch(str(entry.get("adler32", "")).lower().removeprefix("ad:"))
    surl = entry.get("surl")
    try:
        return (
            None
            if size is None
            else FileReport(
                guid=cleaned(str(entry.get("guid") or ""), "guid") or "",
                size=size,
                adler32=checksum[0] if checksum else "",
                url=cleaned(surl, "surl") if isinstance(surl, str) else None,
            )
        )
    except ValidationError:
        return None
