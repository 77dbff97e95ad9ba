"""NodeFacts for people."""

from pilotwrap.model.line import line_of
from pilotwrap.model.node import Accelerator, Allocation, Cpus, Launcher, NodeFacts


def described(facts: NodeFacts) -> str:
    """Return what a node is and gives, a line each."""
    cpus = facts.cpus
    rows = [
        ("host", f"{facts.host} ({facts.vantage})"),
        ("machine", facts.machine or "unknown"),
        ("allocation", _allocation(facts.allocation)),
        ("launcher", _launcher(facts.launcher)),
        ("cpus", f"{len(cpus.cores)} cores granted: {cpus.granted}{_quota(cpus)}"),
        ("memory", f"{facts.memory.usable_mib} MiB usable of {facts.memory.total_mib}"),
        *(("disk", f"{disk.path}: {disk.free_mib} MiB, {disk.free_inodes} inodes free") for disk in facts.disk),
        *(("device", _device(one)) for one in facts.accelerators),
        ("runtimes", ", ".join(runtime.kind for runtime in facts.runtimes) or "none"),
        *(("problem", f"{one.source}: {one.reason}: {one.detail}") for one in facts.problems),
    ]
    return "".join(f"{name:<11} {line_of(text)}\n" for name, text in rows)


def _allocation(allocation: Allocation) -> str:
    left = "no limit known" if allocation.time_left_s is None else f"{allocation.time_left_s:.0f} s left"
    job = f"{allocation.scheduler} {allocation.job_id}" if allocation.job_id else allocation.scheduler
    nodes = "1 node" if allocation.node_count == 1 else f"{allocation.node_count} nodes"
    return f"{job}, {nodes}, {left}"


def _launcher(launcher: Launcher) -> str:
    return f"{launcher.flavour or launcher.command} {launcher.path or ''}"


def _quota(cpus: Cpus) -> str:
    return f", quota {cpus.quota}" if cpus.quota else ""


def _device(device: Accelerator) -> str:
    part = "" if device.part is None else f", {device.kind} {device.part}"
    why = f" ({device.detail})" if device.detail else ""
    return f"{device.vendor} {device.model} at {device.pci_address}{part}: {device.reason or device.health}{why}"
