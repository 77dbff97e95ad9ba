"""When a snapshot was taken, and the times that batch systems write."""

import re
from datetime import datetime

from pilotwrap.model.snapshot import Snapshot

_HOURS = re.compile(r"\s*([0-9]{1,9}):([0-9]{2}):([0-9]{2})\s*")


def taken_s(snapshot: Snapshot) -> float | None:
    """Return when it was taken, seconds since the epoch; None: it does not say."""
    try:
        return datetime.fromisoformat(snapshot.taken_at.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def until_s(snapshot: Snapshot, end_s: int | None) -> float | None:
    """Return the seconds from the snapshot to a time since the epoch; None where one of them is not known."""
    taken = taken_s(snapshot)
    return None if end_s is None or taken is None else max(0.0, end_s - taken)


def hours_s(text: str | None) -> float | None:
    """Return the seconds of `HH:MM:SS`; None for anything else."""
    match = _HOURS.fullmatch(text or "")
    return None if match is None else float(int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3]))


def clock_text(minutes: int) -> str:
    """Return `HH:MM:SS`, which most batch systems take for a wall time."""
    return f"{minutes // 60:02}:{minutes % 60:02}:00"
