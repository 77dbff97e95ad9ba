"""Snapshot to NodeFacts: what a node's answers mean. Pure: the same snapshot gives the same facts anywhere."""

import re
from collections.abc import Callable
from typing import TypeVar

from pilotwrap.detect.accelerators import accelerators
from pilotwrap.detect.cpus import cpus, memory
from pilotwrap.detect.launcher import launcher
from pilotwrap.model.node import Allocation, Cpus, Disk, Memory, Network, NodeFacts, Problem, Runtime, Vantage
from pilotwrap.model.snapshot import CommandSaid, Snapshot
from pilotwrap.site.runtimes.listing import RUNTIMES
from pilotwrap.site.schedulers import none
from pilotwrap.site.schedulers.listing import scheduler_of

_T = TypeVar("_T")


def node_facts(snapshot: Snapshot, machine: str | None = None) -> NodeFacts:
    """Return what the snapshot means; what cannot be read becomes a problem, never an exception."""
    problems: list[Problem] = []
    scheduler = scheduler_of(snapshot)
    allocation = _tried(scheduler.allocation, snapshot, problems, scheduler.NAME) or none.allocation(snapshot)
    return NodeFacts(
        host=scheduler.host(snapshot),
        machine=machine,
        vantage=_vantage(snapshot, allocation),
        accelerators=_tried(accelerators, snapshot, problems, "devices") or (),
        allocation=allocation,
        launcher=launcher(snapshot, allocation),
        cpus=_tried(cpus, snapshot, problems, "cpus") or Cpus(granted="", cores=()),
        memory=_tried(memory, snapshot, problems, "memory") or Memory(total_mib=0, limit_mib=None, available_mib=0),
        disk=tuple(
            Disk(path=path, free_mib=said.free_mib, free_inodes=said.free_inodes)
            for path, said in sorted(snapshot.disk.items())
        ),
        runtimes=tuple(
            Runtime(kind=kind, path=snapshot.programs[program])
            for kind, program in RUNTIMES.items()
            if program in snapshot.programs
        ),
        programs=snapshot.programs,
        network=_network(snapshot),
        problems=(*problems, *_failed_commands(snapshot)),
    )


def _tried(read: Callable[[Snapshot], _T], snapshot: Snapshot, problems: list[Problem], source: str) -> _T | None:
    try:
        return read(snapshot)
    except ValueError as error:
        problems.append(Problem(source=source, reason="unreadable", detail=str(error)))
        return None


def _vantage(snapshot: Snapshot, allocation: Allocation) -> Vantage:
    """Return where we are: batch commands without an allocation are a login node's."""
    if allocation.inside_step:
        return "step"
    return "login" if allocation.scheduler == "none" and "sbatch" in snapshot.programs else "head"


def _network(snapshot: Snapshot) -> Network:
    def said(name: str) -> str | None:
        value = snapshot.variables.get(name) or snapshot.variables.get(name.upper())
        return re.sub(r"//[^/@]*@", "//", value) if value else None

    return Network(http_proxy=said("http_proxy"), https_proxy=said("https_proxy"), no_proxy=said("no_proxy"))


def _failed_commands(snapshot: Snapshot) -> tuple[Problem, ...]:
    return tuple(_failure(command) for command in snapshot.commands if command.exit != 0)


def _failure(command: CommandSaid) -> Problem:
    said = [*filter(None, [command.error]), *command.output.strip().splitlines(), "it printed nothing"]
    reason = "no-answer" if command.exit is None else f"exit-{command.exit}"
    return Problem(source=" ".join(command.words), reason=reason, detail=said[0][:200])
