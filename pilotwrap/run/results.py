"""What the rank shims wrote of the ranks that did not end well."""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from pilotwrap.model.base import Reading
from pilotwrap.model.outcome import RankOutcome
from pilotwrap.model.reasons import Reason


class _Said(Reading):
    """One `rank-N.json`; docs/wire.md has the keys."""

    rank: int | None = None
    host: str = ""
    exit_code: int | None = None
    signal: int | None = None
    reason: Reason | None = None
    detail: str = ""
    ended_by: str = ""
    left: int = 0


def shim_results(folder: Path) -> tuple[RankOutcome, ...]:
    """Return the outcomes in a job's results folder, by rank; a torn file is a rank that we know nothing of."""
    return tuple(sorted(_read(folder), key=lambda one: one.rank if one.rank is not None else -1))


def _read(folder: Path) -> Iterator[RankOutcome]:
    if not folder.is_dir():
        return
    for path in folder.glob("rank-*.json"):
        try:
            said = _Said.model_validate(json.loads(path.read_text()))
        except (OSError, ValueError, ValidationError):
            continue
        reason: Reason = said.reason or ("payload-signal" if said.signal else "payload-exit")
        how = f"was ended by signal {said.signal}" if said.signal else f"exited with code {said.exit_code}"
        yield RankOutcome(
            rank=said.rank,
            host=said.host,
            exit_code=128 + said.signal if said.signal else said.exit_code,
            signal=said.signal,
            reason=reason,
            detail=said.detail or said.ended_by or f"the payload {how}",
            ended_by=said.ended_by,
            left=said.left,
        )
