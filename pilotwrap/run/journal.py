"""The journal of a run: every event of every job, before its effects are done."""

import os
from pathlib import Path

from pilotwrap.run.events import Event, to_json


class Journal:
    """Appends lines `{"job": …, "event": …, "at": …}`; a full disk loses lines, never the run."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.lost = 0

    def write(self, job: str, event: Event) -> None:
        """Append one event of a job."""
        line = f'{{"job":"{job}",{to_json(event)[1:]}\n'
        try:
            os.write(self._fd, line.encode())
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
