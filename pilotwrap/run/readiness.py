"""Whether a run can take jobs here: pure judgements over facts that others have gathered, one check each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from pilotwrap.detect.survey import allocation_facts
from pilotwrap.model import errors
from pilotwrap.model.errors import PilotwrapError
from pilotwrap.model.node import Allocation, Memory, Network, NodeFacts
from pilotwrap.model.readiness import Check, Readiness
from pilotwrap.panda.queuedata import QueueData
from pilotwrap.plan.limits import limits
from pilotwrap.plan.pilotflags import FoundPython, PilotVersion, python_for, shown

if TYPE_CHECKING:
    from pilotwrap.site.machines.machine import Machine

Agent: TypeAlias = Literal["direct", "pilot3"]

PILOT_FREE_MIB = 2048
"""A pilot takes no job where no more than this is free (pilot3 3.7 and 3.11, default.cfg: free_space_limit)."""

UNPRIVILEGED = "nobody"
"""Whom a pilot runs as where we are root and no other user is named."""

PILOT_LEAST_MIB = 64
"""A pilot alone was measured at 48 MiB (3.11.5.1, a trivial job); the rest is a guess."""

PILOT_LEAST_S = 30.0
"""From its start to its final report a pilot was measured at 7 s with a trivial job; the rest is a guess."""

TELL_S = 2.0
"""What the planner keeps for the last report, as the controller has it."""


_CURL_SINCE_OPTIONAL: PilotVersion = (3, 11)
"""3.7 makes each call to the server with curl, 3.11 tries urllib first (util/https.py)."""


class Place(NamedTuple):
    """Where the run's directory is or will be; mebibytes and inodes free for an ordinary user."""

    path: str
    free_mib: int
    free_inodes: int
    writable: bool


class Who(NamedTuple):
    """Whom we are, and whom payloads would run as where we are root."""

    uid: int
    payload_user: str | None = None
    payload_uid: int | None = None
    """None: there is no such user."""


def passed(name: str, detail: str, remedy: str = "") -> Check:
    """Return a check that found nothing wrong."""
    return Check(name=name, ok=True, detail=detail, remedy=remedy)


def unchecked(name: str, why: str, remedy: str = "") -> Check:
    """Return a check that was not made, or that nobody can decide."""
    return Check(name=name, ok=None, detail=why, remedy=remedy)


def failed(name: str, error: PilotwrapError) -> Check:
    """Return a check that a run would end with, by the error that it would end with."""
    detail = " ".join((error.what + (f": {error.why}" if error.why else "")).split())
    remedy = error.remedy
    if not remedy and "; " in detail:  # what a server answered is one line, its advice at the end
        detail, _, remedy = detail.rpartition("; ")
    return Check(name=name, ok=False, detail=detail, remedy=remedy, reason=error.reason)


def refusal_of(checks: Iterable[Check]) -> PilotwrapError | None:
    """Return the error that the first failed check stands for; None when nothing speaks against taking jobs."""
    for check in checks:
        if check.ok is False:
            return _ERRORS.get(check.reason, errors.InternalError)(check.detail, remedy=check.remedy)
    return None


def readiness(checks: Iterable[Check]) -> Readiness:
    """Return all checks with their verdict."""
    found = tuple(checks)
    return Readiness(safe=all(check.ok is not False for check in found), checks=found)


def python_check(pilot: PilotVersion | None, pythons: Sequence[FoundPython]) -> Check:
    """Judge whether an interpreter is here that runs this version of the pilot."""
    if pilot is None:
        return unchecked("python", "which one it has to be hangs on the pilot, and there is none")
    try:
        found = python_for(pilot, pythons)
    except errors.PilotError as error:
        return failed("python", error)
    return passed("python", f"{shown(found.version)} at {found.path}")


def curl_check(pilot: PilotVersion | None, path: str | None) -> Check:
    """Judge whether the pilot can call its server."""
    if path:
        return passed("curl", path)
    if pilot and pilot >= _CURL_SINCE_OPTIONAL:
        return passed("curl", f"not on PATH; pilot {shown(pilot)} can do without")
    error = errors.SiteEnvironmentError(
        "curl is not on PATH",
        why="a pilot before 3.11 makes every call to its server with it",
        remedy="apt-get install curl, or take an image that has it",
    )
    return failed("curl", error)


def node_check(facts: NodeFacts) -> Check:
    """Judge the node as the survey of an allocation would: unfit nodes get no job."""
    host = facts.allocation.nodes[0] if facts.allocation.nodes else facts.host
    unfit = allocation_facts(facts, {host: facts}).unfit
    if unfit:
        error = errors.NodeUnusableError(
            unfit[0].detail, remedy="look at `pilotwrap inspect`; use another node, or tell the site"
        )
        return failed("node", error)
    devices = f", {len(facts.accelerators)} accelerators" if facts.accelerators else ""
    return passed("node", f"{facts.host}: {len(facts.cpus.cores)} cores{devices}")


