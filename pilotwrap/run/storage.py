"""The storage map: which URL prefix stands for which of PanDA's storage endpoints."""

import json
from pathlib import Path
from urllib.parse import quote, urlsplit

from pilotwrap.model.base import Value
from pilotwrap.model.errors import BadInputError, PilotwrapError, StageInError
from pilotwrap.run.jobfile import is_safe_name, reason_of

EXPECTED = 'expected {"ENDPOINT": "file:///dir/" or "https://host/path/", …}, the key "" for all others'


class StorageMap(Value):
    """Endpoint → URL prefix; "" stands for every endpoint that is not named, and for files without one."""

    prefixes: dict[str, str] = {}

    def serves(self, endpoint: str | None) -> bool:
        """Tell whether there is a place for files of this endpoint."""
        return not {endpoint or "", ""}.isdisjoint(self.prefixes)

    def url(self, endpoint: str, lfn: str, error: type[PilotwrapError] = StageInError) -> str:
        """Return where a file of an endpoint is; an unknown endpoint or an unsafe name is an `error`."""
        if not is_safe_name(lfn):
            raise error(f"{lfn[:80]!r} is not a plain file name", remedy="correct the job's file list")
        prefix = self.prefixes.get(endpoint, self.prefixes.get(""))
        if prefix is None:
            known = ", ".join(sorted(self.prefixes)) or "none"
            raise error(
                f"no place is known for {lfn!r}",
                why=f"the storage endpoint {endpoint!r} is not in the storage map (it has: {known})",
                remedy=f'add "{endpoint}": "URL" to the file given with --storage',
            )
        return prefix + quote(lfn)


def read_storage_map(path: Path) -> StorageMap:
    """Read the file of `--storage`; BadInputError names the file, the key and what was expected."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = reason_of(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BadInputError(f"storage map {path} cannot be read", why=why, remedy=EXPECTED) from error
    return parse_storage_map(text, str(path))


def parse_storage_map(text: str, name: str) -> StorageMap:
    """Parse a storage map; `name` is what its errors call it."""
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"storage map {name} is not JSON", why=str(error), remedy=EXPECTED) from error
    if not isinstance(pairs, _Pairs):
        raise BadInputError(f"storage map {name} is not a JSON object", remedy=EXPECTED)
    prefixes: dict[str, str] = {}
    for endpoint, prefix in pairs:
        if endpoint in prefixes:
            raise BadInputError(f"storage map {name}: {endpoint!r} is there twice", remedy="keep one of them")
        prefixes[endpoint] = _prefix(prefix, f"storage map {name}: {endpoint!r}")
    return StorageMap(prefixes=prefixes)


class _Pairs(list[tuple[str, object]]):
    """A JSON object in which a repeated key is still seen."""


def _prefix(said: object, what: str) -> str:
    if not isinstance(said, str):
        raise BadInputError(f"{what} is not text", remedy=EXPECTED)
    try:
        parts = urlsplit(said)
        host = parts.hostname or ""
    except ValueError as error:
        raise BadInputError(f"{what} is not a URL", why=str(error), remedy=EXPECTED) from error
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise BadInputError(
            f"{what} holds a query, a fragment or a user", remedy="give the plain prefix: no credential"
        )
    if not _is_place(parts.scheme, host, parts.path):
        raise BadInputError(f"{what} is {said[:80]!r}", remedy=EXPECTED)
    return said if said.endswith("/") else said + "/"


def _is_place(scheme: str, host: str, path: str) -> bool:
    """Tell whether files can be there: an absolute path of this machine, or a web server's."""
    if scheme == "file":
        return host in {"", "localhost"} and path.startswith("/")
    return scheme in {"http", "https"} and bool(host)
