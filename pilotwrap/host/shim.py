"""The rank shim: what the launcher starts once per rank, on the host; it binds, checks, runs, and leaves nothing."""

import os
import select
import sys
import time

from pilotwrap.host import cpulist, descendants, pci, promise, spawn, subreaper, ward, wire
from pilotwrap.host.launch import Launch, LaunchError, own_environment, start
from pilotwrap.host.wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Callable, Dict, List, Optional
else:
    import _signal

# None of these is used by a shell (126 and up) or by sysexits.h (64 to 78).
BINDING_EXIT = 121
LAUNCHER_EXIT = 122

# Beats come every 2 s; a busy node or launcher may lose a few.
BEAT_MISSED_S = 15.0

# A plan for a node of hundreds of ranks, each with its environment.
FILE_MOST = 16 << 20


class UnfitError(Exception):
    """This rank cannot run: `reason` is "binding" or "launcher", the text says what differs."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Rank:
    """Who this rank is: by the first of each kind of variable that the launcher has set."""

    def __init__(self, order: "Dict[str, object]", environment: "Dict[str, str]") -> None:
        self.rank = _set(wire.texts(order, "rank"), environment)
        self.local_rank = _set(wire.texts(order, "local_rank"), environment)
        self.size = _set(wire.texts(order, "size"), environment)
        self.host = _set(wire.texts(order, "host"), environment) or os.uname().nodename
        self.results = wire.text(order, "results", "")

    def check(self, order: "Dict[str, object]") -> None:
        """Raise `UnfitError` when the launcher did not say which rank this is."""
        for kind in ("rank", "local_rank"):
            if not getattr(self, kind).isdigit():
                raise UnfitError("launcher", "no %s: none of %s is set" % (kind, " ".join(wire.texts(order, kind))))

    def tell(self, code: "Optional[int]", number: "Optional[int]", reason: "Optional[str]", detail: str) -> None:
        """Leave a word about an end that is not exit 0, if there is a folder for it."""
        if not self.results:
            return
        result: "Dict[str, object]" = {
            "rank": int(self.rank) if self.rank.isdigit() else None,
            "local_rank": int(self.local_rank) if self.local_rank.isdigit() else None,
            "host": self.host,
            "exit_code": code,
            "signal": number,
            "reason": reason,
            "detail": detail,
        }
        name = self.rank if self.rank.isdigit() else "unknown-%s-%d" % (self.host, os.getpid())
        path = self.results + "/rank-" + name + ".json"
        try:
            fd = os.open(wire.raw(path + ".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            os.write(fd, wire.line(result))
            os.close(fd)
            os.rename(wire.raw(path + ".new"), wire.raw(path))
        except OSError as error:
            _say("cannot write %s: %s" % (path, error.strerror))


def main(path: str) -> int:
    """Run the rank that FILE describes; its exit code, or 128 + N for a signal, 121 for a false binding."""
    try:
        order = _order(path)
        environment = own_environment()
        rank = Rank(order, environment)
        grace_s = wire.number(order, "grace_s", spawn.GRACE_S)
        launch = _launch(order, environment)
        bindings = wire.mappings(order, "bindings")
    except (OSError, wire.GarbledError) as error:
        _say("cannot use %s: %s" % (path, error))
        return LAUNCHER_EXIT
    try:
        rank.check(order)
        launch.env.update(_bound(bindings, rank, pci.place_below(environment.get(pci.SYSROOT, ""))))
    except UnfitError as error:
        code = BINDING_EXIT if error.reason == "binding" else LAUNCHER_EXIT
        rank.tell(code, None, error.reason, str(error))
        _say(str(error))
        return code
    return _run(launch, rank, grace_s)


def _order(path: str) -> "Dict[str, object]":
    order = wire.message(descendants.content(path, FILE_MOST).encode("utf-8"))
    if order.get("protocol") != wire.PROTOCOL:
        raise wire.GarbledError("protocol %r is not %d" % (order.get("protocol"), wire.PROTOCOL))
    return order


def _launch(order: "Dict[str, object]", environment: "Dict[str, str]") -> Launch:
    launch = Launch(wire.texts(order, "argv"), spawn.environment_of(order, environment))
    launch.cwd = wire.text(order, "cwd", "")
    return launch


def _bound(bindings: "List[Dict[str, object]]", rank: Rank, place: "Callable[[str], str]") -> "Dict[str, str]":
    """Bind this process as promised, and return what its environment gets for it."""
    mine = [binding for binding in bindings if wire.number(binding, "local_rank") == int(rank.local_rank)]
    if bindings and not mine:
        raise UnfitError("binding", "local rank %s: the plan has no binding for it" % rank.local_rank)
    env = {"PILOTWRAP_RANK": rank.rank, "PILOTWRAP_LOCAL_RANK": rank.local_rank}
    if rank.size:
        env["PILOTWRAP_SIZE"] = rank.size
    for binding in mine:
        bind(wire.text(binding, "cpus", ""))
        trouble = promise.broken(binding, place)
        if trouble:
            raise UnfitError("binding", trouble)
        given = wire.mapping(binding, "env")
        env.update({name: wire.text(given, name) for name in given})
    return env


def bind(cpus: str) -> None:
    """Set this process's CPUs, and raise `UnfitError` if those it got are not those promised."""
    if not cpus:
        return
    promised = cpulist.numbers(cpus)
    refusal = ""
    try:
        os.sched_setaffinity(0, promised)
    except OSError as error:
        refusal = " (%s)" % error.strerror
    got = os.sched_getaffinity(0)
    if got != promised:
        raise UnfitError("binding", "promised the CPUs %s, got %s%s" % (cpus, cpulist.written(got), refusal))


