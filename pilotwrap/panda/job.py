"""A job as the server hands it out: comma lists that run in parallel, "NULL" for what is not set.

What is meant by each field was read in panda-server at commit 9cc3603 (jobdispatcher/Protocol.py). Of its 53 fields
only those are kept that something here uses.
"""

import io
import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import ValidationError

from pilotwrap.model.base import Value
from pilotwrap.model.errors import BadInputError, PilotwrapError, ServerError
from pilotwrap.model.job import Shape
from pilotwrap.model.reasons import Reason
from pilotwrap.panda.answers import Json, plain

SHAPE_WORD = "--pilotwrap"
"""First word of jobPars when the next one is a job's shape as JSON; no other field has a place for it."""

MAX_PANDA_ID = 2**63 - 1

_logger = logging.getLogger(__name__)

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=:@%-]{0,254}")
_SCOPE = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.:+-]*)?")
"""A scope becomes a part of a path at some storages, so it is no `..` either."""
_CHECKSUM = re.compile(r"ad:(?P<adler32>[0-9a-f]{1,8})|(md5?:)?(?P<md5>[0-9a-f]{32})")
_LINES: dict[int, None] = dict.fromkeys(map(ord, "\n\r\t"))

_NOT_OURS = {
    "eventService": "an event service job",
    "isHPO": "a hyper-parameter job, which lives from event ranges",
    "preprocess": "a job of several steps",
    "postprocess": "a job of several steps",
    "coprocess": "a job of several steps",
}
"""Fields which are there only when the job is of that kind."""


class InputFile(Value):
    """A file that the payload reads; bytes."""

    lfn: str
    guid: str | None
    size: int | None
    adler32: str | None
    md5: str | None
    scope: str
    endpoint: str | None


class OutputFile(Value):
    """A file that the payload writes."""

    lfn: str
    scope: str
    endpoint: str | None


class LogFile(OutputFile):
    """The log tarball; the server chose its GUID."""

    guid: str | None


class PandaJob(Value):
    """A job that can be run."""

    panda_id: int
    attempt_nr: int
    name: str
    transformation: str
    """A URL, or the name of a program."""

    parameters: str
    """As a shell reads them, without the words that hold the shape."""

    shape: Shape | None
    """None: the job says nothing of pilotwrap; its cores are all that is known."""

    inputs: tuple[InputFile, ...]
    outputs: tuple[OutputFile, ...]
    log: LogFile | None
    core_count: int
    max_walltime_s: int | None
    min_ram_mib: int | None
    max_disk_mib: int | None
    prod_source_label: str
    resource_type: str | None
    container_name: str | None


class UnrunnableJob(Value):
    """A job that is ours and cannot be run; it still has to be told."""

    panda_id: int
    attempt_nr: int | None
    why: str
    reason: Reason = "bad-input"


class FetchedJob(NamedTuple):
    """A job that became ours, and all that the server said of it."""

    job: PandaJob | UnrunnableJob
    entry: Mapping[str, Json]


def parse_jobs(entries: Sequence[Mapping[str, Json]], *, any_kind: bool = False) -> tuple[FetchedJob, ...]:
    """Return the jobs in a reply; one that nobody could be told of is only logged if there are others.

    Raises ServerError when it is the only one.
    """
    jobs: list[FetchedJob] = []
    nameless: PilotwrapError | None = None
    for entry in entries:
        try:
            jobs.append(FetchedJob(parse_job(entry, any_kind=any_kind), entry))
        except ServerError as error:  # noqa: PERF203 - the others of the same reply are ours all the same
            _logger.warning("%s", error)
            nameless = error
    if nameless is not None and not jobs:
        raise nameless
    return tuple(jobs)


def parse_job(data: Mapping[str, Json], *, any_kind: bool = False) -> PandaJob | UnrunnableJob:
    """Return the job in one entry of acquire_jobs' reply, or why it cannot be run.

    `any_kind`: also jobs that live from event ranges or have several steps, which PanDA's own pilot can run.
    Raises ServerError when there is no usable PandaID: nobody can be told of such a job.
    """
    panda_id = _panda_id(data.get("PandaID"))
    attempt_nr: int | None = None
    try:
        attempt_nr = _number(data, "attemptNr")
        if not any_kind:
            _refuse_other_kinds(data)
        return _job(data, panda_id, attempt_nr)
    except BadInputError as error:
        return UnrunnableJob(panda_id=panda_id, attempt_nr=attempt_nr, why=str(error))


