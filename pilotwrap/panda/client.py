"""The PanDA client: the calls of the current API that a run needs."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from pilotwrap.model.base import Value
from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import CredentialError, ServerError, SiteEnvironmentError
from pilotwrap.panda.answers import (
    Answer,
    Envelope,
    JobStatus,
    Json,
    Trouble,
    bulk_answers,
    envelope,
    job_entries,
    job_statuses,
    update_answer,
)
from pilotwrap.panda.job import PandaJob, UnrunnableJob, parse_jobs
from pilotwrap.panda.retry import Patience
from pilotwrap.panda.transport import MaybeTaken, NotSent, Replied, Reply, Request, Transport
from pilotwrap.panda.update import JobUpdate, probe_update

READ_TIMEOUT_S = 120.0
"""The server gives a call up after 60 s by default; the first one after its start was measured at 6 s."""

LEAST_TIMEOUT_S = 1.0
"""What a try gets even when its deadline has come: a last report is worth one second."""

LEAST_SEARCH_S = 11
"""The server stops its search 10 s before the time it was given; with 10 or less it finds nothing."""

ANSWER_S = 5
"""Kept of a deadline for the way back of the jobs. A guess."""

BULK = 200
"""Updates in one call. A guess: at 17 ms each (measured) the server answers such a call within 4 s."""

Api = Literal["current", "legacy"]

_log = logging.getLogger(__name__)


class Wanted(Value):
    """What fits into this run now. The server offers no job that asks for more memory, disk or time."""

    panda_queue: str
    memory_mib: Annotated[int, Field(ge=0)]
    disk_mib: Annotated[int, Field(ge=0)]
    remaining_time_s: Annotated[int, Field(ge=0)]
    n_jobs: Annotated[int, Field(ge=1)] = 1
    timeout_s: Annotated[int, Field(gt=10)] = 60
    """Of the server's search; with 10 or less it finds nothing and says that there is nothing."""

    node: str | None = None
    prod_source_label: str | None = None
    computing_element: str | None = None
    harvester_id: str | None = None
    worker_id: int | None = None
    scheduler_id: str | None = None
    resource_type: str | None = None

    def arguments(self) -> dict[str, Json]:
        """Return the arguments of acquire_jobs, by the server's names and in its types."""
        said: dict[str, Json] = {
            "site_name": self.panda_queue,
            "memory": self.memory_mib,
            "disk_space": self.disk_mib,
            "remaining_time": self.remaining_time_s,
            "n_jobs": self.n_jobs,
            "timeout": self.timeout_s,
            "node": self.node,
            "prod_source_label": self.prod_source_label,
            "computing_element": self.computing_element,
            "harvester_id": self.harvester_id,
            "worker_id": self.worker_id,
            "scheduler_id": self.scheduler_id,
            "resource_type": self.resource_type,
        }
        return {name: value for name, value in said.items() if value is not None}


