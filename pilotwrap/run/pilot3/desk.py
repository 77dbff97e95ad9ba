"""What the bridge asks: who a pilot is, which job is its own, and what becomes of its words. Safe between threads."""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pilotwrap.panda.bridge import UnkeptError

if TYPE_CHECKING:
    from pilotwrap.panda.answers import Json
    from pilotwrap.panda.legacy import PilotUpdate

KEPT_S = 100.0
"""How long a pilot's word may wait to be kept: its curl gives a call up after 120 s (pilot3 3.7, default.cfg)."""

NULL = "NULL"
KILL = "tobekilled"
"""Commands in the answer to an update, as the server words them."""

Reply = Callable[[str | None], None]
"""Takes the command for the pilot; None: its word could not be kept."""


@dataclass
class Errand:
    """One job in a pilot's hands: what it shows us, and what it may fetch from us."""

    name: str
    panda_id: int
    entry: Mapping[str, Json]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    documents: dict[str, bytes] = field(default_factory=dict, repr=False)
    asked: bool = False
    """It has fetched its job."""

    spoke: bool = False
    """It has said something of its job."""


class Desk:
    """All errands of a run; `heard` takes a pilot's word on its job, with what to reply by."""

    def __init__(self, heard: Callable[[str, PilotUpdate, Reply], None], seen: Callable[[str, str], None]) -> None:
        self._heard = heard
        self._seen = seen
        self._errands: dict[str, Errand] = {}
        self._lock = threading.Lock()

    def open(self, errand: Errand) -> None:
        """Let a pilot in."""
        with self._lock:
            self._errands[errand.name] = errand

    def close(self, name: str) -> None:
        """Let a pilot in no more."""
        with self._lock:
            self._errands.pop(name, None)

    def visitor(self, token: str) -> str | None:
        """Return whose token this is."""
        with self._lock:
            known = [(errand.token, name) for name, errand in self._errands.items()]
        shown = token.encode()
        return next((name for own, name in known if hmac.compare_digest(own.encode(), shown)), None)

    def job(self, visitor: str) -> Mapping[str, Json] | None:
        """Return the visitor's one job; None once it has begun with it, so that it never has it twice."""
        errand = self._errand(visitor)
        if errand is None or errand.spoke:
            return None
        errand.asked = True
        self._seen(visitor, "asked for its job")
        return errand.entry

    def told(self, visitor: str, update: PilotUpdate) -> str:
        """Return the command for the pilot once its word is kept; UnkeptError when it was not in time."""
        errand = self._errand(visitor)
        if errand is None or errand.panda_id != update.panda_id:
            return KILL
        errand.spoke = True
        said: list[str | None] = []
        kept = threading.Event()

        def reply(command: str | None) -> None:
            said.append(command)
            kept.set()

        self._heard(visitor, update, reply)
        kept.wait(KEPT_S)
        if not said or said[0] is None:
            raise UnkeptError
        return said[0]

    def states(self, visitor: str, panda_ids: Sequence[int]) -> Mapping[int, str]:
        """Return the state of the visitor's own job; of others nothing is known."""
        errand = self._errand(visitor)
        return {panda_id: "running" for panda_id in panda_ids if errand and errand.panda_id == panda_id}

    def worker(self, visitor: str, status: str) -> None:
        """Take notice of what the pilot says of itself; the run's own worker is told of by the run."""
        self._seen(visitor, f"said that it has {status}")

    def document(self, secret: str, name: str) -> bytes | None:
        """Return what lies ready under this name for whoever knows the secret."""
        with self._lock:
            errands = list(self._errands.values())
        shown = secret.encode()
        mine = (errand for errand in errands if hmac.compare_digest(errand.secret.encode(), shown))
        return next((errand.documents.get(name) for errand in mine), None)

    def _errand(self, visitor: str) -> Errand | None:
        with self._lock:
            return self._errands.get(visitor)
