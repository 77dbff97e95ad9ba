"""`pilotwrap starter`: print the one-file starter."""

import argparse
import sys

from pilotwrap.host import pack

EXAMPLE = "apptainer exec IMAGE pilotwrap starter > starter.pyz"


def arguments(_parser: argparse.ArgumentParser) -> None:
    """Declare nothing: there is one starter."""


def main(_options: argparse.Namespace) -> int:
    """Write the file's bytes to stdout."""
    sys.stdout.buffer.write(pack.packed())
    sys.stdout.buffer.flush()
    return 0
