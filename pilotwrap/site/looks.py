"""What a thing of the site needs to be looked at: its variables, files, commands and programs."""

from collections.abc import Iterable
from typing import NamedTuple


class Command(NamedTuple):
    """A command to ask, only where the variable `when` is set; `{NAME}` in its words stands for a variable."""

    when: str
    argv: tuple[str, ...]


class Looks(NamedTuple):
    """What the starter should look at for one thing; a variable that ends in `*` is a prefix."""

    variables: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()
    programs: tuple[str, ...] = ()


def union(many: Iterable[Looks]) -> Looks:
    """Return everything that any of them wants, each once, in a fixed order."""
    all_looks = tuple(many)
    return Looks(
        variables=tuple(sorted({name for looks in all_looks for name in looks.variables})),
        files=tuple(sorted({path for looks in all_looks for path in looks.files})),
        commands=tuple(sorted({command for looks in all_looks for command in looks.commands})),
        programs=tuple(sorted({name for looks in all_looks for name in looks.programs})),
    )
