"""`plan`: what a run would do, without doing it."""

import argparse
import sys
from pathlib import Path

EXAMPLE = "pilotwrap plan --spec job.json --explain"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Name what `plan` takes."""
    add = parser.add_argument
    add("--spec", type=Path, required=True, metavar="FILE", help="a pilotwrap.job/1 file")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from", dest="snapshot", type=Path, metavar="SNAPSHOT", help="plan for that node, not this")
    source.add_argument("--machine", metavar="NAME", help="plan for a machine that is known")
    add("-n", "--nodes", type=int, metavar="NODES", help="nodes to use, whatever the spec says")
    add("--explain", action="store_true", help="say why, what it costs, and the line to run by hand")
    add("--json", action="store_true", help="print the Plan as JSON")


def main(options: argparse.Namespace) -> int:
    """Print the Plan."""
    from pilotwrap.cli.inspect import snapshot_here, snapshot_in
    from pilotwrap.cli.run import read_spec
    from pilotwrap.detect.node import node_facts
    from pilotwrap.detect.survey import allocation_of_all
    from pilotwrap.model.errors import BadInputError
    from pilotwrap.plan.explain import explained
    from pilotwrap.plan.plan import plan
    from pilotwrap.plan.request import PlanRequest

    spec = read_spec(options.spec)
    if spec.panda:
        raise BadInputError(f"{options.spec} fetches its jobs", remedy="plan a spec that has a command")
    if options.nodes is not None:
        if options.nodes < 1:
            raise BadInputError(f"-n {options.nodes}", why="there must be a node at least")
        spec = spec.model_copy(update={"nodes": options.nodes})
    if options.machine:
        from pilotwrap.site.machines.listing import machine_snapshot

        snapshot = machine_snapshot(options.machine, spec.nodes)
    else:
        snapshot = snapshot_in(options.snapshot) if options.snapshot else snapshot_here()
    shim = ("python3", "-I", "-S", "starter.pyz", "shim", "JOB.shim.json")
    made = plan(PlanRequest(job=spec, allocation=allocation_of_all(node_facts(snapshot)), shim=shim))
    sys.stdout.write(made.to_json() + "\n" if options.json else explained(made) + "\n")
    return 0
