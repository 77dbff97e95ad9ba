"""A queue's data, as PanDA's pilots need it: read from a file or a server's cache, and judged as they judge it."""

import ast
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import Field

from pilotwrap.model.base import Value
from pilotwrap.model.errors import BadInputError, PandaQueueError, ServerError
from pilotwrap.panda.page import page
from pilotwrap.panda.transport import MAX_REPLY_BYTES
from pilotwrap.panda.url import shown

ACTIVE = "ACTIVE"
"""The one state in which a pilot starts; it is compared to the letter (pilot3, pilot.py)."""

OFFLINE = "offline"
"""The one status that a pilot refuses, in any case of its letters; pilot3 3.7 does not look at it, 3.11 does."""

CACHE_PORT = 25085
_SERVER_PORTS = frozenset({None, 443, 25080, 25443})
"""A panda-server shows its queues over http on a port of its own (its stock httpd configuration)."""

LOCAL_COPYTOOLS = frozenset({"mv", "lsm"})
"""Those that move files on this node or by the site's own mover, with no credential of ours (pilot3, copytool/)."""

_READS = (("pr",), ("read_lan_analysis", "read_lan"), ("read_lan",))
_WRITES = (("pw", "w"), ("write_lan_analysis", "write_lan", "w"), ("write_lan", "w"))
"""Under which keys pilot3 3.7, and 3.11 with and without analysis, look a copytool up (control/data.py)."""

_DEFAULT_COPYTOOL = "rucio"
"""What a pilot takes where the queue names none (pilot3, api/data.py)."""

_NOTES = {
    "test": "the server offers only test jobs",
    "brokeroff": "no new jobs are brokered to it, those that it has come",
}
"""What a status means to who asks for jobs; none of these stops a pilot."""

Raw = Mapping[str, Any]
"""Outside text, parsed and not yet understood."""

_Natural = Annotated[int, Field(gt=0)]


class QueueData(Value):
    """What counts of a queue's configuration; None where it sets no limit."""

    name: str
    state: str = ""
    """`ACTIVE`, or a pilot does not start."""

    status: str = ""
    """online, offline, test, brokeroff, …"""

    reads: tuple[str, ...] = ()
    """Copytools for inputs, first choice first, of any pilot version."""

    writes: tuple[str, ...] = ()
    catchall: str = ""
    container_type: str = ""
    container_options: str = ""
    maxwdir_mib: _Natural | None = None
    """How large a job's directory may become; its pilot asks for jobs up to that."""

    maxrss_mib: _Natural | None = None
    maxtime_s: _Natural | None = None
    """How long a pilot may live here."""

    timefloor_s: _Natural | None = None
    """Until when a pilot may take a further job."""

    text: str = Field(default="{}", repr=False)
    """The queue's own JSON object as it came, for a pilot to read."""

    def queuedata(self) -> str:
        """Return what a pilot expects behind its `--queuedata-url`: the queue's object alone."""
        return self.text

    def schedconf(self) -> str:
        """Return what a pilot expects of LOCAL_AGIS_SCHEDCONF: the object under its queue's name."""
        return f"{{{json.dumps(self.name)}: {self.text}}}"


class _NonsenseError(ValueError):
    """A text that is no queue data; says why."""


def read_queuedata(path: Path, queue: str) -> QueueData:
    """Read a queue's data from a file.

    Raises BadInputError for a file that is none, PandaQueueError when the queue is not in it.
    """
    remedy = "give the queue's JSON, as https://SERVER:25085/cache/schedconfig/QUEUE.all.json has it"
    try:
        with path.open("rb") as file:
            body = file.read(MAX_REPLY_BYTES + 1)
        return _parsed(body, queue, str(path))
    except OSError as error:
        raise BadInputError(
            f"{path} cannot be read", why=error.strerror or str(error), remedy="check --queuedata"
        ) from error
    except _NonsenseError as error:
        raise BadInputError(f"{path} is no queue data", why=str(error), remedy=remedy) from error


def fetch_queuedata(url: str, queue: str, deadline: float, ca_path: str | None = None) -> QueueData:
    """Fetch a queue's data, `{pandaqueue}` in the URL standing for its name; `deadline` is on the monotonic clock.

    Raises PandaQueueError for an unknown queue, ServerError when nothing sensible comes, BadInputError for no URL.
    """
    url = url.replace("{pandaqueue}", quote(queue, safe=""))
    found = page(url, deadline, ca_path)
    if found.status == HTTPStatus.NOT_FOUND:
        raise _unknown(queue, f"{shown(url)} answers HTTP 404")
    if found.status != HTTPStatus.OK:
        raise ServerError(f"{shown(url)} answers HTTP {found.status}", remedy="give --queuedata PATH|URL")
    try:
        return _parsed(found.body, queue, shown(url))
    except _NonsenseError as error:
        raise ServerError(
            f"{shown(url)} sends no queue data", why=str(error), remedy="give --queuedata PATH|URL"
        ) from error


