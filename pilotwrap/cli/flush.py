"""`flush DIR`: send what a dead run left unreported."""

import argparse
import sys
import time
from pathlib import Path

EXAMPLE = "pilotwrap flush ~/runs"

DEADLINE_S = 120.0
"""For all runs together. A guess: a login node's user waits no longer, and what is left waits for the next flush."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `flush` takes."""
    parser.add_argument("directory", metavar="DIR", type=Path, help="a run's directory, or the --run-dir of many")
    parser.add_argument("--credential", metavar="PATH", help="use this one, not the one that the run had")
    parser.add_argument("--origin", metavar="VO.ROLE", help="what a token given as --credential speaks for")
    parser.add_argument("--deadline", metavar="S", type=float, default=DEADLINE_S, help="give up after S seconds (120)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(options: argparse.Namespace) -> int:
    """Flush, say in one line what came of it, and return 0 when nothing is left."""
    from pilotwrap.panda.client import connected
    from pilotwrap.panda.credentials import credential_at
    from pilotwrap.panda.flush import Errand, flush

    given = options.credential is not None
    credential = credential_at(options.credential, options.origin) if given else None
    errand = Errand(connected, time.time(), time.monotonic() + options.deadline, credential)
    result = flush(options.directory, errand)
    for problem in result.problems:
        print(f"pilotwrap: {problem}", file=sys.stderr)
    print(result.to_json() if options.json else result.line())
    return result.exit_code
