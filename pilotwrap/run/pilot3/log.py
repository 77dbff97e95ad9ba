"""What a pilot says on its stdout, line by line, as typed events with their times.

Read its stdout, not its pilotlog.txt: it opens that file anew after each job, so what it said of the job is gone
(measured with 3.7.0.36). Phrases were read in pilot3 3.7.0.36 and 3.11.5.1; `where` names the file that says each.
"""

import calendar
import re
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from pilotwrap.model.base import Value

PilotEventKind = Literal[
    "version",
    "no-job",
    "job-refused",
    "job",
    "validated",
    "told",
    "stage-in",
    "staged-in",
    "stage-in-failed",
    "fetching",
    "transformation",
    "no-transformation",
    "payload",
    "payload-ended",
    "stage-out",
    "staged-out",
    "stage-out-failed",
    "settled",
    "log-wait",
    "completed",
    "final",
    "sleep",
    "disk",
    "proxy",
    "queue",
    "queue-data",
    "server",
    "session-leader",
    "thread-died",
    "signal",
    "killed",
    "out-of-time",
    "memory",
    "error-code",
    "ending",
    "ended",
]
"""What a line means. `told`: a state went to the server; `settled`: the job's end is known to it and its files are away
or lost, all that follows is waiting (115 s for a failed job) and the final update; `completed`: that update goes out;
`final`: the server has taken it; `no-transformation`: refused or not to be had; `ending`: it has begun to wind down."""

TROUBLES: frozenset[PilotEventKind] = frozenset(
    {
        "job-refused",
        "stage-in-failed",
        "no-transformation",
        "stage-out-failed",
        "disk",
        "proxy",
        "queue",
        "queue-data",
        "server",
        "session-leader",
        "thread-died",
        "signal",
        "killed",
        "out-of-time",
        "memory",
    }
)
"""Kinds that say that something went wrong."""

LINE_MAX = 4096
"""Bytes of a line that are read; a job definition or a payload's tail may be one line of a megabyte."""

TEXT_MAX = 500
KEPT_ERRORS = 20

_UPDATE_SLEEP_S = 120.0
"""`update_sleep` in pilot/util/default.cfg of both versions: between two tries of an update, announced by no line."""


class PilotEvent(Value):
    """One thing that the pilot said."""

    at: float | None
    """Seconds since the epoch; None before the first line with a time. The pilot's lines are in UTC."""

    kind: PilotEventKind
    text: str
    """The line's message, cut to 500 characters."""

    what: str = ""
    """The word in it: version, job id, state, signal's name."""

    number: int | None = None
    """The number in it: a process id, an exit code (-N: signal N), an error code, a try's number."""

    sleeps_s: float = 0.0
    """Seconds that it sleeps from now on; negative: that it has slept until now."""


class Phrase(NamedTuple):
    """A line to know: `pattern` is matched from its start."""

    kind: PilotEventKind
    pattern: re.Pattern[str]
    where: str
    sleeps_s: float = 0.0


def _phrase(kind: PilotEventKind, pattern: str, where: str, sleeps_s: float = 0.0) -> Phrase:
    return Phrase(kind, re.compile(pattern), where, sleeps_s)


