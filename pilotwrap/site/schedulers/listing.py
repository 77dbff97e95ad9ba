"""The batch systems that are known, inner before outer; a new one is its file and one line here."""

from typing import Protocol

from pilotwrap.model.node import Allocation
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.looks import Looks
from pilotwrap.site.schedulers import cobalt, flux, lsf, none, pbs, slurm


class Scheduler(Protocol):
    """What a file of this folder gives."""

    NAME: str
    SUBMIT: str
    """The program that submits its jobs: where that is and no allocation, we are on a login node; empty: none tells."""

    LAUNCH_NODES: bool
    """Its batch shells may run on a host of its own, which is none of the allocation's nodes."""

    DIRECTIVE: str
    """What begins a line of options in its batch scripts."""

    SUFFIX: str
    """The end of the name of such a script."""

    LOOKS: Looks
    PASSED_ON: tuple[str, ...]

    def recognised(self, snapshot: Snapshot, /) -> bool:
        """Tell whether we are inside of one of its allocations."""

    def host(self, snapshot: Snapshot, /) -> str:
        """Return the node's name as this batch system's lists have it."""

    def allocation(self, snapshot: Snapshot, /) -> Allocation:
        """Return what it gave; ValueError when its words cannot be read."""

    def batch_shell(self, nodes: tuple[str, ...], gpus_per_node: int = 0, /) -> Snapshot:
        """Return what it shows in a batch shell of these nodes and their GPUs: for synthetic nodes."""

    def walltime(self, minutes: int, /) -> str:
        """Return a wall time as its scripts have it."""


SCHEDULERS: tuple[Scheduler, ...] = (flux, slurm, lsf, cobalt, pbs, none)


def scheduler_of(snapshot: Snapshot) -> Scheduler:
    """Return the batch system whose allocation we are in."""
    return next(scheduler for scheduler in SCHEDULERS if scheduler.recognised(snapshot))


def scheduler_named(name: str) -> Scheduler:
    """Return the batch system of that name; StopIteration: none has it."""
    return next(scheduler for scheduler in SCHEDULERS if name == scheduler.NAME)
