"""The rules of a job's update: what is stored and what the pilot is answered. Pure.

They follow panda-server at commit 9cc3603 (`updateJobStatus`), measured state by state on a live one.
"""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

PilotState: TypeAlias = Literal["starting", "running", "transferring", "holding", "finished", "failed"]
PILOT_STATES: tuple[PilotState, ...] = get_args(PilotState)
TERMINAL_STATES = frozenset({"finished", "failed"})

NO_COMMAND = "NULL"
"""The literal text that means "go on"."""

KILL = "tobekilled"
ALREADY_DONE = "alreadydone"

_NUMERIC_BATCH_ID = re.compile(r"^\d+\.*\d+$")
"""The real server's idea of a number: it needs two digits or more."""


@dataclass(frozen=True)
class Stored:
    """What the server knows of a live job when an update arrives."""

    state: str
    attempt_nr: int
    batch_id: str = ""
    command: str = ""
    archived: bool = False
    reported: bool = False
    debug: bool = False


@dataclass(frozen=True)
class Update:
    """What of an update decides its fate."""

    state: PilotState
    attempt_nr: int | None = None
    batch_id: str = ""


@dataclass(frozen=True)
class Ruling:
    """What becomes of an update: the new state (None: nothing is stored) and the command in the answer."""

    state: str | None
    command: str
    takes_report: bool = False
    database_error: bool = False


def ruling(stored: Stored | None, update: Update) -> Ruling:
    """Decide an update: first come, first served for the final ones, and never backwards."""
    if stored is None or stored.archived or update.attempt_nr not in {None, stored.attempt_nr}:
        return Ruling(None, KILL)
    command = _command(stored)
    if stored.reported and update.state in TERMINAL_STATES:
        return Ruling(None, ALREADY_DONE)
    if stored.reported or _is_ignored(stored.state, update.state):
        return Ruling(None, command)
    if _other_batch_job(stored.batch_id, update.batch_id):
        return Ruling(None, command, database_error=True)
    if update.state in TERMINAL_STATES:
        return Ruling("holding", command, takes_report=True)
    return Ruling(_later(stored.state, update.state), command)


def killed(stored: Stored | None, *, force: bool) -> Literal["refused", "commanded", "cancelled"]:
    """Decide a kill: a job that may have a pilot is told by its next heartbeat, any other ends at once."""
    if stored is None or stored.archived:
        return "refused"
    if force or stored.state in {"activated", "sent"}:
        return "cancelled"
    return "commanded"


def _command(stored: Stored) -> str:
    words = [word for word in ("debug" if stored.debug else "", stored.command) if word]
    return ",".join(words) or NO_COMMAND


def _is_ignored(stored: str, update: PilotState) -> bool:
    if stored == "holding":
        return update in {"starting", "running", "transferring"}
    return stored == "transferring" and update in {"starting", "running"}


def _later(stored: str, update: PilotState) -> str:
    """Return the state that such an update leaves: a running job does not start again."""
    return stored if (stored, update) == ("running", "starting") else update


def _other_batch_job(stored: str, given: str) -> bool:
    """Tell whether both ids are names and differ: by design a kill, at this commit a database error."""
    names = [text for text in (stored, given) if text and not _NUMERIC_BATCH_ID.match(text)]
    return len(names) == 2 and stored != given  # noqa: PLR2004 - both of the two