PHRASES: tuple[Phrase, ...] = (
    _phrase("version", r"\*\*\*  PanDA Pilot version (?P<what>\S+)", "util/auxiliary.py"),
    _phrase("queue", r"specified queue is (?P<what>NOT ACTIVE|OFFLINE)\b", "pilot.py"),
    _phrase("queue-data", r"failed to (?:load|parse) data from (?:url|source)", "info/dataloader.py"),
    _phrase("sleep", r"will try again after (?P<sleep>\d+) ?s", "info/dataloader.py, user/generic/setup.py"),
    _phrase("disk", r"too little space left on local disk", "util/monitoring.py"),
    _phrase("disk", r"work directory \(.*\) is too large", "util/monitoring.py"),
    _phrase("proxy", r"(?:OIDC_AUTH_TOKEN/)?PANDA_AUTH_TOKEN content could not be read", "util/https.py"),
    _phrase("proxy", r"did not find any local token file", "util/https.py"),
    _phrase("proxy", r"token could not be located", "util/https.py"),
    _phrase("proxy", r"json\.loads\(\) failed to parse output=ERROR : Token", "util/https.py"),
    _phrase("proxy", r"failed to send request: HTTP Error 403", "util/https.py 3.11"),
    _phrase("proxy", r"(?:proxy is too short|cert/proxy is about to expire|arcproxy failed)", "user/atlas/proxy.py"),
    _phrase("proxy", r"(?:voms|grid) proxy certificate (?:does not exist|check failure)", "user/atlas/proxy.py"),
    _phrase("server", r"failed to send request", "util/https.py 3.11"),
    _phrase("server", r"request failed for IPv=", "util/https.py"),
    _phrase("server", r"json\.loads\(\) failed to parse output=", "util/https.py"),
    _phrase("server", r"fatal error in job download loop", "control/job.py"),
    _phrase("server", r"too much time has passed since last successful heartbeat", "control/monitor.py"),
    _phrase("server", r"server update attempt (?P<number>(?!1/)\d+)/", "util/https.py", -_UPDATE_SLEEP_S),
    _phrase("no-job", r"job definition = \{'StatusCode': '?20\b", "control/job.py"),
    _phrase("job-refused", r"job definition = \{'StatusCode': '?(?P<number>[1-9]\d*)", "control/job.py"),
    _phrase("no-job", r"did not get a job -- sleep (?P<sleep>\d+) ?s", "control/job.py"),
    _phrase("no-job", r"did not get a job", "control/job.py"),
    _phrase("job", r"received job: (?P<what>\d+)", "control/job.py"),
    _phrase("validated", r"processing PanDA job (?P<what>\d+)", "control/job.py"),
    _phrase("told", r"job \d+ has state '(?P<what>\w+)' - ", "control/job.py"),
    _phrase("stage-in", r"ready to transfer \(stage-in\)", "api/data.py"),
    _phrase("staged-in", r"stage-in finished", "control/data.py"),
    _phrase("stage-in-failed", r"(?:stage-in failed|failed to stage-in)", "control/data.py"),
    _phrase("fetching", r"executing command \[trial (?P<number>\d+)/\d+\]: curl", "user/generic/setup.py 3.7"),
    _phrase("fetching", r"downloading file \S+ \[trial (?P<number>\d+)/", "user/generic/setup.py 3.11"),
    _phrase("transformation", r"successfully downloaded script", "user/generic/setup.py"),
    _phrase("no-transformation", r"could not download transform", "user/generic/setup.py"),
    _phrase("no-transformation", r"could not define payload command", "control/payloads/generic.py"),
    _phrase("payload", r"started -- pid=(?P<number>\d+)", "control/payloads/generic.py"),
    _phrase("payload-ended", r"main payload execution returned zero exit code(?P<number>)", "control/payload.py"),
    _phrase("memory", r"found memory error", "control/payload.py"),
    _phrase("memory", r"job has exceeded the memory limit", "user/atlas/memory.py"),
    _phrase("stage-out", r"will perform stage-out for job", "control/data.py"),
    _phrase("staged-out", r"stage-out finished correctly", "control/data.py"),
    _phrase("stage-out-failed", r"(?:stage-out failed|transfer of output file\(s\) failed)", "control/data.py"),
    _phrase("stage-out-failed", r"(?:log transfer failed|job \d+ failed during stage-out)", "control/data.py"),
    _phrase("stage-out-failed", r"output (?:pfn file/directory does not exist|file has size zero)", "api/data.py"),
    _phrase("settled", r"preparing for final server update for job \d+ in state='(?P<what>\w+)'", "control/job.py"),
    _phrase("log-wait", r"waiting for log transfer to finish \(#(?P<number>\d+)", "control/job.py", 2.0),
    _phrase("completed", r"this job has now completed \(state=(?P<what>\w+)", "control/job.py"),
    _phrase("final", r"setting job as completed \(state=(?P<what>\w+)", "control/job.py"),
    _phrase("sleep", r"since job:queue_monitor is responsible .* sleep for (?P<sleep>\d+) s", "control/job.py"),
    _phrase("sleep", r"waiting for thread to finish", "util/processes.py", 2.0),
    _phrase("session-leader", r"thread 'validate' received .*\[Errno 1\] Operation not permitted", "control/job.py"),
    _phrase("thread-died", r"thread '(?P<what>\w+)' received an exception", "control/job.py"),
    _phrase("thread-died", r"thread '(?P<what>\w+)' is not alive", "control/monitor.py"),
    _phrase("thread-died", r"main pilot function caught exception", "pilot.py"),
    _phrase("signal", r"caught signal: (?P<what>SIG\w+)", "workflow/generic.py"),
    _phrase("killed", r"pilot received a panda server signal to (?:soft)?kill job", "control/job.py"),
    _phrase("killed", r"tobekilled seen by job_monitor", "control/job.py"),
    _phrase("out-of-time", r"(?:max running time \(|.{0,60}shutdowntime \()", "control/monitor.py"),
    _phrase("out-of-time", r"setting REACHED_MAXTIME", "control/monitor.py"),
    _phrase("error-code", r"error \d+/\d+: (?P<number>\d+): (?P<what>.*)", "control/job.py"),
    _phrase("ending", r"pilot monitor received instruction that args\.graceful_stop", "control/monitor.py"),
    _phrase("ending", r"\w+:\w+:received graceful stop", "util/common.py"),
    _phrase("ended", r"pilot has finished \(exit code=-?\d+, shell exit code=(?P<number>\d+)", "pilot.py"),
)
"""Matched in this order, the first one wins; only at the start of a message, so that a job cannot say them for it."""

