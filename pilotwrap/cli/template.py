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
    from pydantic import ValidationError

    from pilotwrap.cli.machinefile import machine_for
    from pilotwrap.model.errors import UsageError
    from pilotwrap.site.machines.script import BatchRequest, batch_script

    given = {name: getattr(options, name) for name in ("account", "queue", "nodes", "minutes")}
    words = {} if options.run is None else {"words": ("run", *_words(options.run))}
    try:
        request = BatchRequest(**given, **words)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise UsageError(f"--{first['loc'][0]} {first['input']}", why=first["msg"]) from error
    sys.stdout.write(batch_script(machine_for(options.machine, [Path()]), request))
    return 0


def _words(text: str) -> list[str]:
    from pilotwrap.model.errors import UsageError

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--run {text!r}", why=str(error), remedy="quote it as for a shell") from error
    if not words:
        raise UsageError("--run is empty", remedy='give it words for `pilotwrap run`, as "--spec job.json"')
    return words
