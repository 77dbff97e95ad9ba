"""NodeFacts for people."""

from pilotwrap.model.node import NodeFacts


def described(facts: NodeFacts) -> str:
    """Return what a node is and gives, a line each."""
    allocation, cpus = facts.allocation, facts.cpus
    left = "no limit known" if allocation.time_left_s is None else f"{allocation.time_left_s:.0f} s left"
    rows = [
        ("host", f"{facts.host} ({facts.vantage})"),
        ("machine", facts.machine or "unknown"),
        ("allocation", f"{allocation.scheduler} {allocation.job_id or ''}, {allocation.node_count} nodes, {left}"),
        ("launcher", f"{facts.launcher.flavour or facts.launcher.command} {facts.launcher.path or ''}"),
        ("cpus", f"{len(cpus.cores)} cores granted: {cpus.granted}" + (f", quota {cpus.quota}" if cpus.quota else "")),
        ("memory", f"{facts.memory.usable_mib} MiB usable of {facts.memory.total_mib}"),
        *(("disk", f"{disk.path}: {disk.free_mib} MiB, {disk.free_inodes} inodes free") for disk in facts.disk),
        *(
            ("device", f"{one.vendor} {one.model} at {one.pci_address}: {one.reason or one.health}")
            for one in facts.accelerators
        ),
        ("runtimes", ", ".join(runtime.kind for runtime in facts.runtimes) or "none"),
        *(("problem", f"{one.source}: {one.reason}: {one.detail}") for one in facts.problems),
    ]
    return "".join(f"{name:<11} {' '.join(text.split())}\n" for name, text in rows)
