"""Snapshot to NodeFacts: what a node's answers mean. Pure: the same snapshot gives the same facts anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pilotwrap.detect.accelerators import accelerators
from pilotwrap.detect.cpus import cpus, memory, without_reserved
from pilotwrap.detect.launcher import launcher
from pilotwrap.model.node import (
    Accelerator,
    Allocation,
    Cpus,
    Disk,
    Memory,
    Network,
    NodeFacts,
    Problem,
    Runtime,
    Vantage,
)
from pilotwrap.model.snapshot import CommandSaid, Snapshot
from pilotwrap.site.runtimes.listing import RUNTIMES
from pilotwrap.site.schedulers import none
from pilotwrap.site.schedulers.listing import SCHEDULERS, Scheduler, scheduler_of

if TYPE_CHECKING:
    from pilotwrap.site.machines.machine import Machine

_T = TypeVar("_T")


def node_facts(snapshot: Snapshot, machine: Machine | None = None) -> NodeFacts:
    """Return what the snapshot means, on this machine or on the one whose batch job it shows itself to be in.

    What cannot be read becomes a problem, never an exception.
    """
    problems: list[Problem] = []
    scheduler = scheduler_of(snapshot)
    machine = machine or _machine(snapshot, scheduler)
    allocation = _tried(scheduler.allocation, snapshot, problems, scheduler.NAME) or none.allocation(snapshot)
    found = _tried(cpus, snapshot, problems, "cpus") or Cpus(granted="", cores=())
    return NodeFacts(
        host=_host(scheduler, snapshot),
        machine=machine.name if machine else None,
        vantage=_vantage(snapshot, allocation),
        accelerators=_placed(_tried(accelerators, snapshot, problems, "devices") or (), machine),
        allocation=_ended_as_there(allocation, machine),
        launcher=launcher(snapshot, allocation),
        cpus=without_reserved(found, machine.node.reserved_cpus if machine else ""),
        memory=_tried(memory, snapshot, problems, "memory") or Memory(total_mib=0, limit_mib=None, available_mib=0),
        disk=_disks(snapshot),
        runtimes=_runtimes(snapshot),
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


def _machine(snapshot: Snapshot, scheduler: Scheduler) -> Machine | None:
    """Return the machine whose batch job we are in; a host of one's own is none, and opens none of their files."""
    if scheduler.NAME == none.NAME:
        return None
    from pilotwrap.site.machines.listing import machine_of

    return machine_of(snapshot)


def _placed(found: tuple[Accelerator, ...], machine: Machine | None) -> tuple[Accelerator, ...]:
    """Return the devices beside the cores of the machine's file, where the kernel names none (NUMA node -1)."""
    known = {device.address: device.cpus for device in machine.node.devices} if machine else {}
    return tuple(
        device if device.near_cpus else device.model_copy(update={"near_cpus": known.get(device.pci_address)})
        for device in found
    )


def _disks(snapshot: Snapshot) -> tuple[Disk, ...]:
    return tuple(
        Disk(path=path, free_mib=said.free_mib, free_inodes=said.free_inodes)
        for path, said in sorted(snapshot.disk.items())
    )


def _runtimes(snapshot: Snapshot) -> tuple[Runtime, ...]:
    found = {kind: snapshot.programs.get(program) for kind, program in RUNTIMES.items()}
    return tuple(Runtime(kind=kind, path=path) for kind, path in found.items() if path)


def _ended_as_there(allocation: Allocation, machine: Machine | None) -> Allocation:
    """Return the allocation with the machine's own time between TERM and KILL, where its file knows one."""
    grace_s = machine.kill_grace_s if machine else None
    return allocation.model_copy(update={"kill_grace_s": grace_s}) if grace_s else allocation


def _host(scheduler: Scheduler, snapshot: Snapshot) -> str:
    """Return the node's name as its batch system has it; where that cannot be read, as it calls itself."""
    try:
        return scheduler.host(snapshot)
    except ValueError:
        return snapshot.host


def _vantage(snapshot: Snapshot, allocation: Allocation) -> Vantage:
    """Return where we are: a login node has batch commands without an allocation, or one whose nodes are elsewhere."""
    if allocation.inside_step:
        return "step"
    if allocation.scheduler == "none":
        return "login" if any(scheduler.SUBMIT in snapshot.programs for scheduler in SCHEDULERS) else "head"
    return "head" if allocation.on_node or scheduler_of(snapshot).LAUNCH_NODES else "login"


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