def queuedata_url(server: str, queue: str) -> str:
    """Return where a PanDA server shows a queue's data: on its cache port, or its own where that is not a stock one."""
    parts = urlsplit(server)
    path = f"/cache/schedconfig/{quote(queue, safe='')}.all.json"
    if parts.port not in _SERVER_PORTS:
        return f"{parts.scheme}://{parts.netloc}{path}"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"http://{host}:{CACHE_PORT}{path}"


def refusal(queue: QueueData) -> PandaQueueError | None:
    """Return why a pilot would take no job of this queue; None: it would."""
    if queue.state != ACTIVE:
        return PandaQueueError(
            f"the queue {queue.name} is not active",
            why=f"its state is {queue.state!r}, and pilots start only in {ACTIVE}",
            remedy="ask who operates the queue to activate it, or give another --panda-queue",
        )
    if queue.status.lower() == OFFLINE:
        return PandaQueueError(
            f"the queue {queue.name} is offline",
            why="pilots take no job of it",
            remedy="ask who operates the queue to set it online, or give another --panda-queue",
        )
    return None


def note(queue: QueueData) -> str:
    """Return what a queue's status means for the jobs that come; empty where nothing is special."""
    return _NOTES.get(queue.status.lower(), "")


def needs_credential(queue: QueueData) -> bool:
    """Tell whether files of this queue travel by a copytool that needs a credential of its own."""
    return not LOCAL_COPYTOOLS.issuperset(queue.reads + queue.writes)


def leaves_outputs_behind(queue: QueueData) -> bool:
    """Tell whether outputs are only moved out of the job's directory, into one that the pilot deletes at its end.

    The copytool `mv` does so unless the queue's catchall names `mv_final_destination` (pilot3, copytool/mv.py).
    """
    return "mv" in queue.writes and "mv_final_destination" not in queue.catchall


def _parsed(body: bytes, queue: str, source: str) -> QueueData:
    raw = _of_queue(_object(body), queue, source)
    copytools = _copytools(raw)
    return QueueData(
        name=queue,
        **{key: _text(raw.get(key)) for key in ("state", "status", "catchall", "container_type", "container_options")},
        reads=_chosen(copytools, _READS),
        writes=_chosen(copytools, _WRITES),
        maxwdir_mib=_number(raw.get("maxwdir")),
        maxrss_mib=_number(raw.get("maxrss")),
        maxtime_s=_number(raw.get("maxtime")),
        timefloor_s=_number(raw.get("timefloor"), 60),
        text=json.dumps(raw),
    )


def _object(body: bytes) -> Raw:
    if len(body) > MAX_REPLY_BYTES:
        raise _NonsenseError(f"it is longer than {MAX_REPLY_BYTES} bytes")
    if body.lstrip()[:1] == b"<":
        raise _NonsenseError("it is a web page, not JSON")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _NonsenseError(f"it is not JSON: {error}"[:200]) from error
    if not isinstance(found, dict):
        raise _NonsenseError("it is not a JSON object")
    return found


def _of_queue(found: Raw, queue: str, source: str) -> Raw:
    """Return one queue's object, of a text that holds it alone or several by name."""
    if isinstance(found.get(queue), dict):
        return dict(found[queue])
    if "error" in found:
        raise _unknown(queue, f"{source} says {str(found['error'])[:100]!r}")
    if found and all(isinstance(value, dict) for value in found.values()):
        raise _unknown(queue, f"{source} has {', '.join(sorted(found)[:5])}")
    if not found:
        raise _unknown(queue, f"{source} is empty")
    if not {"state", "status", "nickname"}.intersection(found):
        raise _NonsenseError("it has neither state, status nor nickname of a queue")
    said = _text(found.get("nickname"))
    if said not in {"", queue}:
        raise _unknown(queue, f"{source} is of {said}")
    return found


def _unknown(queue: str, why: str) -> PandaQueueError:
    return PandaQueueError(
        f"the queue {queue} is unknown", why=why, remedy="check --panda-queue, or give its data as --queuedata"
    )


def _copytools(raw: Raw) -> Mapping[str, tuple[str, ...]]:
    """Return copytools by activity, as a pilot completes what the queue says (pilot3, api/data.py)."""
    named = {_text(key): _names(value) for key, value in _mapping(raw.get("acopytools")).items()}
    if not named:
        named = {"default": tuple(_text(name) for name in _mapping(raw.get("copytools")))}
    return {**named, "default": named.get("default") or (_DEFAULT_COPYTOOL,)}


def _chosen(copytools: Mapping[str, tuple[str, ...]], orders: Iterable[Sequence[str]]) -> tuple[str, ...]:
    found = [next(copytools[key] for key in (*order, "default") if copytools.get(key)) for order in orders]
    return tuple(dict.fromkeys(name for names in found for name in names))


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(_text(name) for name in value) if isinstance(value, list | tuple) else ()


def _mapping(value: object) -> Raw:
    """Return an object, also one that stands in a text as Python would print it; empty for anything else."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.strip() or "{}")
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    """Return text that any reader of JSON takes: half a surrogate pair becomes a mark."""
    return "" if value is None else str(value).strip().encode("utf-8", "replace").decode()


def _number(value: object, factor: int = 1) -> int | None:
    """Return a positive whole number of a number or its text; None, which is no limit, for anything else."""
    if not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) * factor if math.isfinite(number) and number >= 1 else None