def user_check(agent: Agent, who: Who) -> Check:
    """Judge whom payloads would run as."""
    name = who.payload_user
    if who.uid != 0:
        if name is None:
            return passed("user", f"payloads run as uid {who.uid}, as we do")
        error = errors.BadInputError("--payload-user needs root", remedy="leave it out: payloads run as you")
    elif name is None:
        return passed("user", "payloads run as root", "give --payload-user NAME to keep them apart from the node")
    elif who.payload_uid is None:
        error = errors.BadInputError(f"no user {name!r} on this host", remedy="give another --payload-user")
    elif who.payload_uid == 0 and agent == "pilot3":
        error = errors.BadInputError(f"the user {name!r} is root", remedy="give another --payload-user, e.g. nobody")
    else:
        return passed("user", f"payloads run as {name}, uid {who.payload_uid}")
    return failed("user", error)


def memory_check(memory: Memory, queue: QueueData | None = None) -> Check:
    """Judge whether there is memory for a pilot at all; the server offers no job that asks for more than there is."""
    usable = memory.usable_mib
    if usable < PILOT_LEAST_MIB:
        error = errors.NodeUnusableError(
            f"{usable} MiB of memory are usable here",
            why=f"{PILOT_LEAST_MIB} are the least",
            remedy="ask the batch system for more memory",
        )
        return failed("memory", error)
    short = queue is not None and queue.maxrss_mib is not None and queue.maxrss_mib > usable
    more = f"; the queue's jobs may ask for {queue.maxrss_mib}, such ones do not come here" if short and queue else ""
    return passed("memory", f"{usable} MiB usable{more}")


def disk_check(agent: Agent, place: Place, queue: QueueData | None = None) -> Check:
    """Judge the free space where jobs would run, by the pilot's own limit."""
    remedy = "free some, or give a --run-dir on another file system"
    if not place.writable:
        remedy = "give a --run-dir that you may write to"
        return failed("disk", errors.SiteEnvironmentError(f"{place.path} cannot be written to", remedy=remedy))
    if agent == "pilot3" and place.free_mib <= PILOT_FREE_MIB:
        error = errors.SiteEnvironmentError(
            f"{place.free_mib} MiB are free in {place.path}",
            why=f"a pilot takes no job unless more than {PILOT_FREE_MIB} are",
            remedy=remedy,
        )
        return failed("disk", error)
    if place.free_mib < 1 or place.free_inodes == 0:
        left = "space" if place.free_mib < 1 else "inode"
        return failed("disk", errors.SiteEnvironmentError(f"no {left} is free in {place.path}", remedy=remedy))
    most = queue.maxwdir_mib if queue else None
    less = f"; the queue lets a job use {most}, larger ones do not come here" if most and most > place.free_mib else ""
    return passed("disk", f"{place.free_mib} MiB free in {place.path}{less}")


def time_check(agent: Agent, allocation: Allocation, queue: QueueData | None = None) -> Check:
    """Judge whether the time left is enough to run and to tell anything."""
    try:
        planned, because = limits(allocation, None, TELL_S)
    except errors.AllocationError as refused:
        return failed("time", refused)
    if agent == "pilot3" and planned.stop_at is not None and planned.stop_at < PILOT_LEAST_S:
        error = errors.AllocationError(
            f"{planned.stop_at:.0f} s are left for jobs",
            why=f"a pilot with a trivial job needs up to {PILOT_LEAST_S:.0f}",
            remedy="ask the batch system for more time",
        )
        return failed("time", error)
    longest = queue.maxtime_s if queue else None
    cut = f"; the queue lets a pilot live for {longest} s" if agent == "pilot3" and longest else ""
    left = "no time limit is known" if allocation.time_left_s is None else because.reason
    return passed("time", left + cut)


def network_check(network: Network, machine: Machine | None) -> Check:
    """Tell whether the machine's file knows of a way out that was not taken; the server may be on our side of it."""
    proxy = network.https_proxy or network.http_proxy
    if proxy:
        return passed("network", f"by the proxy {proxy}")
    known = machine.network if machine else None
    if machine is None or known is None or known.outbound in {"direct", "unknown"}:
        return passed("network", "no proxy is set, and none is known to be needed")
    if known.outbound == "none":
        return unchecked("network", f"a node of {machine.name} reaches no server outside", "use one that is inside")
    named = f"http_proxy and https_proxy to {known.http_proxy}" if known.http_proxy else "http_proxy and https_proxy"
    why = f"a node of {machine.name} reaches servers outside by a proxy only, and none is set"
    return unchecked("network", why, f"set {named}, and no_proxy to localhost,127.0.0.1")


def isolation_check(agent: Agent, *, works: bool | None, said: str = "") -> Check:
    """Tell whether the kernel gives a payload a PID namespace of its own; a run goes on without."""
    if works:
        return passed("isolation", "a PID namespace of its own for each payload")
    if works is None:
        return unchecked("isolation", said or "no `unshare` on PATH to ask with")
    instead = "a session and a subreaper instead" + (", and PILOT_NOKILL for the pilot" if agent == "pilot3" else "")
    return passed("isolation", f"no PID namespace ({said or 'refused'}); {instead}")


_ERRORS: dict[str, type[PilotwrapError]] = {
    one.reason: one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, PilotwrapError)
}
