"""The host part as one file that Python runs: the same bytes from every machine and Python."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple

# It makes the file, and is not found in it.
LEFT_OUT = "pack.py"

TAIL = """
if __name__ == "__main__":
    if not sys.flags.isolated:
        del sys.path[0]  # the folder where this file happens to lie is none of ours
    import os

    sys.meta_path.insert(0, Sources(SOURCES, os.path.abspath(__file__)))
    from pilotwrap.host.__main__ import program

    sys.exit(program(sys.argv[1:]))
"""


def members() -> "List[Tuple[str, str]]":
    """Return (module, its text) of all that goes into it, in its order."""
    here = os.path.dirname(os.path.abspath(__file__))
    found = [("pilotwrap", text_of(os.path.join(os.path.dirname(here), "__init__.py")))]
    found.append(("pilotwrap.host", text_of(os.path.join(here, "__init__.py"))))
    for name in sorted(os.listdir(here)):
        if name.endswith(".py") and name not in (LEFT_OUT, "__init__.py"):
            found.append(("pilotwrap.host." + name[:-3], text_of(os.path.join(here, name))))  # noqa: PERF401 - readable
    return found


def packed() -> bytes:
    """Return the one file's bytes."""
    here = os.path.dirname(os.path.abspath(__file__))
    lines = ["#!/usr/bin/env python3", text_of(os.path.join(here, "onefile.py")), "SOURCES = {"]
    # repr() of text is the same in every Python; ASCII, so that no locale can misread the file
    lines += ["    %s: %s," % (ascii(name), ascii(text)) for name, text in members()]
    return ("\n".join([*lines, "}", TAIL])).encode("ascii", "strict")


def text_of(path: str) -> str:
    """Return a source file's text."""
    with open(path, "rb") as source:
        return source.read().decode("utf-8")
