"""The flush of a dead run's spool, which may itself die anywhere and be run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotwrap.run.effects import Report

from .server import Server
from .watch import demand

if TYPE_CHECKING:
    from .world import World

ORPHAN = Report("failed", "node-lost", None, "the run died before the job ended")


def flush_until_told(world: World) -> None:
    """Flush a few times with troubles, then once without any."""
    while world.rng.random() < 0.4:
        world.t += 20_000.0 * world.rng.random() ** 3
        flush(world.records, world.server, world.t, world.rng.random)
    world.t += 10.0
    flush(world.records, world.server, world.t, None)
    demand(("accepted", None) in world.records, "a flush without troubles left it untold")


def flush(records: list[tuple[str, Report | None]], server: Server, at: float, trouble: object) -> None:
    """Send what is recorded and not accepted; `trouble()` draws a death or a loss before each deed."""

    def fails() -> bool:
        return callable(trouble) and trouble() < 0.3

    if any(kind == "accepted" for kind, _ in records):
        return
    report = next((report for kind, report in records if kind == "terminal"), None)
    if report is None:
        if fails():
            return
        report = ORPHAN
        records.append(("terminal", report))
    if fails():
        return
    verdict = server.update(at, "terminal", report)
    if fails() or verdict not in {"ok", "already", "kill"}:
        return
    records.append(("accepted", None))
