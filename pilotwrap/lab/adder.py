"""The Adder's verdict: a reported job's final state by its file report. Pure.

Its checks and texts are those of panda-server's `dataservice/adder_gen.py` at commit 9cc3603, measured.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pilotwrap.lab.envelope import Json

DDM_ERROR = 200
"""The data management error code of every complaint about the file report."""

UNREADABLE = "Could not get GUID/LFN/MD5/FSIZE/SURL from pilot JSON"

_VARIABLE_SUFFIX = re.compile(r"\._\d+$")


@dataclass(frozen=True)
class Reported:
    """A job whose pilot has said its last word."""

    state: str
    report: str
    log: str
    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    sub_status: str = ""
    command: str = ""


@dataclass(frozen=True)
class Verdict:
    """The final state, the complaint about the files if there is one, and the files that were reported."""

    state: str
    ddm_error_diag: str = ""
    files: Mapping[str, Json] = field(default_factory=dict)

    @property
    def ddm_error_code(self) -> int:
        """Return 200 with a complaint, 0 without."""
        return DDM_ERROR if self.ddm_error_diag else 0


def verdict(job: Reported) -> Verdict:
    """Give a job its final state: `finished` needs every output and the log, with GUID, size and checksum."""
    files = _files(job.report)
    if job.state == "finished":
        complaint = UNREADABLE if files is None else _complaint(job, files)
        return Verdict("failed" if complaint else "finished", complaint, files or {})
    complaint = UNREADABLE if files is None else _missing((job.log,), files)
    return Verdict(_state_of_failed(job), complaint, files or {})


def _state_of_failed(job: Reported) -> str:
    if job.sub_status == "pilot_closed":
        return "closed"
    return "cancelled" if "tobekilled" in job.command else "failed"


def _files(report: str) -> dict[str, Json] | None:
    try:
        parsed = json.loads(report)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict) or not all(_is_described(entry) for entry in parsed.values()):
        return None
    return parsed


def _is_described(entry: Json) -> bool:
    return isinstance(entry, dict) and {"guid", "fsize"} <= entry.keys() and bool({"adler32", "md5sum"} & entry.keys())


def _complaint(job: Reported, files: Mapping[str, Json]) -> str:
    fixed = tuple(lfn for lfn in (*job.outputs, job.log) if not lfn.startswith("regex|") and lfn not in job.optional)
    return _missing(fixed, files) or _foreign(job, files)


def _missing(wanted: tuple[str, ...], files: Mapping[str, Json]) -> str:
    stems = {_VARIABLE_SUFFIX.sub("", lfn) for lfn in files}
    absent = [lfn for lfn in wanted if lfn and lfn not in files and lfn not in stems]
    return f"expected output {absent[0]} is missing in pilot JSON" if absent else ""


def _foreign(job: Reported, files: Mapping[str, Json]) -> str:
    known = {*job.outputs, *job.inputs, job.log}
    patterns = [lfn.removeprefix("regex|") for lfn in job.outputs if lfn.startswith("regex|")]
    for lfn in files:
        ours = lfn in known or _VARIABLE_SUFFIX.sub("", lfn) in known
        if not ours and not any(_matches(pattern, lfn) for pattern in patterns):
            return f"pilot produced {lfn} inconsistently with jobdef"
    return ""


def _matches(pattern: str, lfn: str) -> bool:
    try:
        return re.search(pattern, lfn) is not None
    except re.error:
        return False
