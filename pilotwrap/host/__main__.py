"""`python -I -S FILE VERB …`: the host part as a program, from its one file or from the package's folder."""

import os
import sys

if __spec__ is None:  # run as a plain file: the package lies two folders up, and nothing else may shadow the library
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pilotwrap import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List

USAGE = """usage: %s observe [--sysroot DIR]      print this node's snapshot
       %s run --enter "WAY INTO THE IMAGE" [all options of pilotwrap run]
       %s shim FILE                    what a launcher starts once per rank"""


def observed(words: "List[str]") -> int:
    """Print the snapshot."""
    from pilotwrap.host import observe, wire

    if words and (len(words) != 2 or words[0] != "--sysroot"):  # noqa: PLR2004 - the option and its value
        return refused()
    sys.stdout.write(wire.line(observe.snapshot(words[1] if words else "")).decode("ascii"))
    return 0


def run(words: "List[str]") -> int:
    """Be the starter."""
    from pilotwrap.host import starter

    return starter.main(words, [])


def shimmed(words: "List[str]") -> int:
    """Be the shim of one rank."""
    from pilotwrap.host import shim

    return shim.main(words[0]) if len(words) == 1 else refused()


def refused() -> int:
    """Say how it is used."""
    print(USAGE % ((os.path.basename(sys.argv[0]),) * 3), file=sys.stderr)
    return 2


def program(words: "List[str]") -> int:
    """Do what these words say."""
    verbs = {"observe": observed, "run": run, "shim": shimmed}
    if words[:1] == ["--version"]:
        print("pilotwrap " + __version__)
        return 0
    if not words or words[0] not in verbs:
        return refused()
    return verbs[words[0]](words[1:])


if __name__ == "__main__":
    sys.exit(program(sys.argv[1:]))