def _run(launch: Launch, rank: Rank, grace_s: float) -> int:
    subreaper.become()
    wakeup = Wakeup([_signal.SIGCHLD, _signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP])
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    launch.fds = (null, 1, 2)
    try:
        pid = start(launch)
    except LaunchError as error:
        refused = 127 if error.errno == 2 else 126  # noqa: PLR2004 - ENOENT, and the codes that shells give
        detail = "cannot %s: %s" % (error.what, error.strerror)
        rank.tell(refused, None, None, detail)
        _say(detail)
        return refused
    kept = ward.Ward(pid, reach="below")
    ended_by = _watch(kept, wakeup, grace_s)
    code, number = ward.exit_code(kept.status), ward.end_signal(kept.status)
    if code != 0:
        detail = "%s; %d left behind" % (ended_by, kept.left) if kept.left else ended_by
        rank.tell(code, number, None, detail)
    return code if code is not None else 128 + (number or _signal.SIGKILL)


def _watch(kept: ward.Ward, wakeup: Wakeup, grace_s: float) -> str:
    """Wait for the payload's end, or bring it about; who ended it, if not itself."""
    ended_by = ""
    lifeline = Lifeline()
    poll = select.poll()
    for fd in [wakeup.fd, *lifeline.fds]:
        poll.register(fd, select.POLLIN)
    while not kept.gone:
        for fd, _what in poll.poll(_sooner_ms(kept.wait_s(), lifeline.wait_s())):
            if fd == wakeup.fd:
                ended_by = _passed_on(kept, wakeup, grace_s, ended_by)
            elif not lifeline.read():
                poll.unregister(fd)
        if lifeline.cut() and not kept.ending:
            ended_by = ended_by or "the head is gone"
            kept.signal(_signal.SIGTERM, grace_s)
        kept.advance()
    return ended_by


def _sooner_ms(*waits_s: "Optional[float]") -> "Optional[int]":
    """Milliseconds until the first of the waits is over, as poll(2) wants them; None: for as long as it takes."""
    known = [wait_s for wait_s in waits_s if wait_s is not None]
    return int(max(0.0, min(known)) * 1000) + 1 if known else None


def _passed_on(kept: ward.Ward, wakeup: Wakeup, grace_s: float, ended_by: str) -> str:
    """End the payload for each signal that asks for it; who ended it, the first one counting."""
    for number in wakeup.arrived():
        if number != _signal.SIGCHLD:
            ended_by = ended_by or "ended by signal %d" % number
            kept.signal(_signal.SIGTERM, grace_s)
    return ended_by


class Lifeline:
    """Our standard input, if a keeper's beats come through it.

    srun hands every rank a pipe, also when its own input is /dev/null: only a pipe in which there once was a beat
    is a lifeline. Its end, or beats that stay away (KILL of srun with its helper tells the ranks nothing), mean that
    nobody is left at the other end.
    """

    def __init__(self) -> None:
        mode = os.fstat(0).st_mode >> 12
        # S_IFIFO and S_IFSOCK; a terminal, a file and /dev/null are no lifeline
        self.fds = [0] if mode in (0o01, 0o14) else []
        self._beat_at: "Optional[float]" = None
        self._ended = False

    def read(self) -> bool:
        """Take the beats that have come; false at the end."""
        try:
            data = os.read(0, 4096)
        except OSError:
            data = b""
        if data:
            self._beat_at = time.monotonic()
        else:
            self._ended = True
        return bool(data)

    def cut(self) -> bool:
        """Whether the other end is gone."""
        if self._beat_at is None:
            return False
        return self._ended or time.monotonic() - self._beat_at > BEAT_MISSED_S

    def wait_s(self) -> "Optional[float]":
        """Return after how long the next beat is missed."""
        if self._beat_at is None or self._ended:
            return None
        return max(0.0, self._beat_at + BEAT_MISSED_S - time.monotonic())


def _set(names: "List[str]", environment: "Dict[str, str]") -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _say(text: str) -> None:
    print("pilotwrap shim: " + text, file=sys.stderr)