def _panda_id(value: Json) -> int:
    digits = re.fullmatch(r"[0-9]{1,19}", str(value))
    number = int(digits[0]) if digits else 0
    if not 0 < number <= MAX_PANDA_ID:
        raise ServerError(
            "the server handed out a job without a usable PandaID", why=f"it is {plain(repr(value))[:40]}"
        )
    return number


def _job(data: Mapping[str, Json], panda_id: int, attempt_nr: int | None) -> PandaJob:
    if attempt_nr is None:
        raise BadInputError("the job has no attemptNr")
    shape, parameters = shape_and_rest(_unset(_text(data, "jobPars", _LINES)))
    inputs = _inputs(data)
    outputs, log = _outputs(data)
    _refuse_twice([*_lfns(inputs), *_lfns(outputs), *_lfns([log] if log else [])])
    return PandaJob(
        panda_id=panda_id,
        attempt_nr=attempt_nr,
        name=_set_text(data, "jobName") or "",
        transformation=_transformation(data),
        parameters=parameters,
        shape=shape,
        inputs=inputs,
        outputs=outputs,
        log=log,
        core_count=_limit(data, "coreCount") or 1,
        max_walltime_s=_limit(data, "maxWalltime"),
        min_ram_mib=_limit(data, "minRamCount"),
        max_disk_mib=_limit(data, "maxDiskCount"),
        prod_source_label=_set_text(data, "prodSourceLabel") or "",
        resource_type=_set_text(data, "resource_type"),
        container_name=_set_text(data, "container_name"),
    )


def _lfns(files: Sequence[InputFile | OutputFile]) -> list[str]:
    return [file.lfn for file in files]


def _transformation(data: Mapping[str, Json]) -> str:
    transformation = _set_text(data, "transformation")
    if transformation is None:
        raise BadInputError("the job has no transformation")
    return transformation


def shape_and_rest(parameters: str) -> tuple[Shape | None, str]:
    """Return the shape that leads a job's parameters, and the parameters without it, exactly as they were.

    Raises BadInputError for a shape that cannot be read.
    """
    stripped = parameters.lstrip()
    if not re.match(rf"{SHAPE_WORD}(\s|$)", stripped):
        return None, parameters
    source = io.StringIO(stripped[len(SHAPE_WORD) :])
    lexer = shlex.shlex(source, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        word = lexer.get_token()
        return Shape.model_validate_json(word or ""), source.read().lstrip()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"{SHAPE_WORD} in jobPars: {place or 'the shape'}", why=plain(first["msg"])) from None
    except ValueError as error:
        raise BadInputError(f"{SHAPE_WORD} in jobPars cannot be read", why=plain(str(error))) from None


def _refuse_other_kinds(data: Mapping[str, Json]) -> None:
    for key, kind in _NOT_OURS.items():
        value = data.get(key)
        if value not in (None, False, "", "NULL", "False", 0):
            raise BadInputError(f"{kind} cannot be run here", why=f"it has {key}", remedy="use the agent pilot3")


def _inputs(data: Mapping[str, Json]) -> tuple[InputFile, ...]:
    lfns = _names(data, "inFiles")
    columns = [_parallel(data, key, len(lfns)) for key in ("GUID", "fsize", "checksum", "scopeIn", "ddmEndPointIn")]
    files: dict[str, InputFile] = {}
    for row in zip(lfns, *columns, strict=True):
        file = _input(row)
        if files.setdefault(file.lfn, file) != file:
            raise BadInputError(f"inFiles names {file.lfn} twice, and not as the same file")
    return tuple(files.values())


def _input(row: Sequence[str]) -> InputFile:
    lfn, guid, size, checksum, scope, endpoint = row
    adler32, md5 = _checksum(lfn, checksum)
    bytes_ = _size(lfn, size)
    return InputFile(
        lfn=lfn,
        guid=guid or None,
        size=bytes_ if checksum else bytes_ or None,  # the server has 0 for a size that nobody knows
        adler32=adler32,
        md5=md5,
        scope=_scope(scope),
        endpoint=endpoint or None,
    )


