"""The journal of a run: every event of every job, before its effects are done."""

import os
from pathlib import Path

from pilotwrap.run.events import Event, to_json


class Journal:
    """Appends lines `{"job": …, "event": …, "at": …}`; a full disk loses lines, never the run."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.lost = 0
        self._waiting: list[str] = []

    def note(self, job: str, event: Event) -> None:
        """Take one event of a job; `write` must follow before its effects are done."""
        self._waiting.append(f'{{"job":"{job}",{to_json(event)[1:]}\n')

    def write(self) -> None:
        """Append all events that were noted."""
        if not self._waiting:
            return
        lines, self._waiting = self._waiting, []
        try:
            os.write(self._fd, "".join(lines).encode())
        except OSError:
            self.lost += len(lines)

    def close(self) -> None:
        """Write what is left and close the file."""
        self.write()
        os.close(self._fd)
