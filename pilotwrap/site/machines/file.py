"""A machine's TOML file to its values; what is wrong in it is named by its key."""

import sys

from pydantic import ValidationError

from pilotwrap.model.errors import BadInputError
from pilotwrap.site.machines.machine import Machine

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LINE_MOST = 4096
"""Characters of a line: the parser's time and memory grow with the square of a key's parts."""

EXPECTED = {
    "missing": "it is missing",
    "extra_forbidden": "no such key is known",
    "string_type": "a text in quotes is expected",
    "int_type": "a whole number is expected",
    "int_parsing": "a whole number is expected",
    "tuple_type": "a list in [ ] is expected",
    "model_type": "a table is expected",
    "dict_type": "a table is expected",
}
"""What pydantic calls wrong, in the words of the file; other messages say it themselves."""


def machine_in(text: str, name: str) -> Machine:
    """Return the machine that a file's text describes; BadInputError names the file, the key and what is expected."""
    try:
        found = tomllib.loads(_with_lines_of_bounded_length(text))
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"the machine file {name} is no TOML", why=str(error)) from error
    try:
        return Machine.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        given = first["input"]
        shown = f"it is {repr(given)[:80]}; " if isinstance(given, (str, int, float)) else ""
        expected = EXPECTED.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise BadInputError(
            f"the machine file {name} is wrong at {key[:200]}",
            why=shown + expected,
            remedy="see docs/machines.md for every key, or `pilotwrap machines --json` for files that are right",
        ) from error


def _with_lines_of_bounded_length(text: str) -> str:
    number, longest = max(enumerate(map(len, text.splitlines()), start=1), key=lambda one: one[1], default=(0, 0))
    if longest > LINE_MOST:
        raise ValueError(f"line {number} has {longest} characters, {LINE_MOST} is the most")
    return text
