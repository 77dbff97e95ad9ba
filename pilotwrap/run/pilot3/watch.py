"""One pilot, as it is seen from outside: its log, its words, its signs of life, and what its end means."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pilotwrap.panda.legacy import file_report_of
from pilotwrap.run.pilot3.end import PilotStory, PilotWords, pilot_end, pilot_words
from pilotwrap.run.pilot3.log import PilotLog, wasted
from pilotwrap.run.pilot3.stored import Stored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilotwrap.model.outcome import RankOutcome
    from pilotwrap.model.reasons import Reason
    from pilotwrap.model.report import FileReport
    from pilotwrap.panda.legacy import PilotUpdate
    from pilotwrap.run.pilot3.desk import Reply
    from pilotwrap.run.pilot3.end import PilotEnd
    from pilotwrap.run.pilot3.log import PilotEvent, PilotEventKind

READ_BYTES = 1 << 20
"""Of the log at a time: a pilot writes some 50 KiB a job."""

MAX_EVENTS = 2000

SETTLED_S = 5.0
"""How long after its log shows a job failed or lost a pilot may take to say so to the server: it sleeps for two minutes
first, waiting for a state that nobody sets (pilot3 3.7 and 3.11, control/job.py; measured)."""

_LOST_BEFORE: Mapping[PilotEventKind, PilotEventKind | None] = {
    "session-leader": None,
    "disk": "job",
    "thread-died": "payload",
}
"""Troubles after which a pilot drops its job and winds down without a word on it, for a minute or two (measured with
3.7.0.36); the last two only before this event: later on it has a job to fail, and does."""

_TELLING = {
    "job": "has its job",
    "stage-in": "stages in",
    "staged-in": "has staged in",
    "payload": "started the payload",
    "payload-ended": "saw the payload end",
    "stage-out": "stages out",
    "staged-out": "has staged out",
    "settled": "knows its job's end",
    "ending": "winds down",
}
"""Events of its log that stand in the timeline."""


class Watch:
    """What is known of one pilot; times are of the driver's clock, those of its log of the wall clock."""

    def __init__(self, log: Path, now: float) -> None:
        self.final: PilotUpdate | None = None
        self.reply: Reply | None = None
        """What its final update waits for."""

        self.fenced = False
        """Its case is closed: nothing that it says is heard any more."""

        self._path = log
        self._offset = 0
        self._log = PilotLog()
        self._stored = Stored()
        self._events: list[PilotEvent] = []
        self._seen: list[tuple[float, str]] = []
        self._alive_at = now
        self._asked = False
        self._words = PilotWords()
        self._settled_at: float | None = None
        self._epoch = time.time() - time.monotonic()

    @property
    def files(self) -> dict[str, FileReport]:
        """Return what it says to have stored: by its final update, or else by its log."""
        return file_report_of(self.final) if self.final else dict(self._stored.files)

    @property
    def over(self) -> bool:
        """Tell whether its last word is known, or not wanted."""
        return self.fenced or self.final is not None

    def seen(self, at: float, what: str) -> None:
        """Note something that it did; a sign of life."""
        self._alive_at = at
        self._asked = self._asked or what.startswith("asked")
        self._seen.append((at, f"the pilot {what}"))

    def said(self, update: PilotUpdate, at: float) -> None:
        """Note an update of its job."""
        self._words = pilot_words(update.state, update.arguments)
        self.seen(at, f"said {update.state}")

    def read(self) -> None:
        """Take in what its log says since the last time."""
        try:
            with self._path.open("rb") as log:
                log.seek(self._offset)
                chunk = log.read(READ_BYTES)
        except OSError:
            return
        if not chunk:
            return
        self._offset += len(chunk)
        self._alive_at = time.monotonic()
        self._stored.feed(chunk)
        for event in self._log.feed(chunk):
            self._heed(event)

    def silent_s(self, now: float) -> float:
        """Return for how long it has shown no sign of life."""
        return now - self._alive_at

    def lingers(self, now: float) -> bool:
        """Tell whether its log has shown the job failed or lost, and it has not said so in good time."""
        return self._settled_at is not None and now - self._settled_at >= SETTLED_S

    def judged(self, rank: RankOutcome | None, ended_for: Reason | None = None) -> PilotEnd:
        """Return what its end means; `rank` is how it exited, None: it has not."""
        story = PilotStory(
            exit_code=None if rank is None or rank.signal else rank.exit_code,
            signal=rank.signal if rank else None,
            ended_for=ended_for,
            words=self._words,
            asked=self._asked,
            log=self._log.shown,
        )
        return pilot_end(story)

    def answered(self, at: float) -> None:
        """Tell it that its last word is kept."""
        if self.reply:
            self.reply("NULL")
            self.reply = None
            self.seen(at, "was answered, and ended: it would only have slept")

    def timeline(self) -> list[tuple[float, str]]:
        """Return what it did and when."""
        lost = wasted(self._events)
        told = [*self._seen, *self._told_by_log()]
        if lost >= 1 and told:
            told.append((max(at for at, _ in told), f"of its time the pilot slept {lost:.0f} s"))
        return sorted(told)

    def _told_by_log(self) -> list[tuple[float, str]]:
        return [
            (event.at - self._epoch, f"the pilot {_TELLING[event.kind]}")
            for event in self._events
            if event.kind in _TELLING and event.at is not None
        ]

    def _heed(self, event: PilotEvent) -> None:
        if len(self._events) < MAX_EVENTS:
            self._events.append(event)
        if self._settled_at is None and (self._lost(event) or (event.kind == "settled" and event.what == "failed")):
            self._settled_at = time.monotonic()

    def _lost(self, event: PilotEvent) -> bool:
        return event.kind in _LOST_BEFORE and _LOST_BEFORE[event.kind] not in self._log.shown
