"""Whether the batch system takes the allocation back: asked on the host, when we or a payload got a TERM."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from pilotwrap.site.schedulers.preemption import question

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilotwrap.run.events import Exited
    from pilotwrap.run.link import Message, StarterLink
    from pilotwrap.run.state import Phase
    from pilotwrap.run.surroundings import Surroundings

ASK_S = 1.0
"""An answer that takes longer is not waited for (a guess): a fifth of what a stop has, and squeue takes 0.02 s."""

KILL_S = 0.1
"""TERM to KILL of the command itself (a guess: it has nothing to lose)."""

PAUSE_S = 10.0
"""Payloads that die of TERM again and again are a question so often at most (a guess)."""

ASKERS_MOST = 64
"""With more controllers, one a node, none of them asks: they would all at once (a guess)."""

TERM_EXIT = 128 + 15

TRIES = 3
"""Batch systems send TERM to whatever runs, several times, and so to the command itself."""


class Preemption:
    """The question and its answer; all but `wait` is for the main thread."""

    ID = "preemption"
    """What the command is called on the wire, and the file in the run's directory that holds its words."""

    def __init__(self, around: Surroundings, link: StarterLink) -> None:
        head = around.allocation.head
        asked = question(head.allocation.scheduler, head.allocation.job_id)
        self._question = None if (head.launcher.size or 1) > ASKERS_MOST else asked
        self._path, self._cwd = around.run.path / self.ID, around.cwd
        self._link = link
        self._again_at = self._until = 0.0
        self._tries = 0
        self._known = threading.Event()
        self._known.set()
        self._waiting: list[Callable[[], None]] = []
        self.found: Callable[[], None] = lambda: None
        """Called when the answer is yes."""

    def ask(self) -> None:
        """Have it asked, unless that is under way."""
        if self._question is None or not self._known.is_set():
            return
        self._known.clear()
        self._until = time.monotonic() + ASK_S
        self._tries = TRIES
        with contextlib.suppress(OSError):  # the answer to an earlier question
            self._path.unlink()
        self._send(self._question.command)

    def _send(self, command: Sequence[str]) -> None:
        self._tries -= 1
        self._link.send(
            {
                "do": "spawn",
                "id": self.ID,
                "argv": list(command),
                "keep": ["*"],
                "env": {},
                "cwd": self._cwd,
                "session": "new",
                "stdin": "null",
                "stdout": str(self._path),
                "stderr": None,
                "wall_s": ASK_S,
                "grace_s": KILL_S,
            }
        )

    def wait(self) -> None:
        """Have a job's last word wait until the answer is there, if it is on its way."""
        self._known.wait(ASK_S)

    def weigh(self, phase: Phase, ended: Exited, then: Callable[[], None]) -> None:
        """Do `then`, which judges a job's end: after the answer, where TERM came to a payload before it came to us.

        One that is `ending` was ended by us.
        Slurm sends it to the steps alone when a preempted job's grace begins, and to all of a step at once.
        """
        settled = phase == "ending" or ended.exit_code != TERM_EXIT
        if self._question is None or settled or not self._may_ask():
            then()
        else:
            self._waiting.append(then)
            self.ask()

    def _may_ask(self) -> bool:
        now = time.monotonic()
        if self._known.is_set() and now < self._again_at:
            return False
        self._again_at = now + PAUSE_S
        return True

    def heard(self, message: Message) -> None:
        """Take what the starter says of the command."""
        if message.get("event") == "started" or self._question is None:
            return
        if message.get("signal") and self._tries and time.monotonic() < self._until:
            self._send(self._question.command)
            return
        if message.get("event") == "exited" and message.get("exit_code") == 0 and self._says_so():
            self.found()
        self._known.set()
        waiting, self._waiting = self._waiting, []
        for judge in waiting:
            judge()

    def _says_so(self) -> bool:
        try:
            text = self._path.read_text(errors="replace")
        except OSError:
            return False
        return self._question is not None and self._question.says_so(text)

    @property
    def awaited(self) -> bool:
        """Tell whether the answer is on its way, and not too late."""
        return not self._known.is_set() and time.monotonic() < self._until
