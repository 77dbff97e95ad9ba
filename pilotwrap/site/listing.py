"""All that the site's files want looked at: the data that is packed into the starter.

`python -m pilotwrap.site.listing > pilotwrap/host/looks.py` writes it there.
"""

import sys

from pilotwrap.site import basis
from pilotwrap.site.accelerators import vendors
from pilotwrap.site.launchers.listing import LAUNCHERS
from pilotwrap.site.looks import Looks, union
from pilotwrap.site.runtimes import listing as runtimes
from pilotwrap.site.schedulers.listing import SCHEDULERS

_HEAD = '''"""What to look at on a node: written by `python -m pilotwrap.site.listing` from `site/`, which says why."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict

'''


def all_looks() -> Looks:
    """Return what the starter looks at."""
    return union(
        (
            basis.LOOKS,
            vendors.LOOKS,
            runtimes.LOOKS,
            *(scheduler.LOOKS for scheduler in SCHEDULERS),
            *(launcher.LOOKS for launcher in LAUNCHERS),
        )
    )


def looks_source() -> str:
    """Return the file of the starter that holds it: Python 3.6, standard library only, names sorted, a line each."""
    looks = all_looks()
    commands = [f'{{"when": {_quoted(when)}, "argv": [{_joined(argv)}]}}' for when, argv in looks.commands]
    parts = {
        "variables": map(_quoted, looks.variables),
        "files": map(_quoted, looks.files),
        "commands": commands,
        "programs": map(_quoted, looks.programs),
    }
    body = "".join(
        f'    "{name}": [\n' + "".join(f"        {line},\n" for line in lines) + "    ],\n"
        for name, lines in parts.items()
    )
    return f'{_HEAD}LOOKS: "Dict[str, object]" = {{\n{body}}}\n'


def _joined(words: tuple[str, ...]) -> str:
    return ", ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    return f'"{word}"'


def passed_on() -> tuple[str, ...]:
    """Return the patterns of inherited names that every payload gets."""
    owned = {name for scheduler in SCHEDULERS for name in scheduler.PASSED_ON}
    owned |= {name for launcher in LAUNCHERS for name in launcher.PASSED_ON}
    return (*basis.PASSED_ON, *sorted(owned))


if __name__ == "__main__":
    sys.stdout.write(looks_source())
