"""A transport to servers that have only the legacy calls: each current call becomes one or more of those.

Replies come back in the current API's envelopes, so that nothing else has to know. Names and replies are those of
panda-server 0.8.1. What is no answer to a legacy call is handed on as it came.
"""

import json
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, urlencode

from pilotwrap.panda.answers import NO_JOBS, Json
from pilotwrap.panda.legacy import NO_JOB, UPDATE_NAMES
from pilotwrap.panda.transport import MAX_REPLY_BYTES, Replied, Reply, Request, Transport

_ROLE = 60
"""StatusCode for a role that is not enough."""

_NO_REPORT = "production or pilot role required"
_NO_FETCH = "no production/pilot role"
"""The words of the current API, by which `answers` tells the two apart."""

_LEAST_S = 1.0
"""What each of several updates gets even when the time of all is over."""

_UPDATE = {
    **{current: legacy for legacy, current in UPDATE_NAMES.items()},
    "job_id": "jobId",
    "job_status": "state",
    "attempt_nr": "attemptNr",
    "timeout": "timeout",
}
_ACQUIRE = {
    "site_name": "siteName",
    "memory": "mem",
    "disk_space": "diskSpace",
    "remaining_time": "remaining_time",
    "n_jobs": "nJobs",
    "timeout": "timeout",
    "node": "node",
    "prod_source_label": "prodSourceLabel",
    "computing_element": "computingElement",
    "harvester_id": "harvester_id",
    "worker_id": "worker_id",
    "scheduler_id": "schedulerID",
    "resource_type": "resourceType",
}
_WORKER = {"worker_id": "workerID", "harvester_id": "harvesterID", "status": "status", "node_id": "node_id"}

Arguments = Mapping[str, Json]


