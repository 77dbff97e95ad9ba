"""A job's shell line as argv: through `/bin/sh -c`, or without it where the words say the same to both."""

import re
import shlex

_PLAIN_WORD = r"(?:[A-Za-z0-9_./:,@%+^-]|'[^']*')(?:[A-Za-z0-9_./:,@%+=^-]|'[^']*')*"
_PLAIN_LINE = re.compile(rf"\./{_PLAIN_WORD}(?:[ \t]+{_PLAIN_WORD})*[ \t]*")
"""A program of the job's own folder, then words without anything that a shell expands, splits otherwise or obeys."""


def argv_of(line: str) -> tuple[str, ...]:
    """Return the argv that does what `/bin/sh -c LINE` does; one shell less where nothing in the line needs it."""
    if _PLAIN_LINE.fullmatch(line):
        return tuple(shlex.split(line))
    return ("/bin/sh", "-c", line)
