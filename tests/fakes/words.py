"""Options as strictly as getopt takes them: known names only, up to the first word that is none."""

from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

Refusal = Callable[[str], NoReturn]


def options(
    words: Sequence[str], known: Mapping[str, str | None], unknown: Refusal, missing: Refusal, *, joined: bool = False
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the values of each option by its first name, and the rest.

    `known`: each spelling, hyphens and all, to the name of what takes a value (a leading `!`: it takes none). With
    `joined` a short option's value may stand right behind its letter.
    """
    found: dict[str, list[str]] = {}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        spelled, equals, value = word.partition("=")
        if joined and spelled not in known and word[:2] in known and not word.startswith("--"):
            spelled, equals, value = word[:2], "=", word[2:].removeprefix("=")
        name = known.get(spelled)
        if name is None or (name.startswith("!") and equals):
            unknown(word)
        if name.startswith("!"):
            found.setdefault(name[1:], []).append("")
            continue
        if not equals:
            if not rest:
                missing(word)
            value = rest.pop(0)
        found.setdefault(name, []).append(value)
    return found, rest


def spellings(table: Mapping[str, str]) -> dict[str, str | None]:
    """Return each spelling of a table whose keys are spellings with blanks between."""
    return {spelling: name for names, name in table.items() for spelling in names.split()}


def last(found: Mapping[str, Sequence[str]], name: str, default: str = "") -> str:
    """Return an option's last value, which wins."""
    return found[name][-1] if name in found else default
