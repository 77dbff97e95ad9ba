"""What the end of a pilot means: its words, its log and its exit to a reason and one sentence.

The pilot's exit code says nothing of its job (0 for a failed one, a killed one and none), so what it told comes first,
then what its log shows, then how it exited.
"""

from collections.abc import Callable, Mapping

from pilotwrap.model.base import Value
from pilotwrap.model.reasons import Reason
from pilotwrap.run.pilot3.codes import DISGUISES, ERROR_CODES, EXIT_CODES_OF_PILOT, INTERRUPTIONS, Meaning
from pilotwrap.run.pilot3.log import PilotEvent, PilotEventKind

DIAG_MAX = 240
"""Characters of the pilot's own words in our sentence; the server keeps 500 of ours."""

_PILOTS_OWN = 1000
"""Codes from here on are the pilot's; a process cannot exit with one."""

_ROLE_REFUSED = 60
"""StatusCode of the legacy getJob for a credential without the role (panda-server's jobdispatcher/Protocol.py)."""

_SHELL_SIGNAL = 128

_FINAL = frozenset({"finished", "failed"})

_NEVER_RAN: frozenset[Reason] = frozenset({"bad-input", "stage-in", "credential", "panda-queue"})
"""Reasons after which no payload has run."""

_NO_TRANSFORMATION = 1149

_DESTINATION_LOST = frozenset({1098, 1199})
"""Codes for a disk and a directory, of the storage too when an output was on its way (measured: 1199)."""


class PilotWords(Value):
    """What the pilot's last update of its job said; all empty: it never sent one."""

    state: str = ""
    pilot_error_code: int = 0
    pilot_error_diag: str = ""
    exe_error_code: int = 0
    exe_error_diag: str = ""
    trans_exit_code: int | None = None


class PilotStory(Value):
    """All that is known of one pilot's end."""

    exit_code: int | None = None
    signal: int | None = None
    """As the starter says; both None: it has not ended by itself."""

    ended_for: Reason | None = None
    """Why we ended it; None: it ended by itself; `ok`: there was nothing left to wait for; `pilot`: it hung."""

    words: PilotWords = PilotWords()
    asked: bool = False
    """It asked for its job and was given it."""

    log: Mapping[PilotEventKind, PilotEvent] = {}
    """What its log shows: `PilotLog.shown`."""


class PilotEnd(Value):
    """What it means."""

    reason: Reason
    exit_code: int | None
    """The payload's, 128 + N for signal N; None: it did not run, or nobody knows."""

    sentence: str
    """What happened, why, what to do."""


def pilot_words(state: str, arguments: Mapping[str, object]) -> PilotWords:
    """Return what an update said, from its state and its arguments by update_job's names."""
    return PilotWords(
        state=state,
        pilot_error_code=_int(arguments.get("pilot_error_code")) or 0,
        pilot_error_diag=_text(arguments.get("pilot_error_diag")),
        exe_error_code=_int(arguments.get("exe_error_code")) or 0,
        exe_error_diag=_text(arguments.get("exe_error_diag")),
        trans_exit_code=_int(arguments.get("trans_exit_code")),
    )


def pilot_end(story: PilotStory) -> PilotEnd:
    """Return what the pilot's end means; every story has an answer."""
    meaning = next(found for rule in _RULES if (found := rule(story)) is not None)
    code = payload_exit(story)
    return PilotEnd(reason=meaning.reason, exit_code=code, sentence=_sentence(meaning))


def payload_exit(story: PilotStory) -> int | None:
    """Return the payload's exit code, 128 + N for signal N; None: it did not run, or nobody knows.

    The log's comes first: an update's `trans_exit_code` is 200 for a payload that never ran, and 254 for one that was
    ended with its pilot (measured with 3.7.0.36).
    """
    if "payload-ended" in story.log:
        return _shell(story.log["payload-ended"].number)
    said = story.words.trans_exit_code
    if said is None or said >= _PILOTS_OWN or not _ran(story):
        return None
    return _shell(said)


def _ran(story: PilotStory) -> bool:
    """Tell whether the exit code in its last update is its payload's."""
    words = story.words
    if (story.log and "payload" not in story.log) or words.state not in _FINAL:
        return False
    if words.pilot_error_code in INTERRUPTIONS:
        return False
    meaning = ERROR_CODES.get(words.pilot_error_code)
    disguised = DISGUISES.get(words.pilot_error_code) == words.trans_exit_code
    return meaning is None or meaning.reason not in _NEVER_RAN or disguised


