"""Arguments of a call, checked as strictly as the real server does and refused in its words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pilotwrap.lab.envelope import Json, PlainFailure

Kind: TypeAlias = Literal["int", "str", "float", "bool", "list", "dict", "number", "any"]

_PYTHON_TYPES: dict[Kind, type] = {
    "int": int,
    "str": str,
    "float": float,
    "bool": bool,
    "list": list,
    "dict": dict,
}

CHECKER_CRASH = "'types.UnionType' object has no attribute '__name__'"
"""What the real server's own type check dies of when an `int | float` argument has another type."""


class ArgumentRefusedError(Exception):
    """The arguments do not fit; the text is the message of the envelope."""


@dataclass(frozen=True)
class Argument:
    """One argument of a call: `number` stands for `int | float`, `any` for an argument without a declared type."""

    name: str
    kind: Kind
    required: bool
    default: Json = None


class Arguments:
    """The checked arguments of one call; those not given have their defaults."""

    def __init__(self, values: Mapping[str, Json], given: frozenset[str]) -> None:
        self._values = values
        self.given = given

    def text(self, name: str) -> str:
        """Return a text argument; empty when it is null or not text."""
        value = self._values.get(name)
        return value if isinstance(value, str) else ""

    def integer(self, name: str) -> int | None:
        """Return an integer argument (a bool counts, as on the real server); None when it is anything else."""
        value = self._values.get(name)
        return value if isinstance(value, int) else None

    def items(self, name: str) -> list[Json]:
        """Return a list argument; empty when it is null or no list."""
        value = self._values.get(name)
        return value if isinstance(value, list) else []

    def value(self, name: str) -> Json:
        """Return an argument as it came."""
        return self._values.get(name)

    def fields(self) -> dict[str, Json]:
        """Return the arguments that were given and are not null."""
        return {name: value for name, value in self._values.items() if name in self.given and value is not None}


def signature(text: str) -> tuple[Argument, ...]:
    """Return the arguments that `name:kind` or `name:kind=DEFAULT` words describe; a default is JSON."""
    return tuple(_argument(word) for word in text.split())


def _argument(word: str) -> Argument:
    name, _, rest = word.partition(":")
    kind, has_default, default = rest.partition("=")
    known: tuple[Kind, ...] = get_args(Kind)
    found = next(each for each in known if each == kind)
    return Argument(name, found, required=not has_default, default=json.loads(default) if has_default else None)


def checked(expected: tuple[Argument, ...], given: Mapping[str, Json]) -> Arguments:
    """Check a POST's arguments: nothing is converted, null only where it is the default, a bool passes as an int.

    Raises ArgumentRefusedError with the real server's wording, and PlainFailure where its check itself crashes.
    """
    _names_fit(expected, given)
    for argument in expected:
        if argument.name in given:
            _type_fits(argument, given[argument.name])
    return _complete(expected, given)


def cast(expected: tuple[Argument, ...], given: Mapping[str, Json]) -> Arguments:
    """Check a GET's arguments, which come as text and are cast; a repeated parameter is a list."""
    _names_fit(expected, given)
    return _complete(
        expected, {each.name: _cast_one(each, given[each.name]) for each in expected if each.name in given}
    )


def _names_fit(expected: tuple[Argument, ...], given: Mapping[str, Json]) -> None:
    for argument in expected:
        if argument.required and argument.name not in given:
            raise ArgumentRefusedError(f"Argument error: missing a required argument: '{argument.name}'")
    known = {argument.name for argument in expected}
    for name in given:
        if name not in known:
            raise ArgumentRefusedError(f"Argument error: got an unexpected keyword argument '{name}'")


def _type_fits(argument: Argument, value: Json) -> None:
    if argument.kind == "any" or (not argument.required and value == argument.default):
        return
    if argument.kind == "number":
        if not isinstance(value, int | float):
            raise PlainFailure(500, CHECKER_CRASH)
    elif not isinstance(value, _PYTHON_TYPES[argument.kind]):
        got = type(value).__name__
        raise ArgumentRefusedError(f"Type error: '{argument.name}' must be of type {argument.kind}, got {got}.")


def _cast_one(argument: Argument, value: Json) -> Json:
    given: Json = [value] if argument.kind == "list" and not isinstance(value, list) else value
    try:
        return _converted(argument.kind, given)
    except ValueError:
        wanted = "List" if argument.kind == "list" else argument.kind
        raise ArgumentRefusedError(
            f"Type error: '{argument.name}' with value '{given}' could not be casted to type {wanted} "
            f"from {type(given).__name__}."
        ) from None


def _converted(kind: Kind, value: Json) -> Json:
    match kind:
        case "list":
            return [int(str(item)) for item in value] if isinstance(value, list) else value
        case "int":
            return int(str(value))
        case "float" | "number":
            return float(str(value))
        case "bool" | "str" | "dict" | "any":
            return value


def _complete(expected: tuple[Argument, ...], given: Mapping[str, Json]) -> Arguments:
    values = {each.name: given.get(each.name, each.default) for each in expected}
    return Arguments(values, frozenset(given))
