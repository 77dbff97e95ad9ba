"""The process that stands between the starter and one payload, and outlives both just long enough to end it."""

import os
import select
import sys
import time

from pilotwrap.host import subreaper, ward, wire
from pilotwrap.host.cgroup import Cgroup
from pilotwrap.host.launch import NO_SUCH_DEVICE, LaunchError, start
from pilotwrap.host.sink import Drains
from pilotwrap.host.wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Dict, NoReturn, Optional, Tuple

    from pilotwrap.host.inmates import Inmates
    from pilotwrap.host.launch import Launch
    from pilotwrap.host.spawn import Spawn
else:
    import _signal

# The starter is gone: nobody counts the time for us, and a batch system may be about to KILL (10 s in PBS).
ORPHAN_GRACE_S = 2.0

# A KILL of srun and its helper together leaves its ranks without any word; they miss this instead.
BEAT_S = 2.0

# A line of at most PIPE_BUF (4096) bytes is written whole or not at all, so all keepers share one pipe.
TEXT_MOST = 900

# The starter decides for us.
DEAF_TO = (
    *(_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2),
    *(_signal.SIGXCPU, _signal.SIGALRM),
)


class Keeper:
    """Keeps one payload: starts it, drains its output, ends it, and reports into the pipe `report`."""

    def __init__(self, spawn: "Spawn", lifeline: int, report: int) -> None:
        self._spawn = spawn
        self._lifeline = lifeline
        self._report = report
        self._wakeup = Wakeup([_signal.SIGCHLD])
        self._poll = select.poll()
        self._drains = Drains()
        self._said = bytearray()
        self._timed_out = False
        self._beat_at = 0.0
        self._cgroup = Cgroup("", 0)
        self._subreaper = False
        self._ward: "Optional[ward.Ward]" = None
        self._inmates: "Optional[Inmates]" = None
        self._why = ""

    def keep(self, cgroup_base: str) -> None:
        """Do all of it."""
        for number in DEAF_TO:
            _signal.signal(number, _signal.SIG_IGN)
        if self._spawn.keeper_leads:
            os.setsid()
        self._subreaper = subreaper.become()
        begun = time.time()
        since = time.monotonic()
        try:
            self._begin(cgroup_base)
        except LaunchError as error:
            self._cgroup.remove()
            self._fail(error)
            return
        self._loop(since)
        self._tell_exit(begun, since)

    def _begin(self, cgroup_base: str) -> None:
        launch = self._spawn.launch
        if self._spawn.wall_s < 0 or self._spawn.grace_s < 0:
            raise LaunchError(22, "keep a negative time")
        self._promised()
        self._cgroup = Cgroup(cgroup_base, os.getpid())
        launch.cgroup = self._cgroup.folder
        stdin, lifeline = self._input()
        out, err = self._outputs()
        launch.fds = (stdin, out, err)
        self._ward = self._enclosed(launch, lifeline) if self._spawn.pid_namespace else None
        if self._ward is None:
            self._ward = ward.Ward(start(launch), cgroup=self._cgroup, lifeline=lifeline, reach=self._reach())
        for fd in {stdin, out, err}:
            if fd > 2:  # noqa: PLR2004 - ours, not the inherited ones
                os.close(fd)
        granted: "Dict[str, object]" = {"pid_namespace": self._inmates is not None, "why": self._why or None}
        self._say({"event": "started", "id": self._spawn.id, "pid": self._ward.pid, **granted})
        for fd in (self._lifeline, self._wakeup.fd, *self._drains.fds):
            self._poll.register(fd, select.POLLIN)

    def _promised(self) -> None:
        """Compare the devices that the payload was promised with those that are here now."""
        if self._spawn.devices:
            from pilotwrap.host import promise

            trouble = promise.broken(self._spawn.devices, self._spawn.environment)
            if trouble:
                raise LaunchError(NO_SUCH_DEVICE, "give it its devices (%s)" % trouble)

    def _enclosed(self, launch: "Launch", lifeline: int) -> "Optional[Inmates]":
        """Start it in a namespace of its own; none where that is refused, and why is kept."""
        try:
            from pilotwrap.host import init, inmates

            made = init.enclose(launch)
        except ImportError:
            self._why = "this Python has no ctypes"
            return None
        except init.RefusedError as refusal:
            self._why = str(refusal)
            return None
        self._poll.register(made.fd, select.POLLIN)
        self._inmates = inmates.Inmates(made, cgroup=self._cgroup, lifeline=lifeline, reach=self._reach())
        return self._inmates

    def _reach(self) -> str:
        if self._spawn.stdin == "lifeline":
            return "leader"  # srun without its helper cannot end its ranks
        return "below" if self._spawn.launch.session == "inherit" else "group"

    def _input(self) -> "Tuple[int, int]":
        if self._spawn.stdin == "inherit":
            return 0, -1
        if self._spawn.stdin == "lifeline":
            stdin, lifeline = os.pipe()
            os.set_blocking(lifeline, False)
            return stdin, lifeline
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), -1

    def _outputs(self) -> "Tuple[int, int]":
        out = self._output(self._spawn.stdout, 1)
        same = self._spawn.stderr and self._spawn.stderr == self._spawn.stdout
        return out, out if same else self._output(self._spawn.stderr, 2)

    def _output(self, path: str, inherited: int) -> int:
        if not path:
            if self._spawn.stdin == "inherit":
                return inherited
            return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            return self._drains.open(path, self._spawn.output_cap)
        except OSError as error:
            raise LaunchError(error.errno or 5, "open the output file " + path) from error

    def _loop(self, since: float) -> None:
        assert self._ward is not None  # noqa: S101 - set by _begin
        while not self._ward.gone:
            for fd, _what in self._poll.poll(self._wait_ms(since)):
                self._hear(fd)
            if self._spawn.wall_s and not self._timed_out and time.monotonic() >= since + self._spawn.wall_s:
                self._timed_out = self._ward.status is None and not self._ward.ending
                self._ward.signal(_signal.SIGTERM, self._spawn.grace_s)
                self._spawn.wall_s = 0.0
            if self._spawn.stdin == "lifeline" and time.monotonic() >= self._beat_at:
                self._ward.beat()
                self._beat_at = time.monotonic() + BEAT_S
            self._ward.advance()

    def _wait_ms(self, since: float) -> "Optional[int]":
        assert self._ward is not None  # noqa: S101 - set by _begin
        now = time.monotonic()
        waits = [self._ward.wait_s()]
        if self._spawn.wall_s:
            waits.append(since + self._spawn.wall_s - now)
        if self._spawn.stdin == "lifeline":
            waits.append(self._beat_at - now)
        due = [wait for wait in waits if wait is not None]
        # rounded up: a poll that returns just before the time would spin
        return int(max(0.0, min(due)) * 1000) + 1 if due else None

    def _hear(self, fd: int) -> None:
        if fd in self._drains.fds:
            if not self._drains.take(fd):
                self._poll.unregister(fd)
        elif fd == self._lifeline:
            self._obey()
        elif self._inmates is not None and fd == self._inmates.fd:
            if not self._inmates.hear():
                self._poll.unregister(fd)
        else:
            self._wakeup.arrived()

    def _obey(self) -> None:
        """Do what the starter says: lines of `SIGNAL GRACE`; its end is our order to end."""
        assert self._ward is not None  # noqa: S101 - set by _begin
        said = os.read(self._lifeline, 4096)
        if not said:
            self._poll.unregister(self._lifeline)
            self._ward.signal(_signal.SIGTERM, ORPHAN_GRACE_S)
            return
        self._said += said
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            number, grace_s = line.split()
            self._ward.signal(int(number), float(grace_s))

    def _tell_exit(self, begun: float, since: float) -> None:
        assert self._ward is not None  # noqa: S101 - set by _begin
        wall_s = time.monotonic() - since
        self._drains.close()
        note = "its init ended before it" if self._inmates is not None and self._inmates.lost else self._drains.refusal
        contained = "cgroup" if self._cgroup.folder else "subreaper" if self._subreaper else "group"
        contained = contained if self._inmates is None else "namespace"
        self._cgroup.remove_soon()
        usage = {
            "wall_s": round(wall_s, 6),
            "user_s": self._ward.user_s,
            "system_s": self._ward.system_s,
            "max_rss_kib": self._ward.max_rss_kib,
            "started_at": begun,
        }
        self._say(
            {
                "event": "exited",
                "id": self._spawn.id,
                "exit_code": ward.exit_code(self._ward.status),
                "signal": ward.end_signal(self._ward.status),
                "timed_out": self._timed_out,
                "cut": self._drains.cut,
                "left": self._ward.left,
                "contained": contained,
                "note": note or None,
                "usage": usage,
            }
        )

    def _fail(self, error: LaunchError) -> None:
        self._say(failure(self._spawn.id, error))

    def _say(self, message: "Dict[str, object]") -> None:
        try:
            os.write(self._report, wire.line(message))
        except BrokenPipeError:
            return  # the starter is gone; the lifeline says so too


def failure(order_id: object, error: OSError) -> "Dict[str, object]":
    """Return the event `failed`: the errno's name, its text, and what could not be done."""
    import errno as _errno

    number = error.errno or 5
    return {
        "event": "failed",
        "id": order_id,
        "errno": _errno.errorcode.get(number, str(number)),
        "text": os.strerror(number),
        "what": getattr(error, "what", "")[:TEXT_MOST],
    }


def be_keeper(spawn: "Spawn", lifeline: int, report: int, cgroup_base: str) -> "NoReturn":
    """Be the keeper in a process just forked from the starter, and never return into the starter's code."""
    try:
        Keeper(spawn, lifeline, report).keep(cgroup_base)
    finally:
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())
        os._exit(0)
