"""`machines`: the machines that are known."""

import argparse
import json
import sys

EXAMPLE = "pilotwrap machines"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Name what `machines` takes."""
    parser.add_argument("--json", action="store_true", help="print all that is known of them, with its sources")


def main(options: argparse.Namespace) -> int:
    """Print a line a machine; one's own take the place of known ones of the same name."""
    from pilotwrap.cli.machinefile import own_machines
    from pilotwrap.site.machines.listing import machines

    known = sorted({one.name: one for one in (*machines(), *own_machines())}.items())
    if options.json:
        listed = [machine.model_dump(mode="json", by_alias=True) for _, machine in known]
        sys.stdout.write(json.dumps({"machines": listed}) + "\n")
        return 0
    for name, machine in known:
        sys.stdout.write(f"{name:<16} {machine.scheduler:<6} {machine.description}\n")
    return 0
