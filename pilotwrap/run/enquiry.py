"""Asks a PanDA server, its queue data and a credential whether jobs could be taken; nothing is fetched or changed."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from pilotwrap.model.base import Value
from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import CredentialError, PilotwrapError, ServerError
from pilotwrap.model.node import Network
from pilotwrap.model.readiness import Check
from pilotwrap.panda.certificate import proxy_validity
from pilotwrap.panda.client import Api, PandaClient, connected
from pilotwrap.panda.credentials import credential_at, expiry, origin_of, read_token
from pilotwrap.panda.https import checked_server
from pilotwrap.panda.page import Page, page
from pilotwrap.panda.queuedata import (
    QueueData,
    fetch_queuedata,
    leaves_outputs_behind,
    needs_credential,
    note,
    queuedata_url,
    read_queuedata,
    refusal,
)
from pilotwrap.panda.url import shown
from pilotwrap.run.readiness import Agent, failed, passed, unchecked

ANSWER_S = 8.0
"""How long all questions may take together; a server's first call after its start was measured at 4 to 6 s."""

_ANY_ORIGIN = "vo.role"
"""Stands in while the credential is read: its origin is judged by itself."""


class Enquiry(Value):
    """What a run would be told of its server; None where nothing was given."""

    agent: Agent = "direct"
    server: str | None = None
    panda_queue: str | None = None
    credential: str | None = None
    origin: str | None = None
    ca_path: str | None = None
    queuedata: str | None = None
    """A path or URL; None: the server's own."""


class Answers(NamedTuple):
    """What was found out."""

    checks: tuple[Check, ...]
    queue: QueueData | None
    api: Api | None
    """Which calls the server has; None: it was not asked, or did not say."""


def ask(enquiry: Enquiry, network: Network, time_left_s: float | None = None) -> Answers:
    """Judge the credential here, and ask the server and its queue data side by side; never raises for a failure."""
    found, checks = credential_checks(enquiry, time.time(), time_left_s)
    deadline = time.monotonic() + ANSWER_S
    with ThreadPoolExecutor(max_workers=2) as asking:
        server = asking.submit(_server_and_role, enquiry, found, network, deadline)
        queue = asking.submit(_queue, enquiry, deadline)
        data, queue_checks = queue.result()
        api, server_checks = server.result()
        return Answers((*checks, *server_checks, *queue_checks), data, api)


def credential_checks(
    enquiry: Enquiry, now: float, time_left_s: float | None = None
) -> tuple[Credential | None, tuple[Check, ...]]:
    """Judge the credential's file, its time and its origin, as they are at `now` (seconds since the epoch).

    Return the credential too, unless something is wrong with it.
    """
    if enquiry.credential is None:
        why = "no --credential was given"
        return None, (unchecked("credential", why), unchecked("origin", why))
    try:
        found = credential_at(enquiry.credential, _ANY_ORIGIN)
        first = passed("credential", _lasting(found, now, time_left_s))
    except CredentialError as error:
        return None, (failed("credential", error), unchecked("origin", "there is no credential that it could go with"))
    if found.kind == "x509":
        return found, (first, passed("origin", "an X.509 proxy needs none"))
    credential = found.model_copy(update={"origin": enquiry.origin})
    try:
        return credential, (first, passed("origin", origin_of(credential)))
    except CredentialError as error:
        return None, (first, failed("origin", error))


def _lasting(credential: Credential, now: float, time_left_s: float | None) -> str:
    """Return in words how long a credential lasts; raises CredentialError when it is of no use any more."""
    if credential.kind == "token":
        what, ends = "token", expiry(read_token(credential, now))
    else:
        what, span = "X.509 proxy", proxy_validity(credential)
        ends = span.ends
        if span.ends <= now:
            raise CredentialError(
                f"the proxy in {credential.path} expired at {_utc(span.ends)}",
                remedy="make a new one with voms-proxy-init",
            )
        if span.begins > now:
            raise CredentialError(
                f"the proxy in {credential.path} is valid only from {_utc(span.begins)}",
                remedy="look at this node's clock: `date -u`",
            )
    if ends is None:
        return f"{what} without an end that can be read"
    early = time_left_s is not None and ends < now + time_left_s
    return f"{what} until {_utc(ends)}" + ("; renew it before the allocation ends" if early else "")