def _shell(code: int | None) -> int | None:
    return _SHELL_SIGNAL - code if code is not None and code < 0 else code


def _finished(story: PilotStory) -> Meaning | None:
    return Meaning("ok", "") if story.words.state == "finished" else None


def _ended_by_us(story: PilotStory) -> Meaning | None:
    """Judge by why we ended it, unless its job's end came before."""
    code = story.words.pilot_error_code
    if story.ended_for is None or story.ended_for not in _ENDED_FOR or (code and code not in INTERRUPTIONS):
        return None
    settled = story.log.get("settled")
    before = settled is not None and settled.what == "failed" and "signal" not in story.log
    if before or story.ended_for == "pilot":
        found = _shown(story)
        if found is not None:
            return found
    return Meaning(story.ended_for, _ENDED_FOR[story.ended_for])


def _told(story: PilotStory) -> Meaning | None:
    """Judge by the error code of its last update."""
    words = story.words
    code, payload = words.pilot_error_code, payload_exit(story)
    if not code:
        return None
    if payload is not None and DISGUISES.get(code) == payload:
        return _payload_failed(payload)
    meaning = ERROR_CODES.get(code)
    if code in _DESTINATION_LOST and "stage-out-failed" in story.log:
        meaning = Meaning("stage-out", "an output could not be stored")
    if meaning is None or meaning.reason in {"pilot", "payload-exit"}:
        if payload:
            return _payload_failed(payload)
        meaning = meaning or Meaning("pilot", "it failed the job for a reason that only it knows")
    return Meaning(meaning.reason, f"{meaning.why} (the pilot's code {code}{_diag(story)})")


def _payload_failed(code: int) -> Meaning:
    if code > _SHELL_SIGNAL:
        return Meaning("payload-signal", f"the payload was ended by signal {code - _SHELL_SIGNAL}")
    return Meaning("payload-exit", f"the payload exited with code {code}")


def _shown(story: PilotStory) -> Meaning | None:
    """Judge by what its log shows: the first cause that is there."""
    for kind, cause in _CAUSES:
        event = story.log.get(kind)
        if event is not None:
            found = cause(event, story)
            if found is not None:
                return found
    return None


def _exited(story: PilotStory) -> Meaning | None:
    """Judge by how it exited."""
    if story.signal:
        code = _SHELL_SIGNAL + story.signal
        return EXIT_CODES_OF_PILOT.get(code, Meaning("pilot", f"it was ended by signal {story.signal}"))
    return EXIT_CODES_OF_PILOT.get(story.exit_code) if story.exit_code else None


def _silent(story: PilotStory) -> Meaning:
    """Say what is left to say of a pilot that gave no reason at all."""
    how = "has not ended" if story.exit_code is None else f"exited with {story.exit_code}"
    if story.words.state:
        return Meaning("pilot", f"it {how} without a final update; its last word was {story.words.state!r}")
    if story.asked:
        return Meaning("pilot", f"it took its job and {how} without a word about it")
    return Meaning("pilot", f"it {how} without asking for its job")


_RULES: tuple[Callable[[PilotStory], Meaning | None], ...] = (
    _finished,
    _ended_by_us,
    _told,
    _shown,
    _exited,
    _silent,
)

_ENDED_FOR: Mapping[Reason, str] = {
    "walltime": "the job reached its wall-time limit, and its pilot was ended",
    "cancelled": "the job was cancelled, and its pilot was ended",
    "preempted": "the allocation was taken away, and the pilot was ended",
    "allocation": "the allocation ends, and the pilot was ended",
    "node-lost": "what started the pilot is gone",
    "out-of-memory": "the job used more memory than it may, and its pilot was ended",
    "server": "the server told nothing for so long that the job is no longer ours, and its pilot was ended",
    "pilot": "the pilot hung: it gave no sign of life for too long, and was ended",
}


def _always(reason: Reason, why: str) -> Callable[[PilotEvent, PilotStory], Meaning | None]:
    return lambda event, _story: Meaning(reason, f"{why} ({_clip(event.text)})")


def _jobless(reason: Reason, why: str) -> Callable[[PilotEvent, PilotStory], Meaning | None]:
    """Return a cause that counts only where the pilot got no job: later, it got over it."""
    return lambda event, story: None if "job" in story.log else Meaning(reason, f"{why} ({_clip(event.text)})")


def _job_refused(event: PilotEvent, story: PilotStory) -> Meaning | None:
    if "job" in story.log:
        return None
    if event.number == _ROLE_REFUSED:
        return Meaning("credential", "the server refused the credential's role")
    return Meaning("server", f"the server answered the request for a job with StatusCode {event.number}")


