"""The rank shim: what the launcher starts once per rank, on the host; it binds, checks, runs, and leaves nothing."""

import posix as os  # the same calls, without the 1.3 ms and 30 opened files of `os`
import sys
import time

from pilotwrap.host import cpulist, descendants, spawn, subreaper, ward, wire
from pilotwrap.host.launch import Launch, LaunchError, cooked, start
from pilotwrap.host.wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Callable, Dict, List, NoReturn, Optional, Set, Tuple

    from pilotwrap.host.sink import Drains
else:
    import _signal

# None of these is used by a shell (126 and up) or by sysexits.h (64 to 78).
BINDING_EXIT = 121
LAUNCHER_EXIT = 122

# Beats come every 2 s; a busy node or launcher may lose a few.
BEAT_MISSED_S = 15.0

# Bytes of a file that is meant to be read (a guess).
OUTPUT_MOST = 1 << 40

# Linux counts no more (MAXSMP's NR_CPUS).
CPUS_MOST = 8192

# A day (a guess): longer than any allocation's own grace.
GRACE_MOST_S = 86400

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
        self.begun = wire.text(order, "begun", "")
        self.environment = environment
        self._names = {kind: wire.texts(order, kind) for kind in ("rank", "local_rank")}

    def check(self) -> None:
        """Raise `UnfitError` when the launcher did not say which rank this is."""
        for kind, names in self._names.items():
            if not _is_number(getattr(self, kind)):
                raise UnfitError("launcher", "no %s: none of %s is set to a number" % (kind, " ".join(names)))

    def mark(self) -> None:
        """Let the controller see that the launcher has begun, where it asked for that: rank 0 does it for all."""
        if self.begun and int(self.rank) == 0:
            try:
                os.close(os.open(wire.raw(self.begun), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            except OSError as error:
                _say("cannot write %s: %s" % (self.begun, error.strerror))

    def tell(self, code: "Optional[int]", **more: object) -> None:
        """Leave a word about an end that is not exit 0, if there is a folder for it; `more` are other keys of it."""
        if not self.results:
            return
        result: "Dict[str, object]" = {
            "rank": int(self.rank) if _is_number(self.rank) else None,
            "local_rank": int(self.local_rank) if _is_number(self.local_rank) else None,
            "host": self.host,
            "exit_code": code,
            "signal": None,
            "reason": None,
            "detail": "",
            "ended_by": "",
            "left": 0,
        }
        result.update(more)
        name = self.rank if _is_number(self.rank) else "unknown-%s-%d" % (self.host, os.getpid())
        path = self.results + "/rank-" + name + ".json"
        try:
            fd = os.open(wire.raw(path + ".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            os.write(fd, wire.line(result))
            os.close(fd)
            os.rename(wire.raw(path + ".new"), wire.raw(path))
        except OSError as error:
            _say("cannot write %s: %s" % (path, error.strerror))


def run(path: str) -> "NoReturn":
    """Be `main`, and end without the 2 ms in which an interpreter takes itself apart."""
    code = main(path)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # closed from the beginning
                stream.flush()
        except (OSError, ValueError):  # noqa: PERF203 - of two
            continue
    os._exit(code)  # noqa: SLF001 - its name everywhere


def main(path: str) -> int:
    """Run the rank that FILE describes; its exit code, or 128 + N for a signal, 121 for a false binding.

    Where the file asks for that, a bad end is made a signal's for launchers that take no notice of a code.
    """
    try:
        order = _order(path)
        environment = cooked(os.environ)
        rank = Rank(order, environment)
        payload = Payload(order, environment)
        bindings = [Promise(one) for one in wire.mappings(order, "bindings")]
    except (OSError, ValueError) as error:
        _say("cannot use %s: %s" % (path, error))
        return LAUNCHER_EXIT
    code = _be(rank, payload, bindings)
    if code and payload.fail_by == "signal":
        sys.stderr.flush()
        os.kill(os.getpid(), _signal.SIGKILL)
    return code


def _be(rank: Rank, payload: "Payload", bindings: "List[Promise]") -> int:
    try:
        rank.check()
        rank.mark()
        payload.launch.env.update(_bound(bindings, rank))
        return _run(payload, rank)
    except UnfitError as error:
        code = BINDING_EXIT if error.reason == "binding" else LAUNCHER_EXIT
        rank.tell(code, reason=error.reason, detail=str(error))
        _say(str(error))
        return code


def _order(path: str) -> "Dict[str, object]":
    order = wire.message(descendants.content(path, FILE_MOST).encode("utf-8"))
    if order.get("protocol") != wire.PROTOCOL:
        raise wire.GarbledError("protocol %r is not %d" % (order.get("protocol"), wire.PROTOCOL))
    return order


class Payload:
    """What a rank runs and how it is ended, as its file says; a wrong value is a `ValueError`."""

    def __init__(self, order: "Dict[str, object]", environment: "Dict[str, str]") -> None:
        self.launch = Launch(wire.texts(order, "argv"), spawn.environment_of(order, environment))
        self.launch.cwd = wire.text(order, "cwd", "")
        self.launch.dies_with_parent = True
        self.grace_s = wire.number(order, "grace_s", spawn.GRACE_S)
        if not 0 <= self.grace_s <= GRACE_MOST_S:
            raise wire.GarbledError("grace_s must be 0 to %d, not %r" % (GRACE_MOST_S, self.grace_s))
        self.fail_by = wire.text(order, "fail_by", "code")
        self.output = wire.text(order, "output", "")
        cap = wire.number(order, "output_cap", spawn.OUTPUT_CAP)
        if not 0 <= cap <= OUTPUT_MOST or self.fail_by not in ("code", "signal"):
            raise wire.GarbledError("output_cap %r, fail_by %r" % (cap, self.fail_by))
        self.output_cap = int(cap)
        for text in (self.launch.cwd, self.output, wire.text(order, "results", ""), wire.text(order, "begun", "")):
            if b"\0" in wire.raw(text):
                raise wire.GarbledError("not a path: %r" % text)


class Promise:
    """What one local rank was promised; a wrong value is a `ValueError`."""

    def __init__(self, binding: "Dict[str, object]") -> None:
        self.local_rank = wire.number(binding, "local_rank")
        self.cpus = wire.text(binding, "cpus", "")
        given = wire.mapping(binding, "env")
        self.env = {name: wire.text(given, name) for name in given}
        self.devices = spawn.devices_of(binding)
        if any("/" in one or "\0" in one for found in self.devices.values() for one in found):
            raise wire.GarbledError("not addresses: %r" % (self.devices,))
        self.promised = cpulist.numbers(self.cpus, CPUS_MOST)


def _bound(bindings: "List[Promise]", rank: Rank) -> "Dict[str, str]":
    """Bind this process as promised, and return what its environment gets for it."""
    mine = [binding for binding in bindings if binding.local_rank == int(rank.local_rank)]
    if bindings and not mine:
        raise UnfitError("binding", "local rank %s: the plan has no binding for it" % rank.local_rank)
    env = {"PILOTWRAP_RANK": rank.rank, "PILOTWRAP_LOCAL_RANK": rank.local_rank}
    if rank.size:
        env["PILOTWRAP_SIZE"] = rank.size
    for binding in mine:
        bind(binding.cpus, binding.promised)
        _look_for(binding.devices, rank)
        env.update(binding.env)
    return env


def _look_for(devices: "Dict[str, List[str]]", rank: Rank) -> None:
    """Raise `UnfitError` if these devices are not here as they were promised."""
    if devices:
        from pilotwrap.host import promise  # files that most ranks need not open

        trouble = promise.broken(devices, rank.environment)
        if trouble:
            raise UnfitError("binding", trouble)


def bind(cpus: str, promised: "Set[int]") -> None:
    """Set this process's CPUs, and raise `UnfitError` if those it got are not those promised."""
    if not cpus:
        return
    refusal = ""
    try:
        os.sched_setaffinity(0, promised)
    except OSError as error:
        refusal = " (%s)" % error.strerror
    got = os.sched_getaffinity(0)
    if got != promised:
        raise UnfitError("binding", "promised the CPUs %s, got %s%s" % (cpus, cpulist.written(got), refusal))


def _run(payload: Payload, rank: Rank) -> int:
    subreaper.become()
    wakeup = Wakeup([_signal.SIGCHLD, _signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP])
    drains = None
    if payload.output:
        from pilotwrap.host.sink import Drains  # files that most ranks need not open

        drains = Drains()
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    payload.launch.fds = (null, *_outputs(payload, rank, drains))
    try:
        pid = start(payload.launch)
    except LaunchError as error:
        refused = 127 if error.errno == 2 else 126  # noqa: PLR2004 - ENOENT, and the codes that shells give
        detail = "cannot %s: %s" % (error.what, error.strerror)
        rank.tell(refused, detail=detail)
        _say(detail)
        return refused
    for fd in payload.launch.fds[1:]:
        if fd > 2:  # noqa: PLR2004 - ours, not the inherited ones
            os.close(fd)
    kept = Kept(pid, reach="below")
    ended_by = _watch(kept, wakeup, payload.grace_s, drains)
    if drains:
        drains.close()
    code, number = ward.exit_code(kept.status), ward.end_signal(kept.status)
    if code != 0:
        rank.tell(code, signal=number, ended_by=ended_by, left=kept.left)
    return code if code is not None else 128 + (number or _signal.SIGKILL)


class Kept(ward.Ward):
    """A payload whose usage nobody asks for: its keeper will, and wait4(2) makes Python open a file."""

    def waited(self) -> "Tuple[int, int]":
        """Return who has died and how."""
        return os.waitpid(-1, os.WNOHANG)


def _outputs(payload: Payload, rank: Rank, drains: "Optional[Drains]") -> "Tuple[int, int]":
    """Return where the payload's words go: to the launcher, or into files of this rank's own."""
    if drains is None:
        return 1, 2
    base = payload.output + "/" + rank.rank
    try:
        return drains.open(base + ".out", payload.output_cap), drains.open(base + ".err", payload.output_cap)
    except OSError as error:
        raise UnfitError("environment", "cannot write %s: %s" % (base, error.strerror)) from error


def _watch(kept: ward.Ward, wakeup: Wakeup, grace_s: float, drains: "Optional[Drains]") -> str:
    """Wait for the payload's end, or bring it about; who ended it, if not itself."""
    ended_by = ""
    lifeline = Lifeline()
    import select  # a file to be opened while the payload begins

    readers = _readers(lifeline, drains)
    poll = select.poll()
    for fd in (wakeup.fd, *readers):
        poll.register(fd, select.POLLIN)
    while not kept.gone:
        for fd, _what in poll.poll(_sooner_ms(kept.wait_s(), lifeline.wait_s())):
            if fd == wakeup.fd:
                ended_by = _passed_on(kept, wakeup, grace_s, ended_by)
            elif not readers[fd](fd):
                poll.unregister(fd)
        if lifeline.cut() and not kept.ending:
            ended_by = ended_by or "the head is gone"
            kept.signal(_signal.SIGTERM, grace_s)
        kept.advance()
    return ended_by


def _readers(lifeline: "Lifeline", drains: "Optional[Drains]") -> "Dict[int, Callable[[int], bool]]":
    """Return what reads each descriptor, and is false at its end."""
    found: "Dict[int, Callable[[int], bool]]" = dict.fromkeys(lifeline.fds, lifeline.read)
    if drains:
        found.update(dict.fromkeys(drains.fds, drains.take))
    return found


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

    def read(self, fd: int) -> bool:
        """Take the beats that have come; false at the end."""
        try:
            data = os.read(fd, 4096)
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


def _is_number(text: str) -> bool:
    return 0 < len(text) < 10 and all("0" <= digit <= "9" for digit in text)  # noqa: PLR2004 - what all interfaces hold


def _say(text: str) -> None:
    plain = text.encode("utf-8", "backslashreplace").decode("utf-8")
    print("pilotwrap shim: " + " ".join(plain.splitlines()), file=sys.stderr)