def _server_and_role(
    enquiry: Enquiry, credential: Credential | None, network: Network, deadline: float
) -> tuple[Api | None, tuple[Check, Check]]:
    if enquiry.server is None:
        why = "no --server was given"
        return None, (unchecked("server", why), unchecked("role", why))
    try:
        api = _api_of(enquiry.server, deadline, enquiry.ca_path)
        if api == "legacy" and enquiry.agent == "direct":
            raise ServerError(
                f"{shown(enquiry.server)} has only the legacy calls",
                why="this program's own agent speaks the current API",
                remedy="use --agent pilot3",
            )
    except PilotwrapError as error:
        return None, (failed("server", error), unchecked("role", "the server cannot be asked"))
    proxy = network.https_proxy if enquiry.server.startswith("https:") else network.http_proxy
    way = f"; the environment names the proxy {proxy}" if proxy else ""
    server = passed("server", f"{shown(enquiry.server)} answers, with the {api} calls{way}")
    if credential is None:
        return api, (server, unchecked("role", "there is no credential to ask with"))
    return api, (server, _role(connected(enquiry.server, credential, enquiry.ca_path, api), deadline))


def _api_of(server: str, deadline: float, ca_path: str | None) -> Api:
    """Return which calls a server has, the current ones if both; asked as nobody, so that no credential can be wrong.

    Raises ServerError when it is no PanDA server, or does not answer, and BadInputError for no URL.
    """
    base = checked_server(server)
    current = page(f"{base}/api/v1/system/is_alive", deadline, ca_path)
    if current.status == HTTPStatus.OK and b'"success"' in current.body:
        return "current"
    legacy = page(f"{base}/server/panda/isAlive", deadline, ca_path)
    if legacy.status == HTTPStatus.OK and b"alive=yes" in legacy.body:
        return "legacy"
    raise ServerError(
        f"{base} is no PanDA server", why=_words(current), remedy="check --server, e.g. https://HOST:25443"
    )


def _words(found: Page) -> str:
    text = " ".join(found.body.decode("utf-8", "replace").split())
    return f"is_alive is answered with HTTP {found.status}, {text[:80]!r}"


def _role(client: PandaClient, deadline: float) -> Check:
    """Ask by an update of a job that does not exist; nothing changes at the server."""
    try:
        client.may_report(deadline)
    except PilotwrapError as error:
        return failed("role", error)
    return passed("role", "may report on jobs")


def _queue(enquiry: Enquiry, deadline: float) -> tuple[QueueData | None, tuple[Check, ...]]:
    if enquiry.panda_queue is None:
        return None, (unchecked("queue", "no --panda-queue was given"),)
    if enquiry.queuedata is None and enquiry.server is None:
        return None, (unchecked("queue", "neither --server nor --queuedata was given"),)
    try:
        queue = queuedata_of(enquiry, deadline)
    except PilotwrapError as error:
        if error.reason == "server" and enquiry.agent == "direct" and enquiry.queuedata is None:
            return None, (unchecked("queue", str(error)),)
        return None, (failed("queue", error),)
    error_or_none = refusal(queue)
    if error_or_none:
        return queue, (failed("queue", error_or_none),)
    known = ", ".join(filter(None, [queue.state, queue.status, note(queue)]))
    checks = [passed("queue", f"{queue.name}: {known}")]
    if enquiry.agent == "pilot3":
        checks.append(copytools_check(queue))
    return queue, tuple(checks)


def queuedata_of(enquiry: Enquiry, deadline: float) -> QueueData:
    """Return the queue's data from the given file or URL, else from the server; raises as those two do."""
    name, given = enquiry.panda_queue or "", enquiry.queuedata
    if given and "://" not in given:
        return read_queuedata(Path(given), name)
    return fetch_queuedata(given or queuedata_url(enquiry.server or "", name), name, deadline, enquiry.ca_path)


def copytools_check(queue: QueueData) -> Check:
    """Tell how a pilot's files travel, and what has to be there for it."""
    said = f"reads by {', '.join(queue.reads)}, writes by {', '.join(queue.writes)}"
    if needs_credential(queue):
        return unchecked(
            "copytools", f"{said}; nobody can tell from here that the storage takes this credential", "try one job"
        )
    if leaves_outputs_behind(queue):
        return unchecked(
            "copytools",
            f"{said}; mv leaves outputs in a directory that the pilot deletes",
            "put mv_final_destination into the queue's catchall, or give --storage to run",
        )
    return passed("copytools", said)


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
