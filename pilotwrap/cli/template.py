"""`template`: what a site needs, filled in: the batch script of a machine."""

import argparse
import shlex
import sys
from pathlib import Path

EXAMPLE = "pilotwrap template batch frontier --account ABC123 --minutes 120 > job.sbatch"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Name what `template` takes."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    batch = kinds.add_parser("batch", help="a batch script: resources, then one line of pilotwrap")
    add = batch.add_argument
    add("machine", metavar="MACHINE", help="one of `pilotwrap machines`, or a machine file")
    add("--account", metavar="NAME", help="account, project or bank that pays")
    add("--queue", metavar="NAME", help="queue, partition or QOS")
    add("-n", "--nodes", type=int, metavar="NODES", help="nodes of the job")
    add("--minutes", type=int, metavar="MINUTES", help="its wall time")
    add("--run", metavar="WORDS", help='what `pilotwrap run` is given, quoted as for a shell ("--spec job.json")')


def main(options: argparse.Namespace) -> int:
    """Print the script."""
    from pilotwrap.cli.machinefile import machine_for
    from pilotwrap.model.errors import UsageError
    from pilotwrap.site.machines.script import BatchRequest, batch_script

    for name in ("nodes", "minutes"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value}", why="it must be 1 at least")
    words = ("run", *_words(options.run)) if options.run else BatchRequest().words
    request = BatchRequest(
        account=options.account,
        queue=options.queue,
        nodes=options.nodes,
        minutes=options.minutes,
        words=words,
    )
    sys.stdout.write(batch_script(machine_for(options.machine, [Path()]), request))
    return 0


def _words(text: str) -> list[str]:
    from pilotwrap.model.errors import UsageError

    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--run {text!r}", why=str(error), remedy="quote it as for a shell") from error