def _outputs(data: Mapping[str, Json]) -> tuple[tuple[OutputFile, ...], LogFile | None]:
    lfns = _names(data, "outFiles")
    _refuse_twice(lfns)
    endpoints = dict(zip(lfns, _parallel(data, "ddmEndPointOut", len(lfns)), strict=True))
    log = _log(data, endpoints)
    wanted = [lfn for lfn in lfns if log is None or lfn != log.lfn]  # the log is among outFiles, and not in scopeOut
    scopes = _parallel(data, "scopeOut", len(wanted))
    outputs = tuple(
        OutputFile(lfn=lfn, scope=_scope(scope), endpoint=endpoints[lfn] or None)
        for lfn, scope in zip(wanted, scopes, strict=True)
    )
    return outputs, log


def _log(data: Mapping[str, Json], endpoints: Mapping[str, str]) -> LogFile | None:
    lfn = _set_text(data, "logFile")
    if lfn is None:
        return None
    return LogFile(
        lfn=_name("logFile", lfn),
        scope=_scope(_set_text(data, "scopeLog") or ""),
        endpoint=endpoints.get(lfn) or None,
        guid=_set_text(data, "logGUID"),
    )


def _refuse_twice(lfns: Sequence[str]) -> None:
    seen: set[str] = set()
    for lfn in lfns:
        if lfn in seen:
            raise BadInputError(f"the job names the file {lfn} twice")
        seen.add(lfn)


def _names(data: Mapping[str, Json], key: str) -> list[str]:
    text = _set_text(data, key)
    return [_name(key, lfn) for lfn in text.split(",")] if text else []


def _name(key: str, lfn: str) -> str:
    if not _FILE_NAME.fullmatch(lfn):
        raise BadInputError(
            f"{key} has the file name {plain(lfn)[:80]!r}",
            why="a name is one plain part of a path: no slash, no leading dot or hyphen, at most 255 characters",
            remedy="submit the job with another name",
        )
    return lfn


def _parallel(data: Mapping[str, Json], key: str, count: int) -> list[str]:
    text = _unset(_text(data, key))
    if not text:
        return [""] * count
    items = text.split(",")
    if len(items) != count:
        raise BadInputError(f"{key} has {len(items)} items", why=f"{count} files are listed beside it")
    return [_unset(item) for item in items]


def _scope(scope: str) -> str:
    if not _SCOPE.fullmatch(scope):
        raise BadInputError(f"the scope {plain(scope)[:80]!r} has strange characters")
    return scope


def _checksum(lfn: str, text: str) -> tuple[str | None, str | None]:
    if not text:
        return None, None
    found = _CHECKSUM.fullmatch(text.lower())
    if found is None:
        raise BadInputError(f"the checksum {plain(text)[:60]!r} of {lfn} is neither adler32 nor md5")
    return found["adler32"].zfill(8) if found["adler32"] else None, found["md5"]


def _size(lfn: str, text: str) -> int | None:
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    raise BadInputError(f"the size {plain(text)[:40]!r} of {lfn} is no number of bytes")


def _unset(text: str) -> str:
    return "" if text in {"NULL", "None"} else text


def _set_text(data: Mapping[str, Json], key: str) -> str | None:
    return _unset(_text(data, key)) or None


def _text(data: Mapping[str, Json], key: str, allowed: Mapping[int, None] | None = None) -> str:
    value = data.get(key)
    if value is None:
        return ""
    if type(value) not in {str, int, float}:
        raise BadInputError(f"the job's {key} is {type(value).__name__}, text is expected")
    text = str(value)
    if not text.translate(allowed or {}).isprintable():
        raise BadInputError(f"the job's {key} holds a control character")
    return text


def _limit(data: Mapping[str, Json], key: str) -> int | None:
    return _number(data, key) or None  # 0 means that there is no limit


def _number(data: Mapping[str, Json], key: str) -> int | None:
    value = data.get(key)
    if value in (None, "", "NULL"):
        return None
    digits = re.fullmatch(r"([0-9]{1,18})(\.0)?", str(value))
    if digits is None:
        raise BadInputError(f"the job's {key} is {plain(repr(value))[:40]}", why="a number from 0 up is expected")
    return int(digits[1])
