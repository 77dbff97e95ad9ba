"""The starter's loop: one poll for the controller, the keepers, the observers, the signals and the clock."""

import os
import select
import sys
import time

from pilotwrap import __version__
from pilotwrap.host import descendants, ward, wire
from pilotwrap.host.channel import Inbox, Outbox
from pilotwrap.host.crew import Crew
from pilotwrap.host.keeper import failure
from pilotwrap.host.launch import own_environment
from pilotwrap.host.spawn import Spawn
from pilotwrap.host.wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Callable, Dict, List, Optional, Tuple
else:
    import _signal

# Slurm kills 30 s after TERM by default; 3 s of the rest end the payloads, the others are for the way home.
STOP_GRACE_S = 20.0

# What payloads get when nobody is left to decide: TERM, and KILL this much later.
END_GRACE_S = 3.0

# A controller that said `finish` has only its own exit to do (a guess).
CONTROLLER_EXIT_S = 10.0

# A person who presses ^C twice within this time does not want to wait.
SECOND_INT_S = 2.0

IMAGE_EXIT = 3
INTERNAL_EXIT = 70
MISMATCH_EXIT = 3
STOP_EXITS: "Dict[int, int]" = {_signal.SIGTERM: 143, _signal.SIGHUP: 143, _signal.SIGINT: 130}
ALLOCATION_WALLTIME_EXIT = 124  # USR1, USR2, XCPU, ALRM: how batch systems warn of the end

STOPPING = (
    *(_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGXCPU),
    _signal.SIGALRM,
)

MISMATCH = (
    "the starter (version %s) and the image (version %s) do not understand each other; "
    "refresh it: RUNTIME exec IMAGE pilotwrap starter > starter.pyz"
)
DIED = (
    "the controller %s without a word; all it had started was ended; "
    "its unsent reports wait in the run directory; send them with: pilotwrap flush DIR"
)
# More than any banner (a guess): a program that is no way into an image may print for ever.
GREETING_MOST = 65536

NO_WAY_IN = "the way into the image only prints, and never starts pilotwrap; try it by hand: %s"
NEVER_SPOKE = "the controller %s before its first word; try the way into the image by hand: %s"


