"""`machines`: the machines that are known."""

import argparse
import json
import sys

EXAMPLE = "pilotwrap machines"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Name what `machines` takes."""
    parser.add_argument("--json", action="store_true", help="print them as JSON")


def main(options: argparse.Namespace) -> int:
    """Print a line a machine."""
    from pilotwrap.site.machines.listing import machines

    known = machines()
    if options.json:
        sys.stdout.write(json.dumps([machine.model_dump() for machine in known]) + "\n")
        return 0
    for machine in known:
        sys.stdout.write(f"{machine.name:<16} {machine.scheduler:<6} {machine.description}\n")
    return 0