class PandaClient:
    """Calls one server as one credential; `deadline` is always on the clock of `patience`."""

    def __init__(self, transport: Transport, patience: Patience | None = None) -> None:
        self._transport = transport
        self._patience = patience or Patience()

    def acquire_jobs(self, wanted: Wanted, deadline: float) -> tuple[PandaJob | UnrunnableJob, ...]:
        """Return jobs that are ours from now on; none when there are none.

        Repeated only while the request surely reached no server: a second one could take a second job.
        Raises CredentialError and ServerError.
        """
        return tuple(fetched.job for fetched in parse_jobs(self.acquire_entries(wanted, deadline)))

    def acquire_entries(self, wanted: Wanted, deadline: float) -> tuple[Mapping[str, Json], ...]:
        """Acquire as `acquire_jobs` does, and return the jobs unread: PanDA's own pilot wants every field of one."""
        left_s = int(deadline - self._patience.clock()) - ANSWER_S
        # a server that searches longer than we wait would hand out jobs to nobody
        search_s = min(wanted.timeout_s, max(left_s, LEAST_SEARCH_S))
        request = _post("pilot/acquire_jobs", {**wanted.arguments(), "timeout": search_s})
        reply = self._send(request, deadline, again=_surely_not_taken)
        if not isinstance(reply, Replied):
            raise _unreachable(reply)
        entries = job_entries(reply)
        if isinstance(entries, Trouble):
            raise entries.error
        return entries

    def update(self, updates: Sequence[JobUpdate], deadline: float) -> tuple[Answer, ...]:
        """Send updates, several in one call, and return their answers in order; never raises for a failure.

        An update may be repeated: to a second final one the server answers `already` or `kill`.
        """
        answers: list[Answer] = []
        for start in range(0, len(updates), BULK):
            answers += self._update_some(updates[start : start + BULK], deadline)
        return tuple(answers)

    def job_status(self, panda_ids: Sequence[int], deadline: float) -> tuple[JobStatus, ...]:
        """Return what the server has for these jobs; raises CredentialError and ServerError."""
        query = tuple(("job_ids", str(panda_id)) for panda_id in panda_ids)
        reply = self._asked(Request("GET", "pilot/get_job_status", query=query), deadline)
        found = job_statuses(reply)
        if isinstance(found, Trouble):
            raise found.error
        return found

    def may_report(self, deadline: float) -> None:
        """Make sure that this credential may report, by an update of a job that does not exist.

        Raises CredentialError when it may not, ServerError when it cannot be found out.
        """
        reply = self._asked(_post("pilot/update_job", probe_update().arguments()), deadline)
        answer = update_answer(reply)
        if answer.verdict == "refused":
            raise CredentialError(
                "this credential may not report on jobs, so none is fetched",
                why=answer.detail,
                remedy="" if ";" in answer.detail else "use one with the role production",
            )
        if not answer.accepted:
            remedy = "" if ";" in answer.detail else "try again later, or tell those who run it"
            raise ServerError("the server does not take reports", why=answer.detail, remedy=remedy)

    def worker_status(
        self, worker_id: int, harvester_id: str, status: Literal["started", "finished"], node: str, deadline: float
    ) -> bool:
        """Say what became of Harvester's worker, and return whether the server took it; nothing hangs on it."""
        said: dict[str, Json] = {
            "worker_id": worker_id,
            "harvester_id": harvester_id,
            "status": status,
            "node_id": node,
        }
        try:
            found = envelope(self._asked(_post("pilot/update_worker_status", said), deadline))
        except (CredentialError, SiteEnvironmentError, ServerError) as error:
            _log.info("worker %s of %s was not told of: %s", worker_id, harvester_id, error)
            return False
        return isinstance(found, Envelope) and found.success

    def _update_some(self, updates: Sequence[JobUpdate], deadline: float) -> list[Answer]:
        if len(updates) == 1:
            return [self._update_one(updates[0], deadline)]
        request = _post("pilot/update_jobs_bulk", {"job_list": [update.arguments() for update in updates]})
        reply = self._tried(request, deadline)
        if isinstance(reply, Answer):
            return [reply] * len(updates)
        found = bulk_answers(reply, len(updates))
        if not isinstance(found, Trouble):
            return list(found)
        if found.verdict != "broken":
            return [found.answer] * len(updates)
        # one bad entry fails the whole call after storing those before it: singly, each gets its own answer
        return [self._update_one(update, deadline) for update in updates]

    def _update_one(self, update: JobUpdate, deadline: float) -> Answer:
        reply = self._tried(_post("pilot/update_job", update.arguments()), deadline)
        return reply if isinstance(reply, Answer) else update_answer(reply)

    def _tried(self, request: Request, deadline: float) -> Replied | Answer:
        try:
            reply = self._send(request, deadline, again=_worth_repeating)
        except (CredentialError, SiteEnvironmentError) as error:
            return Answer("refused", str(error))
        return reply if isinstance(reply, Replied) else Answer("unreachable", reply.detail)

    def _asked(self, request: Request, deadline: float) -> Replied:
        reply = self._send(request, deadline, again=_worth_repeating)
        if not isinstance(reply, Replied):
            raise _unreachable(reply)
        return reply

    def _send(self, request: Request, deadline: float, *, again: Callable[[Reply], bool]) -> Reply:
        reply: Reply = NotSent("there was no time to send it")
        for left_s in self._patience.tries(deadline):
            timeout_s = min(READ_TIMEOUT_S, max(left_s, LEAST_TIMEOUT_S))
            reply = self._transport.send(Request(request.method, request.path, request.query, request.body, timeout_s))
            if not again(reply):
                return reply
            _log.info("no answer to %s yet", request.path)
        return reply


def connected(server: str, credential: Credential, ca_path: str | None = None, api: Api = "current") -> PandaClient:
    """Return a client that reaches its server over HTTPS by the calls that it knows; nothing is sent yet."""
    from pilotwrap.panda.https import LEGACY, HttpsTransport
    from pilotwrap.panda.legacytransport import LegacyTransport

    if api == "legacy":
        return PandaClient(LegacyTransport(HttpsTransport(server, credential, ca_path=ca_path, dialect=LEGACY)))
    return PandaClient(HttpsTransport(server, credential, ca_path=ca_path))


def _post(path: str, arguments: Mapping[str, Json]) -> Request:
    return Request("POST", path, body=json.dumps(arguments, allow_nan=False).encode())


def _surely_not_taken(reply: Reply) -> bool:
    return isinstance(reply, NotSent) and not reply.lasting


def _worth_repeating(reply: Reply) -> bool:
    if isinstance(reply, NotSent):
        return not reply.lasting
    if isinstance(reply, MaybeTaken):
        return True
    found = envelope(reply)
    return isinstance(found, Trouble) and found.verdict == "unreachable"


def _unreachable(reply: NotSent | MaybeTaken) -> ServerError:
    if isinstance(reply, NotSent):
        return ServerError(
            "the server cannot be reached", why=reply.detail, remedy="check its URL, the network and the proxies"
        )
    return ServerError("the server did not answer", why=reply.detail, remedy="try again later")
