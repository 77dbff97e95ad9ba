"""What the server's replies mean. Pure: status and bytes in, a typed answer or a typed trouble out.

The reply's Content-Type is `text/plain` whatever it holds, so it is not looked at. The shapes were recorded on a
panda-server of August 2026 (commit 9cc3603) and its predecessor 0.8.1; texts are compared only where nothing else
tells two refusals apart.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, TypeAlias, Union

from pilotwrap.model.errors import CredentialError, PilotwrapError, ServerError
from pilotwrap.panda.transport import MAX_REPLY_BYTES, Replied

Json: TypeAlias = Union[bool, int, float, str, Sequence["Json"], Mapping[str, "Json"], None]  # noqa: UP007 - names itself
Failure = Literal["refused", "broken", "unreachable"]
Verdict = Literal["ok", "kill", "already"] | Failure

NO_JOBS = "No jobs in PanDA"
"""Also the answer for an unknown queue and for a job that another one just took."""

MAX_DETAIL = 200

_WORTH_A_NEW_TRY = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}

_STATUS_CODES: dict[int, tuple[Failure, str]] = {
    10: ("unreachable", "the server ran out of time"),
    20: ("broken", "no jobs"),
    30: ("broken", "the server could not write it to its database"),
    50: ("broken", "the server takes it as invalid"),
    60: ("refused", "the role is not enough"),
    70: ("refused", "not permitted"),
    80: ("refused", "a key is missing"),
    90: ("refused", "the proxy is not accepted"),
}
"""`data.StatusCode`, from panda-server's jobdispatcher/Protocol.py."""

_REFUSALS = {
    "Signature has expired": ("the token has expired", "fetch a new one"),
    "Not a member of": ("the token is not of the group its origin names", "check --origin, or have it added there"),
    "Unknown vo": ("the server does not know the origin's VO", "check --origin VO.ROLE"),
    "has no attribute 'replace'": ("the token came without an origin", "give --origin VO.ROLE"),
    "SSL secure connection is required": ("the server saw no credential", "give --credential, and an https server"),
    "production or pilot role required": (
        "the credential may not report on jobs",
        "use one with the role production (the role pilot is not enough, whatever the server says)",
    ),
    "no production/pilot role": (
        "the credential may not fetch these jobs",
        "use one with the role production, or fetch your own jobs with prod_source_label user",
    ),
}


@dataclass(frozen=True)
class Answer:
    """What became of one update."""

    verdict: Verdict
    detail: str = ""

    @property
    def accepted(self) -> bool:
        """Tell whether a final report need not be sent again; after a first one the server says already or kill."""
        return self.verdict in {"ok", "already", "kill"}


@dataclass(frozen=True)
class Trouble:
    """A reply that is no answer; `error` is what to raise for it."""

    verdict: Failure
    error: PilotwrapError

    @property
    def answer(self) -> Answer:
        """Return it as the answer to an update."""
        return Answer(self.verdict, str(self.error))


@dataclass(frozen=True)
class Envelope:
    """The form that every reply of the API has."""

    success: bool
    message: str
    data: Json


@dataclass(frozen=True)
class JobStatus:
    """What the server has for a job; `not found` for an unknown one."""

    panda_id: int
    status: str
    attempt_nr: int


def envelope(reply: Replied) -> Envelope | Trouble:
    """Return the envelope in a reply, or why there is none."""
    if reply.status != HTTPStatus.OK:
        return _not_ok(reply)
    if len(reply.body) > MAX_REPLY_BYTES:
        return _nonsense(f"more than {MAX_REPLY_BYTES} bytes")
    try:
        parsed = json.loads(reply.body.decode())
    except (ValueError, RecursionError):
        return _nonsense(_looks_like(reply.body))
    return _enveloped(parsed)


def job_entries(reply: Replied) -> tuple[Mapping[str, Json], ...] | Trouble:
    """Return the jobs that a reply to acquire_jobs brings, unread; none when there are none."""
    found = envelope(reply)
    if isinstance(found, Envelope) and (found.success, found.message) == (False, NO_JOBS):
        return ()
    data = _data(found)
    return data if isinstance(data, Trouble) else _objects(data.get("jobs"), "jobs")


def update_answer(reply: Replied) -> Answer:
    """Return what a reply to update_job says; never an error."""
    return _answer(envelope(reply))


def bulk_answers(reply: Replied, count: int) -> tuple[Answer, ...] | Trouble:
    """Return the answers to `count` updates sent at once, in their order.

    When the call failed as a whole, entries before the one at fault are stored all the same.
    """
    found = _granted(envelope(reply))
    if isinstance(found, Trouble):
        return found
    entries = found.data if isinstance(found.data, list) else []
    if len(entries) != count:
        what = f"the server gave {len(entries)} answers to {count} updates"
        return Trouble("broken", ServerError(what, remedy="send them singly"))
    return tuple(_answer(_enveloped(entry)) for entry in entries)


def job_statuses(reply: Replied) -> tuple[JobStatus, ...] | Trouble:
    """Return what a reply to get_job_status says."""
    found = _granted(envelope(reply))
    entries = found if isinstance(found, Trouble) else _objects(found.data, "job states")
    if isinstance(entries, Trouble):
        return entries
    statuses = [_job_status(entry) for entry in entries]
    whole = tuple(status for status in statuses if status is not None)
    return whole if len(whole) == len(statuses) else _nonsense("a job state without its id")


