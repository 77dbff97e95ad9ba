"""The words between starter, controller and shim: every key in one place, and how a line is read and written.

`docs/wire.md` says what each means. Values are plain: text, numbers, lists and mappings of them.
"""

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional

PROTOCOL = 1

SNAPSHOT_SCHEMA = "pilotwrap.snapshot/1"

EVENTS = {
    "hello": ("protocol", "version", "self", "cwd", "pid", "words", "tty", "enter", "machines"),
    "snapshot": ("snapshot",),
    "observed": ("id", "snapshot"),
    "started": ("id", "pid", "pid_namespace", "why"),
    "failed": ("id", "errno", "text", "what"),
    "exited": ("id", "exit_code", "signal", "timed_out", "cut", "left", "contained", "note", "usage"),
    "stop": ("signal",),
}

USAGE = ("wall_s", "user_s", "system_s", "max_rss_kib", "started_at")

ORDERS = {
    "observe": ("id",),
    "spawn": (
        *("id", "argv", "keep", "env", "unset", "cwd", "session", "stdin", "stdout", "stderr", "output_cap"),
        *("cpus", "devices", "counted", "user", "wall_s", "grace_s", "pid_namespace"),
    ),
    "signal": ("id", "signal", "grace_s"),
    "grace": ("seconds",),
    "finish": ("exit_code", "output"),
}

SHIM = (
    *("protocol", "rank", "local_rank", "size", "host", "bindings", "argv", "keep", "env", "unset", "cwd"),
    *("grace_s", "results", "begun", "fail_by", "output", "output_cap"),
)

BINDING = ("local_rank", "cpus", "env", "devices", "counted")

RESULT = ("rank", "local_rank", "host", "exit_code", "signal", "reason", "detail", "ended_by", "left")

SNAPSHOT = (
    *("schema", "version", "taken_at", "host", "python", "system", "uid", "cwd", "ancestors", "variables"),
    *("files", "listings", "commands", "programs", "affinity", "disk", "devices", "nvidia", "probes"),
)


class GarbledError(ValueError):
    """A line, or a value in it, is not what the wire allows."""


class _Reading:
    """How the interpreter's own scanner reads JSON: as `json.loads` would, without importing `json`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: "Dict[str, str]" = {}


def _unknown(value: object) -> object:
    raise GarbledError("not a plain value: %r" % (value,))


# The package `json` opens 130 files to give us these two, which are compiled into the interpreter's `_json`.
_scan = _json.make_scanner(_Reading)  # type: ignore[arg-type]
_encode = _json.make_encoder(
    *(None, _unknown, _json.encode_basestring_ascii, None, ": ", ", "),
    *(False, False, False),  # sort_keys, skipkeys, allow_nan
)


def line(message: "Dict[str, object]") -> bytes:
    """Return a message as one line of ASCII JSON with its newline."""
    return "".join(_encode(message, 0)).encode("ascii") + b"\n"


def message(data: bytes) -> "Dict[str, object]":
    """Return what a line says; whatever is no JSON object is a `GarbledError`."""
    try:
        value, end = _scan(data.decode("utf-8").strip(), 0)
    except (StopIteration, ValueError, RecursionError, SystemError) as error:
        # the scanner means to raise what `json.decoder` defines, and has none unless that is imported
        raise GarbledError("not JSON: %r" % data[:80]) from error
    if not isinstance(value, dict) or end != len(data.decode("utf-8").strip()):
        raise GarbledError("not one JSON object: %r" % data[:80])
    return value


def text(values: "Dict[str, object]", key: str, default: "Optional[str]" = None) -> str:
    """Return a value that must be text; null or no value is the default, if there is one."""
    value = values.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise GarbledError("%s must be text, not %r" % (key, value))
    return value


def number(values: "Dict[str, object]", key: str, default: "Optional[float]" = None) -> float:
    """Return a value that must be a number; null or no value is the default, if there is one."""
    value = values.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise GarbledError("%s must be a number, not %r" % (key, value))
    return value


def flag(values: "Dict[str, object]", key: str) -> bool:
    """Return a value that must be true or false; null or no value is false."""
    value = values.get(key)
    if value is not None and not isinstance(value, bool):
        raise GarbledError("%s must be true or false, not %r" % (key, value))
    return bool(value)


def texts(values: "Dict[str, object]", key: str) -> "List[str]":
    """Return a value that must be a list of texts; none is an empty one."""
    value = values.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise GarbledError("%s must be a list of texts, not %r" % (key, value))
    return value


def mapping(values: "Dict[str, object]", key: str) -> "Dict[str, object]":
    """Return a value that must be a mapping; none is an empty one."""
    value = values.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise GarbledError("%s must be a mapping, not %r" % (key, value))
    return value


def mappings(values: "Dict[str, object]", key: str) -> "List[Dict[str, object]]":
    """Return a value that must be a list of mappings; none is an empty one."""
    value = values.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise GarbledError("%s must be a list of mappings, not %r" % (key, value))
    return value


def raw(value: str) -> bytes:
    """Return the bytes of a path, word or variable; the locale, which may be C, has no say."""
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise GarbledError("not encodable: %r" % value) from error


def cooked(value: bytes) -> str:
    """Return the text of a path, word or variable, such that `raw` gives the same bytes back."""
    return value.decode("utf-8", "surrogateescape")
