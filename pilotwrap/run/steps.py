"""Mode `driver`: a socket through which one process asks for steps on its job's own nodes, and hears of their end.

JSON lines both ways (docs/steps.md). A step is a job of its own in the driver's hands: the same life, the same ledger,
the same limits; but nobody is told of it except the one who asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pilotwrap.model.errors import BadInputError, SiteEnvironmentError
from pilotwrap.model.job import JobSpec
from pilotwrap.plan.ledger import within
from pilotwrap.run.job import Job, rules_for
from pilotwrap.run.pool import Pool
from pilotwrap.run.state import Rules, State

if TYPE_CHECKING:
    from pilotwrap.plan.ledger import Ledger
    from pilotwrap.run.rundir import RunDirectory

VARIABLE = "PILOTWRAP_STEPS"
"""Where a process of mode `driver` finds its socket."""

NAME = "steps"
PROTOCOL = 1
PATH_MOST = 107
"""Of a socket's path: sun_path has 108 bytes with its NUL (unix(7))."""

LINE_MOST = 1 << 20
"""Bytes of one request (a guess: a command line may be 2 MiB in Linux, none is)."""

CALLERS_MOST = 64
"""Connections at a time (a guess): each costs two threads."""

REFUSED_MODES = frozenset({"driver"})


@dataclass
class Caller:
    """One connection: what it asked for, and what is still to be told to it."""

    connection: socket.socket
    words: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)
    steps: dict[str, Job] = field(default_factory=dict)
    """Its steps that are not over, by its own names for them."""

    def tell(self, event: str, **more: object) -> None:
        """Say something, some time; a caller that is gone hears nothing."""
        self.words.put(json.dumps({"event": event, **more}).encode() + b"\n")

    def write(self) -> None:
        """Send what is told until there is no more; on a thread of its own."""
        with contextlib.suppress(OSError):
            while (line := self.words.get()) is not None:
                self.connection.sendall(line)
        self.connection.close()


@dataclass(frozen=True)
class Hands:
    """What a desk needs of the one who runs the steps, all on his thread but `post`."""

    post: Callable[[Callable[[], None]], None]
    take: Callable[[Job], None]
    end: Callable[[Job], None]


