"""`why`: the 3 a.m. verb: one sentence, what to do, then the evidence."""

import argparse
import json
import sys
from pathlib import Path

EXAMPLE = "pilotwrap why pilotwrap-runs/3f/20261121-081530-1a2b3c4d"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Name what `why` takes."""
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run's own directory")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def main(options: argparse.Namespace) -> int:
    """Print why a run ended as it did."""
    from pilotwrap.run.inquest import inquest
    from pilotwrap.view.inquest import told

    found = inquest(options.run_dir)
    sys.stdout.write(json.dumps(found.model_dump(mode="json")) + "\n" if options.json else told(found))
    return 0
