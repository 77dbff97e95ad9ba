"""The part of JSON Schema that our values use (json-schema.org, 2020-12); any other word in a schema is an error."""

import re
from collections.abc import Iterator
from typing import Any

KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "array": list,
    "object": dict,
}
SILENT = {"title", "description", "default", "$defs", "$id", "$schema", "type", "required"}


def faults(schema: dict[str, Any], value: Any, root: dict[str, Any] | None = None) -> Iterator[str]:  # noqa: ANN401
    """Yield why a value is not what its schema allows."""
    root = root or schema
    if "type" in schema and not _is_a(schema["type"], value):
        yield f"{value!r} is no {schema['type']}"
        return
    yield from (f"{name} is missing" for name in schema.get("required", ()) if name not in value)
    for word in set(schema) - SILENT:
        yield from RULES[word](schema, value, root)


def _is_a(kind: str, value: object) -> bool:
    return isinstance(value, KINDS[kind]) and not (isinstance(value, bool) and kind in {"integer", "number"})


def _ref(schema: dict[str, Any], value: object, root: dict[str, Any]) -> Iterator[str]:
    return faults(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, root)


def _any(schema: dict[str, Any], value: object, root: dict[str, Any]) -> Iterator[str]:
    tried = [list(faults(one, value, root)) for one in schema["anyOf"]]
    if all(tried):
        yield f"{value!r} is none of {tried}"


def _properties(schema: dict[str, Any], value: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    for name, one in schema["properties"].items():
        if name in value:
            yield from (f"{name}: {fault}" for fault in faults(one, value[name], root))


def _additional(schema: dict[str, Any], value: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    allowed = schema["additionalProperties"]
    for name in value.keys() - schema.get("properties", {}).keys():
        if allowed is False:
            yield f"{name} is unknown"
        elif allowed is not True:
            yield from (f"{name}: {fault}" for fault in faults(allowed, value[name], root))


def _items(schema: dict[str, Any], value: list[Any], root: dict[str, Any]) -> Iterator[str]:
    return (fault for one in value for fault in faults(schema["items"], one, root))


def _must(true: bool, schema: dict[str, Any], value: object) -> Iterator[str]:  # noqa: FBT001
    if not true:
        yield f"{value!r} is not as {schema} says"


RULES: dict[str, Any] = {
    "$ref": _ref,
    "anyOf": _any,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "const": lambda schema, value, _: _must(value == schema["const"], schema, value),
    "enum": lambda schema, value, _: _must(value in schema["enum"], schema, value),
    "minimum": lambda schema, value, _: _must(value >= schema["minimum"], schema, value),
    "maximum": lambda schema, value, _: _must(value <= schema["maximum"], schema, value),
    "exclusiveMinimum": lambda schema, value, _: _must(value > schema["exclusiveMinimum"], schema, value),
    "minLength": lambda schema, value, _: _must(len(value) >= schema["minLength"], schema, value),
    "maxLength": lambda schema, value, _: _must(len(value) <= schema["maxLength"], schema, value),
    "pattern": lambda schema, value, _: _must(bool(re.search(schema["pattern"], value)), schema, value),
}
