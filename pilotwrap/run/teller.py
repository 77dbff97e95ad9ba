"""Tells the server: takes what the lives want sent, several in one call, on threads of its own."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pilotwrap.panda.answers import Answer
from pilotwrap.panda.client import PandaClient
from pilotwrap.panda.update import JobUpdate
from pilotwrap.run.events import Answered, To

CALL_S = 20.0
"""One call's deadline; a life that hears nothing tries again by its own rules (a guess: the real server answers an
update in 17 ms, measured, and is given up as hanging well before a life's own `answer_s`)."""

URGENT_CALL_S = 4.0
"""The same when the run is ending: within the 5 s that are kept for telling."""

LINGER_S = {"terminal": 0.02, "other": 0.2}
"""How long a word waits for others to share its call, unless the run is ending: a call costs both sides some
milliseconds (measured), and a job that lives shorter than 200 ms is told by its end alone."""

THREADS = {"terminal": 2, "other": 1}
"""A second one for ends, so that a call that hangs when the run is told to stop does not hold up those of the stop."""

MAX_BATCH = 100
"""Updates in one call, as Harvester sends them."""


@dataclass(frozen=True)
class Word:
    """One update on its way, and whose life asked for it."""

    job: str
    to: To
    number: int
    update: JobUpdate


Heard = Callable[[str, Answered], None]


class Teller:
    """Sends words in order of their coming; terminal ones have a thread and a queue of their own."""

    def __init__(self, client: Callable[[], PandaClient], heard: Heard) -> None:
        self.urgent = False
        self._lines = [
            _Line(client(), heard, self, "terminal"),
            _Line(client(), heard, self, "other"),
        ]

    def tell(self, words: Sequence[Word]) -> None:
        """Queue words; each is answered by an event in its time."""
        terminal = [word for word in words if word.to == "terminal"]
        if terminal:
            self._lines[1].drop({word.job for word in terminal})
            self._lines[0].put(terminal)
        self._lines[1].put([word for word in words if word.to != "terminal"])

    @property
    def call_s(self) -> float:
        """Return how long one call may take now."""
        return URGENT_CALL_S if self.urgent else CALL_S


class _Line:
    """One queue and the thread that empties it."""

    def __init__(self, client: PandaClient, heard: Heard, teller: Teller, kind: str) -> None:
        self._linger_s = LINGER_S[kind]
        self._most_threads = THREADS[kind]
        self._client = client
        self._heard = heard
        self._teller = teller
        self._waiting: list[Word] = []
        self._filled = threading.Condition()
        self._threads = 0
        self._idle = 0

    def put(self, words: Sequence[Word]) -> None:
        if not words:
            return
        with self._filled:
            self._waiting.extend(words)
            self._filled.notify()
            if not self._idle and self._threads < self._most_threads:
                self._threads += 1
                threading.Thread(target=self._work, name="teller", daemon=True).start()

    def drop(self, jobs: set[str]) -> None:
        """Forget what was not sent yet of jobs whose end is told now: the end says it all."""
        with self._filled:
            self._waiting = [word for word in self._waiting if word.job not in jobs]

    def _work(self) -> None:
        while True:
            with self._filled:
                self._idle += 1
                self._filled.wait_for(lambda: self._waiting)
                self._idle -= 1
                self._filled.wait_for(lambda: self._teller.urgent, timeout=self._linger_s)
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            if batch:
                self._send(batch)

    def _send(self, batch: Sequence[Word]) -> None:
        """Send the newest word of each job; its answer is the answer to the older ones too."""
        newest = {word.job: word for word in batch}
        updates = [word.update for word in newest.values()]
        deadline = time.monotonic() + self._teller.call_s
        answers = dict(zip(newest, self._client.update(updates, deadline), strict=True))
        for word in batch:
            self._hear(word, answers[word.job])

    def _hear(self, word: Word, answer: Answer) -> None:
        at = time.monotonic()
        self._heard(word.job, Answered(at, word.to, word.number, answer.verdict, answer.detail))