class StepDesk:
    """The socket of one job, the steps that were asked for through it, and what of the job's share they hold."""

    def __init__(self, owner: Job, ledger: Ledger, run: RunDirectory, rules: Rules, hands: Hands) -> None:
        if owner.allotment is None:
            raise BadInputError("a driver without nodes")
        self.owner = owner
        self.pool = Pool(within(ledger, owner.allotment))
        self.steps: dict[str, tuple[Caller, str]] = {}
        """Who asked for a step that is not over, and what he calls it; by the step's job's name."""

        self.closing = False
        self._run, self._rules, self._hands = run, rules, hands
        self._callers: list[Caller] = []
        self._count = 0
        self._folder: str | None = None
        self._place = owner.directory / NAME
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._bind()

    def listen(self) -> None:
        """Begin to take connections."""
        threading.Thread(target=self._accept, name="steps", daemon=True).start()

    def hand_over(self, uid: int, gid: int) -> None:
        """Let another user use the socket."""
        for path in filter(None, (self._folder, str(self.path))):
            os.chown(path, uid, gid)

    def stepped(self, step: Job) -> None:
        """Tell of a step's start, once."""
        asked = self.steps.get(step.name)
        if asked and step.state.phase == "running" and not step.said:
            step.said["started"] = True
            asked[0].tell("started", id=asked[1], directory=str(step.directory), hosts=_hosts(step))

    def over(self, step: Job) -> None:
        """Tell of a step's end."""
        caller, name = self.steps.pop(step.name)
        caller.steps.pop(name, None)
        report = step.state.report
        said = (report.reason, report.exit_code, report.detail) if report else ("cancelled", None, "")
        told = dict(zip(("reason", "exit_code", "detail"), said, strict=True))
        caller.tell("ended", id=name, directory=str(step.directory), **told)

    def end(self) -> None:
        """Take no further step, and end those that there are; their job is over."""
        if not self.closing:
            self.closing = True
            self._close_socket()
            for caller in list(self._callers):
                self._end_steps(caller)

    def close(self) -> None:
        """Let every caller go."""
        self.end()
        for caller in self._callers:
            caller.words.put(None)
        self._callers.clear()

    @property
    def path(self) -> Path:
        """Return where the socket is."""
        return self._place

    def _bind(self) -> None:
        """Bind in the job's directory, or where that path is too long for a socket in a folder of our own."""
        if len(os.fsencode(self._place)) > PATH_MOST:
            self._folder = tempfile.mkdtemp(prefix="pilotwrap-steps-")
            self._place = Path(self._folder) / NAME
        try:
            self._socket.bind(str(self._place))
            self._place.chmod(0o600)
            self._socket.listen()
        except OSError as error:
            self._close_socket()
            raise SiteEnvironmentError(
                f"no socket for steps can be made at {self._place}",
                why=error.strerror or str(error),
                remedy="choose a --run-dir on a file system that has sockets",
            ) from error

    def _close_socket(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError):
            self._place.unlink(missing_ok=True)
            if self._folder:
                Path(self._folder).rmdir()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection = self._socket.accept()[0]
                self._hands.post(lambda connection=connection: self._came(connection))  # type: ignore[misc]

    def _came(self, connection: socket.socket) -> None:
        if self.closing or len(self._callers) >= CALLERS_MOST:
            connection.close()
            return
        caller = Caller(connection)
        self._callers.append(caller)
        ledger = self.pool.ledger
        caller.tell(
            "hello",
            protocol=PROTOCOL,
            nodes=list(ledger.free),
            cores_per_node=ledger.cores_per_node,
            devices_per_node=ledger.devices_per_node,
        )
        threading.Thread(target=caller.write, name="steps-out", daemon=True).start()
        threading.Thread(target=self._read, args=(caller,), name="steps-in", daemon=True).start()

    def _read(self, caller: Caller) -> None:
        with contextlib.suppress(OSError), caller.connection.makefile("rb") as lines:
            while (line := lines.readline(LINE_MOST)).endswith(b"\n"):
                self._hands.post(lambda line=line: self._asked(caller, line))  # type: ignore[misc]
        self._hands.post(lambda: self._gone(caller))

    def _gone(self, caller: Caller) -> None:
        """End what somebody asked for who is gone."""
        self._end_steps(caller)
        caller.words.put(None)
        if caller in self._callers:
            self._callers.remove(caller)

    def _end_steps(self, caller: Caller) -> None:
        for step in list(caller.steps.values()):
            self._hands.end(step)

    def _asked(self, caller: Caller, line: bytes) -> None:
        name = ""
        try:
            asked = _object(line)
            name = str(asked.pop("id", ""))
            if asked.pop("do", None) == "step":
                self._begin(caller, name, asked)
            elif name in caller.steps:
                self._hands.end(caller.steps[name])
        except (ValueError, RecursionError, BadInputError) as error:
            caller.tell("refused", id=name, why=_why(error))

    def _begin(self, caller: Caller, name: str, asked: dict[str, object]) -> None:
        if not name or name in caller.steps:
            raise BadInputError(f"id {name!r}", why="each step needs one, and of its own")
        environment = asked.pop("environment", {})
        spec = JobSpec.model_validate_json(json.dumps(asked))
        if spec.command is None or spec.mode in REFUSED_MODES or spec.inputs or spec.outputs:
            raise BadInputError("a step is a command on some ranks", why="it has no mode driver, no files and no panda")
        if self.closing:
            raise BadInputError("the job of these steps is over")
        self._count += 1
        own = f"{self.owner.name}.{self._count}"
        rules = rules_for(spec, self._rules._replace(told_by="caller"))
        step = Job(own, spec, self._run.job(own), State(rules=rules), parent=self.owner, env=_texts(environment))
        self.steps[own] = caller, name
        caller.steps[name] = step
        self._hands.take(step)


def _hosts(step: Job) -> list[str]:
    return list(step.allotment.hosts) if step.allotment else []


def _object(line: bytes) -> dict[str, object]:
    asked = json.loads(line)
    if not isinstance(asked, dict) or asked.get("do") not in {"step", "end"}:
        raise BadInputError("not a request", why='it is a JSON object whose "do" is "step" or "end"')
    return asked


def _texts(environment: object) -> Mapping[str, str]:
    if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
        raise BadInputError("environment", why="it is an object of texts")
    return environment


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'the whole'}: {first['msg']}"
    return str(error)[:500]
