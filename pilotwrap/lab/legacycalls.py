"""The legacy API's calls, as panda-server 0.8.1 answers them: other names and shapes over the current calls' rules."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pilotwrap.lab import jobs, queue
from pilotwrap.lab.arguments import Arguments
from pilotwrap.lab.desk import Desk
from pilotwrap.lab.envelope import Json, PlainFailure
from pilotwrap.lab.legacynames import GET_JOB_NAMES, UPDATE_JOB_NAMES, translated
from pilotwrap.lab.legacyreply import Reply
from pilotwrap.lab.rules import PILOT_STATES
from pilotwrap.lab.workers import PILOT_STATUSES

NO_JOBS, FAILED, WRONG_ROLE = 20, 30, 60
"""Status codes of panda-server's `jobdispatcher/Protocol.py`."""

_SERVER_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
"""The only form of a start or an end that is kept."""

_RESOURCE_TYPES: list[Json] = [
    {"resource_name": name, "mincore": least, "maxcore": most, "minrampercore": floor, "maxrampercore": ceiling}
    for name, least, most, floor, ceiling in (
        ("SCORE", 1, 1, None, 2000),
        ("SCORE_HIMEM", 1, 1, 2001, None),
        ("MCORE", 2, None, None, 2000),
        ("MCORE_HIMEM", 2, None, 2001, None),
        ("Undefined", 100000, None, None, None),
    )
]
"""What a fresh panda-database holds."""

Given = Mapping[str, Json]


@dataclass(frozen=True)
class LegacyCall:
    """One call: the arguments that it demands, those that it also knows, and what does it; nobody else checks them."""

    demanded: tuple[str, ...]
    known: frozenset[str]
    handler: Callable[[Desk, Given], Reply]


def known_method(method: str) -> str:
    """Return a call's name; the real server too refuses an unknown one (PlainFailure 403) before it looks who calls."""
    if method not in LEGACY_CALLS:
        raise PlainFailure(403, f"ERROR : method {method} is forbidden")
    return method


def legacy_answered(method: str, desk: Desk, given: Given) -> Reply:
    """Answer one call. Raises PlainFailure 500, in Python's words, where the real one's Python fails."""
    call = LEGACY_CALLS[method]
    unknown = next((name for name in given if name not in call.known and name not in call.demanded), None)
    if unknown is not None:
        raise PlainFailure(500, f"{method}() got an unexpected keyword argument '{unknown}'")
    missing = [f"'{name}'" for name in call.demanded if name not in given]
    if missing:
        raise PlainFailure(500, f"{method}() missing {len(missing)} required positional {_listed(missing)}")
    try:
        with desk.store.transaction():
            return call.handler(desk, given)
    except (OverflowError, ValueError) as error:  # text for a number, or what no database holds
        raise PlainFailure(500, str(error)) from error


def _listed(names: list[str]) -> str:
    """Return the names as Python lists them in its own complaint."""
    if len(names) == 1:
        return f"argument: {names[0]}"
    comma = "," if len(names) > 2 else ""  # noqa: PLR2004 - three are listed with commas
    return f"arguments: {', '.join(names[:-1])}{comma} and {names[-1]}"


def _is_alive(_desk: Desk, _given: Given) -> Reply:
    return Reply(text="alive=yes")


def _get_job(desk: Desk, given: Given) -> Reply:
    wanted = translated(GET_JOB_NAMES, queue.ACQUIRE_SIGNATURE, given)
    wanted["timeout"] = int(str(given.get("timeout", 60)))
    wanted["n_jobs"] = wanted.get("n_jobs") or 1
    answer = queue.acquire_jobs(desk, Arguments(wanted, frozenset(wanted)))
    if answer.message == queue.ROLE_NEEDED:
        return Reply({"StatusCode": WRONG_ROLE}, queue.ROLE_NEEDED)
    given_out = answer.data.get("jobs") if isinstance(answer.data, dict) else None
    if not isinstance(given_out, list):
        return Reply({"StatusCode": NO_JOBS}, "no jobs in PanDA")
    if given.get("nJobs") is not None:
        return Reply({"StatusCode": 0, "jobs": given_out})
    only = given_out[0]
    return Reply(only if isinstance(only, dict) else {})


def _update_job(desk: Desk, given: Given) -> Reply:
    if not desk.is_production:
        return Reply({"StatusCode": WRONG_ROLE}, queue.ROLE_NEEDED)
    if given["jobId"] == "NULL" or given["state"] not in PILOT_STATES:
        return Reply({"StatusCode": 0})  # the real one says no more of a state that it does not know
    told = translated(UPDATE_JOB_NAMES, jobs.UPDATE_SIGNATURE, given)
    for name in ("start_time", "end_time"):
        if not _SERVER_TIME.fullmatch(str(told.get(name, ""))):
            told.pop(name, None)
    told["job_id"] = int(str(given["jobId"]))
    answer = jobs.update_job(desk, Arguments(told, frozenset(told)))
    return Reply(answer.data if isinstance(answer.data, dict) else {"StatusCode": FAILED})


def _get_status(desk: Desk, given: Given) -> Reply:
    """Answer states and attempts joined with `+`, and always url-encoded; a comma does not separate ids."""
    ids: list[Json] = [int(word) if word.isdecimal() else word for word in str(given["ids"]).split()]
    found = jobs.get_job_status(desk, Arguments({"job_ids": ids}, frozenset({"job_ids"}))).data
    known = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    states = "+".join(str(each["status"]).replace("not found", "notfound") for each in known)
    attempts = "+".join(str(each["attempt_number"]) for each in known)
    return Reply({"StatusCode": 0, "status": states, "attemptNr": attempts}, never_json=True)


def _update_worker_pilot_status(desk: Desk, given: Given) -> Reply:
    """Take a pilot's word about its worker; like the real one, refuse in a line of text."""
    if not desk.is_production:
        refusal = "production or pilot role is required" if desk.caller else "failed to retrieve DN"
        return Reply(text=refusal)
    if given["status"] not in PILOT_STATUSES:
        return Reply(text=f"Invalid worker state. The worker state has to be in {PILOT_STATUSES}")
    return Reply({"StatusCode": 0})


def _get_resource_types(_desk: Desk, _given: Given) -> Reply:
    return Reply({"StatusCode": 0, "Returns": 0, "ResourceTypes": _RESOURCE_TYPES})


def _call(demanded: str, known: str, handler: Callable[[Desk, Given], Reply]) -> LegacyCall:
    return LegacyCall(tuple(demanded.split()), frozenset(known.split()), handler)


LEGACY_CALLS: dict[str, LegacyCall] = {
    "isAlive": _call("", "", _is_alive),
    "getJob": _call(
        "siteName",
        " ".join(GET_JOB_NAMES) + " token cpu AtlasRelease countryGroup workingGroup allowOtherCountry",
        _get_job,
    ),
    "updateJob": _call(
        "jobId state",
        " ".join(UPDATE_JOB_NAMES) + " token timestamp workdir remainingSpace messageLevel computingElement",
        _update_job,
    ),
    "getStatus": _call("ids", "timeout", _get_status),
    "updateWorkerPilotStatus": _call(
        "site workerID harvesterID status", "timeout node_id", _update_worker_pilot_status
    ),
    "getResourceTypes": _call("", "timeout", _get_resource_types),
}
"""What the lab serves of `/server/panda/METHOD`; anything else is forbidden."""
