"""`plan`: what a run would do, without doing it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilotwrap.model.job import JobSpec
    from pilotwrap.model.node import NodeFacts
    from pilotwrap.model.plan import Because
    from pilotwrap.site.machines.machine import Machine

EXAMPLE = "pilotwrap plan --spec job.json --explain"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Name what `plan` takes."""
    add = parser.add_argument
    add("--spec", type=Path, metavar="FILE", help="a pilotwrap.job/1 file (or the whole nodes of --machine)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from", dest="snapshot", type=Path, metavar="SNAPSHOT", help="plan for that node, not this")
    source.add_argument("--machine", metavar="NAME", help="plan for a machine that is known, or of a file")
    add("-n", "--nodes", type=int, metavar="NODES", help="nodes to use, whatever the spec says")
    add("--explain", action="store_true", help="say why, what it costs, and the line to run by hand")
    add("--json", action="store_true", help="print the Plan as JSON")


def main(options: argparse.Namespace) -> int:
    """Print the Plan."""
    from pilotwrap.detect.survey import allocation_of_all
    from pilotwrap.plan.explain import explained
    from pilotwrap.plan.ledger import ledger_of
    from pilotwrap.plan.plan import plan
    from pilotwrap.plan.request import PlanRequest
    from pilotwrap.plan.shortage import shortage

    spec, facts, machine = _planned(options)
    shim = ("python3", "-I", "-S", "starter.pyz", "shim", "JOB.shim.json")
    allocation = allocation_of_all(facts)
    made = plan(PlanRequest(job=spec, allocation=allocation, shim=shim))
    if short := shortage(ledger_of(allocation), spec):
        raise short
    if machine and options.spec is None:
        made = made.model_copy(update={"because": (*made.because, *_site_line(machine, spec.nodes))})
    sys.stdout.write(made.to_json() + "\n" if options.json else explained(made) + "\n")
    return 0


def _site_line(machine: Machine, nodes: int) -> list[Because]:
    """Return what the site's documentation prints for its whole nodes, to be held against our line."""
    from pilotwrap.model.plan import Because

    line = machine.full_node.site_line(nodes) if machine.full_node else ""
    pages = [source.page for source in machine.sources if {"full_node", "node"} & set(source.keys)]
    reason = "; ".join(["the site's documentation starts whole nodes so; the shim binds alike", *pages])
    return [Because(decision=line, reason=reason)] if line else []


def _planned(options: argparse.Namespace) -> tuple[JobSpec, NodeFacts, Machine | None]:
    """Return the job, the head of the nodes it is planned for, and the machine where one is named."""
    from pilotwrap.cli.inspect import snapshot_here, snapshot_in
    from pilotwrap.cli.machinefile import machine_for, machine_seen
    from pilotwrap.detect.node import node_facts
    from pilotwrap.model.job import MAX_NODES
    from pilotwrap.site.machines.synthetic import machine_snapshot

    if options.nodes is not None and not 1 <= options.nodes <= MAX_NODES:
        from pilotwrap.model.errors import BadInputError

        raise BadInputError(f"-n {options.nodes}", why=f"there must be a node at least, and {MAX_NODES} at most")
    machine = machine_for(options.machine, [options.spec or Path()]) if options.machine is not None else None
    spec = _spec(options.spec, machine)
    if options.nodes is not None:
        spec = spec.model_copy(update={"nodes": options.nodes})
    if machine:
        return spec, node_facts(machine_snapshot(machine, spec.nodes), machine), machine
    snapshot = snapshot_in(options.snapshot) if options.snapshot else snapshot_here()
    return spec, node_facts(snapshot, machine_seen(snapshot)), None


def _spec(path: Path | None, machine: Machine | None) -> JobSpec:
    """Return the job of a file; without one, the machine's whole nodes as its documentation fills them."""
    from pilotwrap.cli.run import read_spec
    from pilotwrap.model.errors import BadInputError, UsageError
    from pilotwrap.model.job import JobSpec

    if path is None:
        full = machine.full_node if machine else None
        if machine is None or full is None:
            raise UsageError("plan needs --spec", remedy="or --machine with a machine whose file has [full_node]")
        return JobSpec(
            command=("APP",),
            mode="copies" if machine.launcher == "local" else "mpi",
            **full.model_dump(exclude={"line"}),
        )
    spec = read_spec(path)
    if spec.panda:
        raise BadInputError(f"{path} fetches its jobs", remedy="plan a spec that has a command")
    return spec
