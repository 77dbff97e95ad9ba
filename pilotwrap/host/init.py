"""The init of a payload's own PID namespace: how it is made, what it does, and what it tells its keeper."""

import os

from pilotwrap.host import descendants, namespace, subreaper, wire
from pilotwrap.host.launch import LaunchError, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn, Optional, Set, Tuple

    from pilotwrap.host.launch import Launch
else:
    import _signal

LINE_MOST = 4000
LOST = "its init was killed"
_ECHILD = 10  # linux/errno-base.h


class RefusedError(Exception):
    """The kernel grants no namespace, and nothing of the payload has run; the text says which call it refused."""


class Init:
    """An init and the payload below it, by their numbers outside; `fd` is the pipe through which it tells an end."""

    def __init__(self, pid: int, payload: int, fd: int) -> None:
        self.pid = pid
        self.payload = payload
        self.fd = fd


def enclose(launch: "Launch") -> Init:
    """Start a program as the child of an init; `RefusedError` before anything ran, `LaunchError` when it cannot.

    The caller must be a child subreaper without children. A maker enters the namespaces in its place and ends, so
    that init becomes the caller's child, in a session that init leads and the program does not.
    """
    told, tell = os.pipe()
    rein, hold = os.pipe()
    maker = os.fork()
    if maker == 0:
        os.close(told)
        os.close(hold)
        _make(launch, rein, tell)
    os.close(rein)
    os.close(tell)
    try:
        pid = _granted(maker, told, hold)
        payload = _started(pid, told, hold)
    except (OSError, RefusedError):
        os.close(hold)
        os.close(told)
        _reap_all()
        raise
    os.set_blocking(told, False)
    return Init(pid, payload, told)  # `hold` stays open for as long as we live


def _granted(maker: int, told: int, hold: int) -> int:
    """Return the pid of an init that has all it needs."""
    word, rest = _answer(told)
    if word == "init":
        pid = int(rest)
        # not before its maker has gone for good: init asks to die with its parent, and that must be us
        os.waitpid(maker, 0)
        try:
            os.write(hold, b".")
        except BrokenPipeError as error:
            raise RefusedError(LOST) from error
        word, rest = _answer(told)
        if word == "ready":
            return pid
    raise RefusedError(rest)


def _started(init: int, told: int, hold: int) -> int:
    """Return the pid of the program below it; there is no way back from here, it may have run."""
    try:
        os.write(hold, b".")
        word, rest = _answer(told)
        if word == "started":
            payload = _outside(init, int(rest))
            os.write(hold, b".")
            return payload
    except (OSError, IndexError) as error:
        raise LaunchError(_ECHILD, "start: " + LOST) from error
    number, _, what = rest.partition(" ")
    raise LaunchError(int(number), what) if word == "failed" else LaunchError(_ECHILD, "start: " + rest)


def _answer(told: int) -> "Tuple[str, str]":
    """Return the next line's first word and its rest; of an init that was killed, that."""
    line = bytearray()
    while not line.endswith(b"\n"):
        data = os.read(told, 1)
        if not data:
            return "refused", LOST
        line += data
    word, _, rest = wire.cooked(bytes(line[:-1])).partition(" ")
    return word, rest


def _outside(init: int, inside: int) -> int:
    """Return our number of the child that has this one inside; init reaps nobody until it is told to go on."""
    children = descendants.children(init)
    for pid in children:
        for line in descendants.content("/proc/%d/status" % pid).splitlines():
            if line.startswith("NSpid:") and int(line.split()[-1]) == inside:
                return pid
    return children[0]  # before Linux 4.1, which has no such line; they come in order of their birth


def _reap_all() -> None:
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return


def _make(launch: "Launch", rein: int, tell: int) -> "NoReturn":
    """Enter the namespaces, fork init and end; a PID namespace begins with the next child."""
    _signal.set_wakeup_fd(-1)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    try:
        namespace.enter()
        pid = os.fork()
        if pid == 0:
            _be_init(launch, rein, tell)
        _tell(tell, "init %d" % pid)
    except OSError as error:
        _refuse(tell, error)
    finally:
        os._exit(0)


def _be_init(launch: "Launch", rein: int, tell: int) -> "NoReturn":
    """Be the first process of a namespace, whose end ends all others, until its last child has ended."""
    try:
        _await(rein)
        subreaper.die_with_parent(_signal.SIGKILL)
        namespace.mount_proc()
        _tell(tell, "ready 0")
        _await(rein)  # whose end would say that our parent went before we asked to die with it
        os.setsid()
        _close_all_but({0, 1, 2, rein, tell, *launch.fds})
        pid = start(launch)
        _close_all_but({0, 1, 2, rein, tell})
        _tell(tell, "started %d" % pid)
        _await(rein)
        _reap_orphans(pid, tell)
    except LaunchError as error:
        _tell(tell, "failed %d %s" % (error.errno or 5, error.what))
    except OSError as error:
        _refuse(tell, error)
    finally:
        os._exit(0)


def _reap_orphans(payload: int, tell: int) -> None:
    """Reap until nobody is left; tell the payload's status when those who died before it are reaped too."""
    ended: "Optional[int]" = None
    while True:
        try:
            pid, status = os.waitpid(-1, 0 if ended is None else os.WNOHANG)
        except ChildProcessError:
            pid = 0
        if pid == payload:
            ended = status
        elif pid == 0 and ended is not None:
            _tell(tell, "%d" % ended)
            _reap_all()
            return


def _await(rein: int) -> None:
    """Go on when the keeper says so, and end when it is gone."""
    if not os.read(rein, 1):
        os._exit(0)


def _tell(tell: int, text: str) -> None:
    os.write(tell, wire.raw(text)[:LINE_MOST] + b"\n")


def _refuse(tell: int, error: OSError) -> None:
    _tell(tell, "refused %s: %s" % (error.filename or "init", error.strerror))


def _close_all_but(kept: "Set[int]") -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:  # the listing's own
                continue
