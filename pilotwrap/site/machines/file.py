"""A machine's TOML file to its values; what is wrong in it is named by its key."""

import sys

from pydantic import ValidationError

from pilotwrap.model.errors import BadInputError
from pilotwrap.site.machines.machine import Machine

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"the machine file {name} is no TOML", why=str(error)) from error
    try:
        return Machine.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        given = first["input"]
        shown = f"it is {given!r}; " if isinstance(given, (str, int, float)) else ""
        raise BadInputError(
            f"the machine file {name} is wrong at {key}",
            why=shown + EXPECTED.get(first["type"], first["msg"]),
            remedy="see docs/machines.md for every key, or `pilotwrap machines --json` for files that are right",
        ) from error