def plain(text: str) -> str:
    """Return one printable line of at most 200 characters; of a traceback only what it is about."""
    head, found, rest = text.partition("Traceback (most recent call last)")
    if found and not head.strip():
        head = next((line for line in reversed(rest.splitlines()) if line.strip()), "")
    printable = "".join(letter if letter.isprintable() else " " for letter in head)
    return " ".join(printable.split())[:MAX_DETAIL]


def _enveloped(parsed: Json) -> Envelope | Trouble:
    if not isinstance(parsed, Mapping):
        return _nonsense("JSON, but no object")
    success, message = parsed.get("success"), parsed.get("message", "")
    if not isinstance(success, bool) or not isinstance(message, str | None):
        return _nonsense("a JSON object without success and message")
    return Envelope(success, message or "", parsed.get("data"))


def _granted(found: Envelope | Trouble) -> Envelope | Trouble:
    return found if isinstance(found, Trouble) or found.success else _refusal(found.message)


def _data(found: Envelope | Trouble) -> Mapping[str, Json] | Trouble:
    """Return a success's object once its StatusCode says that it is one."""
    granted = _granted(found)
    if isinstance(granted, Trouble):
        return granted
    data = granted.data if isinstance(granted.data, Mapping) else {}
    code = data.get("StatusCode")
    if type(code) is not int:
        return _nonsense("a success without StatusCode")
    return _code_trouble(code, plain(granted.message)) if code else data


def _objects(found: Json, what: str) -> tuple[Mapping[str, Json], ...] | Trouble:
    if not isinstance(found, list):
        return _nonsense(f"a success without a list of {what}")
    objects = tuple(entry for entry in found if isinstance(entry, Mapping))
    return objects if len(objects) == len(found) else _nonsense(f"a list of {what} with something else in it")


def _answer(found: Envelope | Trouble) -> Answer:
    data = _data(found)
    if isinstance(data, Trouble):
        return data.answer
    command = data.get("command")
    commands = str(command).split(",")
    if "tobekilled" in commands:
        return Answer("kill", "the server wants the job ended, or has ended it already")
    if "alreadydone" in commands:
        return Answer("already", "the server had a final report before")
    return Answer("ok", "" if command in (None, "NULL") else plain(str(command)))


def _code_trouble(code: int, why: str) -> Trouble:
    verdict, meaning = _STATUS_CODES.get(code, ("broken", f"the server answers StatusCode {code}"))
    if verdict == "refused":
        return Trouble(verdict, CredentialError(meaning, why=why, remedy="use a credential with the role production"))
    return Trouble(verdict, ServerError(meaning, why=why))


def _job_status(entry: Mapping[str, Json]) -> JobStatus | None:
    panda_id, status, attempt = entry.get("job_id"), entry.get("status"), entry.get("attempt_number")
    if type(panda_id) is not int or not isinstance(status, str):
        return None
    return JobStatus(panda_id, status, attempt if isinstance(attempt, int) else 0)


def _not_ok(reply: Replied) -> Trouble:
    text = plain(reply.body[: 64 * 1024].decode(errors="replace"))
    if HTTPStatus.MULTIPLE_CHOICES <= reply.status < HTTPStatus.BAD_REQUEST:
        target = plain(reply.location) or "somewhere it does not say"
        return Trouble(
            "unreachable",
            ServerError(f"the server redirects to {target}", why="a login page?", remedy="check the server's URL"),
        )
    if text.startswith("<"):
        return _nonsense(f"a web page, with status {reply.status}")
    if reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return _forbidden(reply.body[: 64 * 1024].decode(errors="replace"), text)
    verdict: Failure = "unreachable" if reply.status in _WORTH_A_NEW_TRY else "broken"
    return Trouble(verdict, ServerError(f"the server answers with status {reply.status}", why=text))


def _forbidden(whole: str, text: str) -> Trouble:
    if "method" in text and "is forbidden" in text:
        return Trouble(
            "broken",
            ServerError("the server does not have this call", why=text, remedy="it needs the API v1 of panda-server"),
        )
    for mark, (what, remedy) in _REFUSALS.items():
        if mark in whole:
            return Trouble("refused", CredentialError(what, why=text, remedy=remedy))
    return Trouble("refused", CredentialError("the server refuses the credential", why=text, remedy="fetch a new one"))


def _refusal(message: str) -> Trouble:
    for mark, (what, remedy) in _REFUSALS.items():
        if mark in message:
            return Trouble("refused", CredentialError(what, why=plain(message), remedy=remedy))
    why = plain(message) or "without saying why"
    return Trouble("broken", ServerError("the server refused the call", why=why))


def _looks_like(body: bytes) -> str:
    head = body[:512].lstrip()
    if not head:
        return "an empty reply"
    if head.startswith(b"<"):
        return "a web page"
    if head.startswith((b"{'", b"{b'")):
        return "Python text in place of JSON: something on the way drops our Accept header"
    return f"no JSON: {plain(body[:512].decode(errors='replace'))[:80]!r}"


def _nonsense(found: str) -> Trouble:
    remedy = "check the server's URL and the proxies on the way"
    return Trouble("unreachable", ServerError("the server's answer makes no sense", why=found, remedy=remedy))