def _no_job(_event: PilotEvent, story: PilotStory) -> Meaning | None:
    return None if "job" in story.log else Meaning("no-work", "the server had no job for the pilot")


def _payload_ended(event: PilotEvent, story: PilotStory) -> Meaning | None:
    code = _shell(event.number)
    interrupted = code is not None and code > _SHELL_SIGNAL and "signal" in story.log
    return None if not code or interrupted else _payload_failed(code)


def _signalled(event: PilotEvent, _story: PilotStory) -> Meaning:
    return Meaning("cancelled", f"somebody sent the pilot {event.what or 'a signal'}")


def _leader(_event: PilotEvent, _story: PilotStory) -> Meaning:
    return Meaning(
        "pilot",
        "it was started as a session leader: its setpgrp was refused (Operation not permitted), and it dropped its job",
        "start it below another process, not by setsid, exec or as a container's first process",
    )


_CAUSES: tuple[tuple[PilotEventKind, Callable[[PilotEvent, PilotStory], Meaning | None]], ...] = (
    ("queue", lambda event, _: Meaning("panda-queue", f"the queue is {event.what or 'not online'}")),
    ("session-leader", _leader),
    ("disk", _always("environment", "the disk is too full")),
    ("killed", _always("cancelled", "the server had the job killed")),
    ("memory", _always("out-of-memory", "the payload used more memory than the job may")),
    ("no-transformation", _always("bad-input", "the transformation was refused or could not be downloaded")),
    ("stage-in-failed", _always("stage-in", "an input could not be fetched")),
    ("payload-ended", _payload_ended),
    ("out-of-time", _always("walltime", "the time that the pilot was given is used up")),
    ("signal", _signalled),
    ("stage-out-failed", _always("stage-out", "an output could not be stored")),
    ("proxy", _jobless("credential", "the credential was refused")),
    ("job-refused", _job_refused),
    (
        "no-job",
        lambda _, story: None if "job" in story.log else Meaning("no-work", "the server had no job for the pilot"),
    ),
    ("queue-data", _jobless("panda-queue", "the queue's data could not be had")),
    ("thread-died", _always("pilot", "a thread of the pilot died")),
    ("server", _jobless("server", "the server did not answer, or made no sense")),
)
"""What a log shows, the surest cause first: a queue that is not ACTIVE explains all that follows."""

_DO: Mapping[Reason, str] = {
    "payload-exit": "read the payload's stderr in the job's log",
    "payload-signal": "read the payload's stderr; signal 9 is often a lack of memory",
    "out-of-memory": "give the job more memory, or a queue with more of it",
    "stage-in": "check that the input is where the queue's storage data say, and its copy tool is installed",
    "stage-out": "check that the payload writes the output, and that the queue's storage takes it",
    "walltime": "give it more wall time, or less to do",
    "bad-input": "give a transformation whose URL begins with one of those that this pilot accepts, and answers",
    "node-unusable": "run `pilotwrap inspect` on the node, and tell the site's staff",
    "image": "check the container's image and runtime on this node",
    "environment": "free some disk under the pilot's directory, or load what is missing, as the sentence says",
    "credential": "renew the credential, or use one with the role production",
    "panda-queue": "check the queue's name, and that its state is ACTIVE and its status online",
    "server": "check the server's URL and the network from this node",
    "no-work": "check that the queue has activated jobs that fit this node",
    "preempted": "submit it again",
    "cancelled": "ask whoever cancelled it: the server, or who signalled the run",
    "pilot": "read the pilot's stdout in the job's directory, and try `pilotwrap doctor` on this node",
}


def _sentence(meaning: Meaning) -> str:
    if meaning.reason == "ok":
        return "the pilot finished its job"
    remedy = meaning.do or _DO.get(meaning.reason, "")
    what = f"the pilot failed: {meaning.why}" if meaning.why.startswith("it ") else meaning.why
    return what + (f"; {remedy}" if remedy else "")


def _diag(story: PilotStory) -> str:
    """Return the words behind an error code: the log's where the pilot tells the server nothing but the code's name."""
    words = story.words
    refused = story.log.get("no-transformation") if words.pilot_error_code == _NO_TRANSFORMATION else None
    diag = refused.text if refused is not None else words.pilot_error_diag or words.exe_error_diag
    return f": {_clip(diag)}" if diag else ""


def _clip(text: str) -> str:
    return " ".join(text.split())[:DIAG_MAX]


def _int(value: object) -> int | None:
    """Return an argument's number: pilots send numbers as text, too."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