class Starter:
    """A running starter; `run` returns the exit code."""

    def __init__(self, argv: "List[str]", started: "Tuple[int, int, int]", hello: "Dict[str, object]") -> None:
        self._argv = argv
        self._entered = bool(hello["enter"])
        self._environment = own_environment()
        self._poll = select.poll()
        self._wakeup = Wakeup([_signal.SIGCHLD, *STOPPING])
        _signal.pthread_sigmask(_signal.SIG_SETMASK, [])  # from here on they are heard
        self._controller, to_fd, from_fd = started
        self._out = Outbox(to_fd, self._poll)
        self._in = Inbox(from_fd)
        self._crew = Crew(self._talking)
        self._crew.controller = self._controller
        self._reports = Inbox(self._crew.report)
        self._snapshots: "Dict[int, tuple[Inbox, Dict[str, object]]]" = {}
        self._spoke = False
        self._greeting = 0
        self._status: "Optional[int]" = None
        self._int_at = -SECOND_INT_S
        self._stopped_by = 0
        self._stop_grace_s = STOP_GRACE_S
        self._stop_at: "Optional[float]" = None
        self._exit: "Optional[int]" = None
        self._output = ""
        self._kill_controller_at: "Optional[float]" = None
        self._kill_keepers_at: "Optional[float]" = None
        self._out.send(hello)
        self._observe({"event": "snapshot"})

    def run(self) -> int:
        """Serve until the end, end everything, print what was asked for and return the exit code."""
        for fd in (self._wakeup.fd, self._in.fd, self._reports.fd):
            self._poll.register(fd, select.POLLIN)
        while not self._done():
            for fd, _what in self._poll.poll(self._wait_ms()):
                self._hear(fd)
            self._reap()
            self._watch_clock()
        self._crew.controller = 0
        self._crew.end_orphans()
        if self._output:
            sys.stdout.write(self._output)
            sys.stdout.flush()
        assert self._exit is not None  # noqa: S101 - _done says so
        return self._exit

    def _talking(self) -> "List[int]":
        """Return the descriptors that nobody else may hold open."""
        own = [self._out.fd, self._in.fd, self._crew.report, *self._snapshots]
        return [fd for fd in own if fd >= 0]

    def _done(self) -> bool:
        return self._exit is not None and self._controller == 0 and not self._crew.posts and not self._crew.observers

    def _wait_ms(self) -> "Optional[int]":
        due = [at for at in (self._stop_at, self._kill_controller_at, self._kill_keepers_at) if at is not None]
        return int(max(0.0, min(due) - time.monotonic()) * 1000) + 1 if due else None

    def _hear(self, fd: int) -> None:
        if fd == self._wakeup.fd:
            for number in self._wakeup.arrived():
                self._signalled(number)
        elif fd == self._in.fd:
            self._hear_controller()
        elif fd == self._reports.fd:
            self._hear_reports()
        elif fd == self._out.fd:
            self._out.flush()
        elif fd in self._snapshots:
            self._hear_observer(fd)

    def _signalled(self, number: int) -> None:
        if number not in STOPPING:
            return
        now = time.monotonic()
        if number == _signal.SIGINT and now - self._int_at < SECOND_INT_S:
            self._end(STOP_EXITS[number], grace_s=0.0, patience_s=0.0)
        self._int_at = now if number == _signal.SIGINT else self._int_at
        if not self._stopped_by and self._exit is None:
            self._stopped_by = number
            self._stop_at = now + self._stop_grace_s
            self._out.send({"event": "stop", "signal": number})

    def _hear_controller(self) -> None:
        for line in self._in.lines():
            if self._exit is not None:
                return
            if not self._spoke and not line.lstrip().startswith(b"{"):
                self._greeted(line)
                continue
            try:
                self._obey(wire.message(line))
            except wire.GarbledError as error:
                self._mismatch(str(error), "unknown")
        if self._in.ended:
            self._poll.unregister(self._in.fd)
            self._kill_controller_at = self._kill_controller_at or time.monotonic() + 1.0

    def _greeted(self, line: bytes) -> None:
        """Pass on what a runtime prints before the controller speaks, but not without end."""
        self._greeting += len(line)
        if self._greeting <= GREETING_MOST:
            sys.stderr.write(line.decode("utf-8", "replace") + "\n")
        else:
            _say(NO_WAY_IN % " ".join(self._argv))
            self._end(IMAGE_EXIT, END_GRACE_S, 0.0)

    def _obey(self, order: "Dict[str, object]") -> None:
        self._spoke = True
        orders: "Dict[str, Callable[[Dict[str, object]], None]]" = {
            "observe": lambda order: self._observe({"event": "observed", "id": order.get("id")}),
            "spawn": self._spawn,
            "signal": self._signal,
            "grace": self._grace,
            "finish": self._finish,
        }
        name = wire.text(order, "do", "nothing")
        if name not in orders:
            self._mismatch("no order " + name, wire.text(order, "version", "unknown"))
            return
        orders[name](order)

    def _observe(self, event: "Dict[str, object]") -> None:
        fd = self._crew.observe()
        self._snapshots[fd] = (Inbox(fd), event)
        self._poll.register(fd, select.POLLIN)

    def _spawn(self, order: "Dict[str, object]") -> None:
        try:
            self._crew.spawn(Spawn(order, self._environment))
        except OSError as error:  # no room for a process or a pipe
            self._out.send(failure(order.get("id"), error))

    def _signal(self, order: "Dict[str, object]") -> None:
        number = int(wire.number(order, "signal", _signal.SIGTERM))
        self._crew.signal(order.get("id"), number, wire.number(order, "grace_s", 10.0))

    def _grace(self, order: "Dict[str, object]") -> None:
        self._stop_grace_s = min(self._stop_grace_s, wire.number(order, "seconds"))
        if self._stop_at is not None:
            self._stop_at = min(self._stop_at, time.monotonic() + self._stop_grace_s)

    def _finish(self, order: "Dict[str, object]") -> None:
        self._output = wire.text(order, "output", "")
        self._end(int(wire.number(order, "exit_code")), END_GRACE_S, CONTROLLER_EXIT_S)

    def _mismatch(self, why: str, version: str) -> None:
        _say(MISMATCH % (__version__, version) + " (" + why + ")")
        self._end(MISMATCH_EXIT, END_GRACE_S, 0.0)

    def _hear_reports(self) -> None:
        for line in self._reports.lines():
            self._crew.noted(wire.message(line))
            self._out.send_line(line + b"\n")

    def _hear_observer(self, fd: int) -> None:
        inbox, event = self._snapshots[fd]
        for line in inbox.lines():
            event["snapshot"] = wire.message(line)
            self._out.send(event)
        if inbox.ended:
            if "snapshot" not in event:
                # it died; whoever asked must not wait for ever
                lost = {"event": "failed", "id": event.get("id"), "errno": "ECHILD", "text": "", "what": "observe"}
                self._out.send(lost)
            self._poll.unregister(fd)
            del self._snapshots[fd]
            os.close(fd)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._controller:
                self._controller_ended(status)
                continue
            # all that a keeper said before its end comes first
            self._hear_reports()
            event = self._crew.ended(pid)
            if event is not None:
                self._out.send(event)

    def _controller_ended(self, status: int) -> None:
        if not self._in.ended:
            self._hear_controller()
        self._controller = self._crew.controller = 0
        self._kill_controller_at = None
        self._out.close()
        if self._exit is not None:
            return
        number = ward.end_signal(status)
        how = "died by signal %d" % number if number else "ended with exit code %d" % (ward.exit_code(status) or 0)
        if self._spoke:
            _say(DIED % how)
        else:
            _say(NEVER_SPOKE % (how, " ".join(self._argv)))
        image = self._entered and not self._spoke
        self._end(IMAGE_EXIT if image else INTERNAL_EXIT, END_GRACE_S, 0.0)

    def _end(self, code: int, grace_s: float, patience_s: float) -> None:
        """Begin the end: every payload within the grace, the controller when its patience is over."""
        now = time.monotonic()
        if self._exit is None:
            self._exit = code
        self._stop_at = None
        self._crew.end(_signal.SIGTERM, grace_s)
        self._out.close()
        self._kill_keepers_at = now + grace_s + ward.GIVE_UP_S + 1.0
        if self._controller:
            self._kill_controller_at = now + patience_s

    def _watch_clock(self) -> None:
        now = time.monotonic()
        if self._stop_at is not None and now >= self._stop_at:
            self._end(STOP_EXITS.get(self._stopped_by, ALLOCATION_WALLTIME_EXIT), END_GRACE_S, 0.0)
        if self._kill_controller_at is not None and now >= self._kill_controller_at:
            self._kill_controller_at = None
            if self._controller:
                descendants.kill([self._controller])
        if self._kill_keepers_at is not None and now >= self._kill_keepers_at:
            self._kill_keepers_at = None
            self._crew.kill()


def _say(text: str) -> None:
    print("pilotwrap: " + text, file=sys.stderr)