class LegacyTransport:
    """Speaks to a server through `inner`, which must send forms to where the legacy calls are."""

    def __init__(self, inner: Transport, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._clock = clock
        self._calls: dict[str, Callable[[Request], Reply]] = {
            "pilot/acquire_jobs": self._acquire,
            "pilot/update_job": self._update,
            "pilot/update_jobs_bulk": self._update_each,
            "pilot/get_job_status": self._states,
            "pilot/update_worker_status": self._worker,
        }

    def __repr__(self) -> str:
        return f"LegacyTransport({self._inner!r})"

    def send(self, request: Request) -> Reply:
        """Exchange one request of the current API; raises CredentialError as the inner transport does."""
        call = self._calls.get(request.path)
        if call is None:
            return Replied(HTTPStatus.FORBIDDEN, f"ERROR : method {request.path} is forbidden".encode())
        return call(request)

    def _acquire(self, request: Request) -> Reply:
        reply = self._post("getJob", _renamed(_arguments(request), _ACQUIRE), request.timeout_s)
        found = _fields(reply)
        if found is None:
            return reply
        if found["StatusCode"] == NO_JOB:
            return _enveloped(success=False, message=NO_JOBS)
        if found["StatusCode"]:
            return _refused(found, _NO_FETCH)
        # one job comes flat from servers that do not read nJobs
        jobs = found.get("jobs", [found])
        return _enveloped(success=True, data={"StatusCode": 0, "jobs": jobs})

    def _update(self, request: Request) -> Reply:
        return self._told(_arguments(request), request.timeout_s)

    def _update_each(self, request: Request) -> Reply:
        """Send one after the other; the first that has no proper answer ends it, as it ends a bulk call."""
        entries = _arguments(request).get("job_list")
        deadline = self._clock() + request.timeout_s
        answers: list[bytes] = []
        for entry in _objects(entries):
            reply = self._told(entry, max(deadline - self._clock(), _LEAST_S))
            if not isinstance(reply, Replied) or not _is_envelope(reply):
                return reply
            answers.append(reply.body)
        return _enveloped(success=True, data=[json.loads(answer) for answer in answers])

    def _told(self, arguments: Arguments, timeout_s: float) -> Reply:
        reply = self._post("updateJob", _renamed(arguments, _UPDATE), timeout_s)
        found = _fields(reply)
        if found is None:
            return reply
        if found["StatusCode"]:
            return _refused(found, _NO_REPORT)
        return _enveloped(success=True, data=found)

    def _states(self, request: Request) -> Reply:
        ids = [value for name, value in request.query if name == "job_ids"]
        reply = self._post("getStatus", {"ids": " ".join(ids)}, request.timeout_s)
        found = _fields(reply)
        if found is None:
            return reply
        if found["StatusCode"]:
            return _failed(found)
        states, attempts = (str(found.get(name, "")).split("+") for name in ("status", "attemptNr"))
        if not len(ids) == len(states) == len(attempts):
            return _enveloped(success=False, message=f"{len(states)} states came for {len(ids)} jobs")
        return _enveloped(success=True, data=[_state(*each) for each in zip(ids, states, attempts, strict=True)])

    def _worker(self, request: Request) -> Reply:
        # the server wants to be told a site and makes no use of it
        said = {**_renamed(_arguments(request), _WORKER), "site": "unknown"}
        reply = self._post("updateWorkerPilotStatus", said, request.timeout_s)
        found = _fields(reply)
        if found is None:
            return reply
        return _failed(found) if found["StatusCode"] else _enveloped(success=True, data=None)

    def _post(self, name: str, arguments: Mapping[str, str], timeout_s: float) -> Reply:
        return self._inner.send(Request("POST", name, body=urlencode(arguments).encode(), timeout_s=timeout_s))


def _arguments(request: Request) -> Arguments:
    found = json.loads(request.body)
    return found if isinstance(found, dict) else {}


def _objects(entries: Json) -> tuple[Arguments, ...]:
    listed = entries if isinstance(entries, list) else []
    return tuple(entry for entry in listed if isinstance(entry, Mapping))


def _renamed(arguments: Arguments, names: Mapping[str, str]) -> dict[str, str]:
    """Return the arguments that a legacy call has; it refuses any other."""
    return {names[name]: str(value) for name, value in arguments.items() if name in names and value is not None}


def _fields(reply: Reply) -> dict[str, Json] | None:
    """Return what a legacy call answered, with its StatusCode as a number; None when that is no such answer."""
    if not isinstance(reply, Replied) or reply.status != HTTPStatus.OK or len(reply.body) > MAX_REPLY_BYTES:
        return None
    found = _json_fields(reply.body) if reply.body.startswith(b"{") else _form_fields(reply.body)
    code = str(found.get("StatusCode", ""))
    return {**found, "StatusCode": int(code)} if code.isascii() and code.isdigit() else None


def _json_fields(body: bytes) -> dict[str, Json]:
    try:
        found = json.loads(body.decode())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _form_fields(body: bytes) -> dict[str, Json]:
    if not body.startswith(b"StatusCode="):
        return {}
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def _refused(found: Arguments, role: str) -> Replied:
    code, why = found["StatusCode"], str(found.get("errorDialog") or found.get("ErrorDiag") or "")
    if code == _ROLE:
        return _enveloped(success=False, message=role)
    return _enveloped(success=True, message=why, data={"StatusCode": code})


def _failed(found: Arguments) -> Replied:
    """Return a refusal of a call whose current form has no StatusCode."""
    code = found["StatusCode"]
    return _enveloped(success=False, message=_NO_REPORT if code == _ROLE else f"StatusCode {code}")


def _state(panda_id: str, status: str, attempt: str) -> dict[str, Json]:
    known = "not found" if status == "notfound" else status
    return {"job_id": int(panda_id), "status": known, "attempt_number": int(attempt) if attempt.isdecimal() else 0}


def _is_envelope(reply: Replied) -> bool:
    return reply.status == HTTPStatus.OK and reply.body.startswith(b'{"success": ')


def _enveloped(*, success: bool, message: str = "", data: Json = None) -> Replied:
    body = {"success": success, "message": message, "data": data}
    return Replied(HTTPStatus.OK, json.dumps(body).encode())
