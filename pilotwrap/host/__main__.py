"""`python -I -S FILE VERB …`: the host part as a program, from its one file or from the package's folder."""

import os
import sys

if __spec__ is None:  # run as a plain file: the package lies two folders up, and nothing else may shadow the library
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pilotwrap import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List

USAGE = """usage: %s observe [--sysroot DIR] [--probe ORDER.json] [--into FOLDER]
                                       print this node's snapshot, or write it there
       %s run --enter "WAY INTO THE IMAGE" [all options of pilotwrap run]
       %s shim FILE                    what a launcher starts once per rank
       %s compile FOLDER               make a shim there that starts faster, for this Python"""


def observed(words: "List[str]") -> int:
    """Print the snapshot, or put it into a folder under a name that no other node takes."""
    from pilotwrap.host import observe, wire

    said = dict(zip(words[::2], words[1::2]))  # noqa: B905 - strict came with Python 3.10
    if len(words) % 2 or set(said) - {"--sysroot", "--probe", "--into"}:
        return refused()
    taken = observe.snapshot(said.get("--sysroot", ""), asked="--into" not in said, probe=said.get("--probe", ""))
    line = wire.line(taken)
    if "--into" not in said:
        sys.stdout.write(line.decode("ascii"))
        return 0
    name = "%s/%s-%d" % (said["--into"], os.uname().nodename, os.getpid())
    fd = os.open(name + ".part", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(line)
    os.rename(name + ".part", name + ".json")  # whole or not at all: who collects these may look at any time
    return 0


def run(words: "List[str]") -> int:
    """Be the starter."""
    from pilotwrap.host import starter

    return starter.main(words, [])


def shimmed(words: "List[str]") -> int:
    """Be the shim of one rank."""
    from pilotwrap.host import shim

    return shim.run(words[0]) if len(words) == 1 else refused()


def compiled(words: "List[str]") -> int:
    """Write the shim's compiled modules into a folder."""
    if len(words) != 1:
        return refused()
    from pilotwrap.host import compiled

    try:
        compiled.write(words[0])
    except OSError as error:
        print("pilotwrap: nothing compiled in %s: %s" % (words[0], error.strerror), file=sys.stderr)
        return 1
    return 0


def refused() -> int:
    """Say how it is used."""
    print(USAGE % ((os.path.basename(sys.argv[0]),) * 4), file=sys.stderr)
    return 2


def program(words: "List[str]") -> int:
    """Do what these words say."""
    verbs = {"observe": observed, "run": run, "shim": shimmed, "compile": compiled}
    if words[:1] == ["--version"]:
        print("pilotwrap " + __version__)
        return 0
    if not words or words[0] not in verbs:
        return refused()
    return verbs[words[0]](words[1:])


if __name__ == "__main__":
    sys.exit(program(sys.argv[1:]))
