"""The batch systems that are known, inner before outer; a new one is its file and one line here."""

from typing import Protocol

from pilotwrap.model.node import Allocation
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.looks import Looks
from pilotwrap.site.schedulers import none, slurm


class Scheduler(Protocol):
    """What a file of this folder gives."""

    NAME: str
    LOOKS: Looks
    PASSED_ON: tuple[str, ...]

    def recognised(self, snapshot: Snapshot, /) -> bool:
        """Tell whether we are inside of one of its allocations."""

    def host(self, snapshot: Snapshot, /) -> str:
        """Return the node's name as this batch system's lists have it."""

    def allocation(self, snapshot: Snapshot, /) -> Allocation:
        """Return what it gave; ValueError when its words cannot be read."""


SCHEDULERS: tuple[Scheduler, ...] = (slurm, none)


def scheduler_of(snapshot: Snapshot) -> Scheduler:
    """Return the batch system whose allocation we are in."""
    return next(scheduler for scheduler in SCHEDULERS if scheduler.recognised(snapshot))