_INNER: tuple[Phrase, ...] = (
    _phrase("payload-ended", r"finished pid=\d+ exit_code=(?P<number>-?\d+|None) ", "control/payloads/generic.py"),
    _phrase("session-leader", r"    os\.setpgrp\(\)", "control/job.py"),
    _phrase("no-transformation", r"details: \(['\"]invalid base URL: (?P<what>[^'\"]+)", "user/generic/setup.py"),
)
"""Phrases of lines that carry no time of their own: the rest of a message of several lines, or a traceback."""

_HEAD = re.compile(r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(?P<ms>\d{3}) \| (?P<level>[A-Z]+) *\| (?P<rest>.*)")
_DEBUG = re.compile(r"\S+ +\| \S+ +\| (?P<rest>.*)")
"""With `-d` the logger's and the function's names stand before the message (util/loggingsupport.py)."""

_SERIOUS = frozenset({"ERROR", "CRITICAL", "FATAL"})


class PilotLog:
    """Reads a pilot's stdout as it comes: bytes in, events out; keeps little, whatever comes."""

    def __init__(self) -> None:
        self._rest = b""
        self._at: float | None = None
        self._errors: deque[str] = deque(maxlen=KEPT_ERRORS)
        self._shown: dict[PilotEventKind, PilotEvent] = {}

    @property
    def errors(self) -> tuple[str, ...]:
        """Return the last lines that speak of trouble, the oldest first, each once."""
        return tuple(dict.fromkeys(self._errors))

    @property
    def shown(self) -> Mapping[PilotEventKind, PilotEvent]:
        """Return one event of each kind: the first of a trouble (its cause), the last of all else."""
        return dict(self._shown)

    @property
    def last_at(self) -> float | None:
        """Return when it last said anything, known or not: its sign of life, in seconds since the epoch."""
        return self._at

    def feed(self, chunk: bytes) -> tuple[PilotEvent, ...]:
        """Return what the lines say that this chunk completes; any bytes are taken."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[:LINE_MAX]
        return tuple(event for line in lines for event in self._line(line))

    def close(self) -> tuple[PilotEvent, ...]:
        """Return what an unfinished last line says."""
        rest, self._rest = self._rest, b""
        return tuple(self._line(rest))

    def _line(self, raw: bytes) -> Iterable[PilotEvent]:
        line = raw[:LINE_MAX].decode(errors="replace").rstrip("\r")
        head = _HEAD.match(line)
        if head is None:
            event = _event(line, _INNER, self._at)
        else:
            self._at = _seconds(head["at"], head["ms"])
            debug = _DEBUG.match(head["rest"])
            message = head["rest"] if debug is None else debug["rest"]
            event = _event(message, PHRASES, self._at)
            if head["level"] in _SERIOUS:
                self._errors.append(message[:TEXT_MAX])
        if event is None:
            return ()
        if event.kind in TROUBLES:
            self._errors.append(event.text)
            self._shown.setdefault(event.kind, event)
        else:
            self._shown[event.kind] = event
        return (event,)


def _event(message: str, phrases: Iterable[Phrase], at: float | None) -> PilotEvent | None:
    for phrase in phrases:
        found = phrase.pattern.match(message)
        if found is not None:
            words = found.groupdict()
            return PilotEvent(
                at=at,
                kind=phrase.kind,
                text=message[:TEXT_MAX],
                what=(words.get("what") or "")[:TEXT_MAX],
                number=_number(words.get("number")),
                sleeps_s=float((words.get("sleep") or "")[:9] or phrase.sleeps_s),
            )
    return None


def _number(word: str | None) -> int | None:
    """Return a phrase's number: "" stands for 0, `None` (an exit code that the pilot did not get) for none."""
    if word is None or word == "None":
        return None
    return int(word[:12]) if word else 0


def _seconds(at: str, milliseconds: str) -> float | None:
    try:
        return calendar.timegm(time.strptime(at, "%Y-%m-%d %H:%M:%S")) + int(milliseconds) / 1000
    except (ValueError, OverflowError):
        return None


def wasted(events: Iterable[PilotEvent], ended_at: float | None = None) -> float:
    """Return the seconds that the pilot spent in its own sleeps, and after its job was settled, until `ended_at`.

    Sleeps of several threads at once count once; `ended_at` (seconds since the epoch) is the last event's time unless
    given: a sleep that was announced and cut short counts as long as it was.
    """
    timed = [(event.at, event) for event in events if event.at is not None]
    if not timed:
        return 0.0
    end = max(at for at, _ in timed) if ended_at is None else ended_at
    spans = sorted(_span(at, event, end) for at, event in timed)
    total, until = 0.0, 0.0
    for begin, stop in spans:
        total += max(0.0, min(stop, end) - max(begin, until))
        until = max(until, stop)
    return round(total, 3)


def _span(at: float, event: PilotEvent, end: float) -> tuple[float, float]:
    if event.kind in {"settled", "final", "ending"}:
        return at, max(at, end)
    return min(at, at + event.sleeps_s), max(at, at + event.sleeps_s)
