"""A server in memory, at the client's one seam: a Transport whose answers are scripted and whose calls are kept."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pilotwrap.panda.transport import Replied, Reply, Request

from .starter import PATIENCE_S

Arguments = Mapping[str, Any]


def reply(data: object = None, message: str = "", *, success: bool = True) -> Replied:
    return Replied(200, json.dumps({"success": success, "message": message, "data": data}).encode())


NOTHING = reply(message="No jobs in PanDA", success=False)
STORED: dict[str, Any] = {"StatusCode": 0, "command": "NULL"}


def job_entry(panda_id: int = 1, attempt_nr: int = 1, **more: object) -> dict[str, object]:
    """Return a job as the server hands it out: it runs `true` on one core and has a log."""
    entry: dict[str, object] = {
        "PandaID": panda_id,
        "attemptNr": attempt_nr,
        "transformation": "true",
        "jobPars": "",
        "outFiles": f"{panda_id}.log.tgz",
        "logFile": f"{panda_id}.log.tgz",
        "logGUID": "64daaf67-7fa2-4cca-9346-3e286bc6c98f",
        "ddmEndPointOut": "LOG_SE",
        "scopeLog": "panda",
        "coreCount": 1,
        "prodSourceLabel": "managed",
    }
    return {**entry, **more}


def shaped(**shape: object) -> str:
    """Return jobPars that hold a shape and nothing else."""
    return f"--pilotwrap {shlex.quote(json.dumps(shape))}"


class ScriptedPanda:
    """Hands out `offers`, one answer a call, then nothing; answers each update by `judge`."""

    def __init__(self, *offers: object) -> None:
        self._lock = threading.Condition()
        self.offers = list(offers)
        self.asked: list[dict[str, Any]] = []
        self.calls: list[list[dict[str, Any]]] = []
        """The updates of each call."""

        self.judge: Callable[[Arguments], Mapping[str, Any]] = lambda _update: STORED
        self.before: Callable[[list[dict[str, Any]]], Reply | None] = lambda _updates: None
        """May hold a call up, or answer it in the server's place."""

    @property
    def updates(self) -> list[dict[str, Any]]:
        with self._lock:
            return [update for call in self.calls for update in call]

    def states(self, panda_id: int) -> list[str]:
        return [update["job_status"] for update in self.updates if update["job_id"] == panda_id]

    def wait_for(self, happened: Callable[[], object]) -> None:
        """Wait until something is true that a call makes true."""
        with self._lock:
            assert self._lock.wait_for(lambda: bool(happened()), timeout=PATIENCE_S)

    def send(self, request: Request) -> Reply:
        arguments = json.loads(request.body)
        if request.path == "pilot/acquire_jobs":
            return self._acquire(arguments)
        updates = arguments["job_list"] if request.path.endswith("bulk") else [arguments]
        with self._lock:
            self.calls.append(updates)
            self._lock.notify_all()
        instead = self.before(updates)
        if instead is not None:
            return instead
        answers = [self.judge(update) for update in updates]
        if not request.path.endswith("bulk"):
            return reply(answers[0])
        return reply([{"success": True, "message": "", "data": answer} for answer in answers])

    def _acquire(self, arguments: dict[str, Any]) -> Reply:
        with self._lock:
            self.asked.append(arguments)
            offer = self.offers.pop(0) if self.offers else NOTHING
            self._lock.notify_all()
        if isinstance(offer, list):
            return reply({"StatusCode": 0, "jobs": offer})
        assert isinstance(offer, Replied)
        return offer
