"""Where PanDA's own pilot comes from: the image, a directory, a tarball or PyPI; found, checked, its version read."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pilotwrap.model.base import Value
from pilotwrap.model.errors import PilotError, UsageError
from pilotwrap.plan.pilotflags import PilotVersion, parsed_version, shown
from pilotwrap.run.pilot3.cache import PilotCache
from pilotwrap.run.pilot3.index import PYPI_SHA256, PYPI_VERSION, sdist

PLACES = ("/opt/pilotwrap/pilot3",)
"""Where the images that are built here have it."""

_DIGEST_MARK = "#sha256="
_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".tar.xz", ".tar.bz2")
_CONSTANTS = ("RELEASE", "VERSION", "REVISION", "BUILD")


class PilotSource(Value):
    """Where to take it from."""

    kind: Literal["image", "directory", "tarball", "pypi"]
    path: str = ""
    sha256: str | None = None
    """Of a tarball, in hexadecimal."""

    places: tuple[str, ...] = PLACES
    """Where it is looked for in the image."""


class FoundPilot(Value):
    """A pilot that is there."""

    directory: str
    """Where pilot.py lies."""

    version: PilotVersion
    origin: str
    """For people."""

    sha256: str | None = None
    """Of the archive that it was taken from."""


def pilot_source(text: str) -> PilotSource:
    """Return what `image | DIR | FILE.tar.gz#sha256=… | pypi` means; UsageError when it means nothing.

    A directory of the name image or pypi is written `./image`.
    """
    if text == "image":
        return PilotSource(kind="image")
    if text == "pypi":
        return PilotSource(kind="pypi", sha256=PYPI_SHA256)
    path, mark, digest = text.rpartition(_DIGEST_MARK)
    if mark:
        return PilotSource(kind="tarball", path=_named(path, text), sha256=_digest(digest))
    if text.endswith(_ARCHIVES):
        raise UsageError(
            f"the pilot's tarball {text} needs its checksum",
            why="what is run must be what was meant",
            remedy=f"look it up where it was published, and write {text}{_DIGEST_MARK}…",
        )
    return PilotSource(kind="directory", path=_named(text, text))


def find(source: PilotSource, into: Path, environment: Mapping[str, str], *, shared: bool = False) -> FoundPilot:
    """Return where the pilot lies, fetched and unpacked below `into` if need be.

    Shared: another user will read it. The environment is for pip, which takes its settings and proxies from there.
    PilotError says what is wrong with it, and what to do.
    """
    cache = PilotCache(into.absolute(), shared=shared)
    if source.kind == "image":
        return _in_image(source, cache)
    if source.kind == "directory":
        return _in_directory(Path(source.path).absolute(), cache)
    digest = source.sha256 or ""
    if source.kind == "tarball":
        archive = Path(source.path).absolute()
        tree = cache.unpacked(digest, lambda: _read(archive))
        return _found(tree, f"tarball {archive}", digest)
    tree = cache.unpacked(digest, lambda: sdist(environment))
    return _found(tree, f"panda-pilot {PYPI_VERSION} of PyPI", digest)


def version_in(directory: Path) -> PilotVersion:
    """Return the version of the pilot in a directory, read and never run; PilotError when it does not say.

    It stands in PILOTVERSION; where that is not, in pilot/util/constants.py.
    """
    try:
        return parsed_version((directory / "PILOTVERSION").read_text("utf-8"))
    except FileNotFoundError:
        return _version_of_constants(directory / "pilot" / "util" / "constants.py")
    except (OSError, UnicodeError) as error:
        raise _unversioned(directory, str(error)) from error


def _in_image(source: PilotSource, cache: PilotCache) -> FoundPilot:
    for place in source.places:
        if _home_of(Path(place)) is not None:
            return _in_directory(Path(place), cache)
    raise PilotError(
        "there is no pilot in the image",
        why=f"looked at {', '.join(source.places)}",
        remedy="name a directory, a tarball with its sha256, or pypi (--pilot)",
    )


def _in_directory(place: Path, cache: PilotCache) -> FoundPilot:
    home = _home_of(place)
    if home is None:
        raise PilotError(
            f"there is no pilot in {place}",
            why="pilot.py is not there",
            remedy="name the directory that holds pilot.py",
        )
    return _found(cache.readable(home), f"directory {place}", None)


def _home_of(place: Path) -> Path | None:
    return next((home for home in (place, place / "pilot3") if _holds_pilot(home)), None)


def _holds_pilot(home: Path) -> bool:
    try:
        return (home / "pilot.py").is_file()
    except OSError:  # a broken mount is a place without a pilot
        return False


def _found(home: Path, origin: str, sha256: str | None) -> FoundPilot:
    version = version_in(home)
    return FoundPilot(directory=str(home), version=version, origin=f"{origin}, version {shown(version)}", sha256=sha256)


def _read(archive: Path) -> bytes:
    try:
        return archive.read_bytes()
    except OSError as error:
        raise PilotError(
            f"the pilot's tarball {archive} cannot be read", why=error.strerror or "", remedy="check the path"
        ) from error


def _version_of_constants(path: Path) -> PilotVersion:
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        raise _unversioned(
            path.parent.parent.parent, "no PILOTVERSION, and nothing in pilot/util/constants.py"
        ) from error
    values = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return parsed_version(".".join(str(values.get(name, "?")) for name in _CONSTANTS))


def _unversioned(directory: Path, why: str) -> PilotError:
    return PilotError(f"the pilot in {directory} does not tell its version", why=why, remedy="take a released one")


def _named(path: str, text: str) -> str:
    if not path or "\0" in path:
        raise UsageError(
            f"{text!r} names no pilot",
            why="expected image, pypi, DIR or FILE.tar.gz#sha256=…",
            remedy="correct --pilot",
        )
    return path


def _digest(text: str) -> str:
    if re.fullmatch(r"[0-9a-fA-F]{64}", text) is None:
        raise UsageError(
            f"{text!r} is no SHA-256",
            why="expected 64 hexadecimal digits",
            remedy="run sha256sum on the published file",
        )
    return text.lower()
