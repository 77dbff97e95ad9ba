"""What all pilots of a run share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pilotwrap.panda.client import Api
    from pilotwrap.panda.queuedata import QueueData
    from pilotwrap.run.options import PilotOptions
    from pilotwrap.run.pilot3.source import FoundPilot


@dataclass(frozen=True)
class PilotTerms:
    """Which pilot, by which Python, for which queue; `papers` is the folder of what it is given to read."""

    found: FoundPilot
    python: str
    queue: QueueData
    papers: Path
    options: PilotOptions
    api: Api
    """Which calls the server knows."""

    search_path: str
    """PATH for the pilot and its payload."""

    storagedata: str | None = None
    """A path or URL."""

    x509_proxy: str | None = None

    @property
    def queuedata(self) -> Path:
        """Return the file of the queue's data."""
        return self.papers / "queuedata.json"

    @property
    def schedconfig(self) -> Path:
        """Return the file of the same data by the queue's name."""
        return self.papers / "schedconfig.json"
