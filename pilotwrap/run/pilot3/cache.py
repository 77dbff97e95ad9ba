"""Unpacked pilots, kept by the checksum of what they were unpacked from; safe for several runs at once.

Each lies in a folder `pilot3`, the name that the pilot expects of its own when it copies itself.
"""

import gzip
import hashlib
import io
import lzma
import os
import secrets
import shutil
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from pilotwrap.model.errors import PilotError

MAX_BYTES = 64 * 1024 * 1024
MAX_MEMBERS = 10_000
"""A pilot has 234 members and 2.4 MB; the bounds are a guess that no archive of one reaches."""

_HOME = "pilot3"

_BROKEN = (
    tarfile.TarError,
    EOFError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
)
"""What reading an archive that is none may raise, and what one that names a thing twice does to its files."""


class PilotCache:
    """The folder below which pilots are unpacked; `shared`: other users may read them."""

    def __init__(self, directory: Path, *, shared: bool) -> None:
        self._directory = directory
        self._shared = shared

    def unpacked(self, sha256: str, fetch: Callable[[], bytes]) -> Path:
        """Return where the archive of this checksum is unpacked, fetching it if it is not yet; PilotError."""
        kept = self._place(sha256)
        if not _is_whole(kept):
            content = fetch()
            found = hashlib.sha256(content).hexdigest()
            if found != sha256:
                raise PilotError(
                    "the pilot's archive is not the one that was meant",
                    why=f"its sha256 is {found}, expected {sha256}",
                    remedy="fetch it again, or correct the checksum if the archive is the right one",
                )
            self._fill(kept, lambda home: _unpack(content, home))
        return self._checked(kept / _HOME)

    def readable(self, home: Path) -> Path:
        """Return a pilot's own directory, or if the user who is to run it cannot read it, a copy."""
        if not self._shared or (_open_to_all(home) and _blocking(home) is None):
            return home
        try:
            kept = self._place(_digest_of(home))
            self._fill(kept, lambda copy: shutil.copytree(home, copy, ignore=shutil.ignore_patterns("__pycache__")))
        except (OSError, shutil.Error) as error:
            raise PilotError(
                f"the pilot in {home} cannot be copied", why=str(error), remedy="make it readable for everybody"
            ) from error
        return self._checked(kept / _HOME)

    def _place(self, key: str) -> Path:
        return self._directory / (f"{key}-shared" if self._shared else key)

    def _fill(self, kept: Path, make: Callable[[Path], object]) -> None:
        """Make it beside its place and rename it: whoever comes second finds the first one's."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o755 if self._shared else 0o700)
            part = self._directory / f".part-{secrets.token_hex(8)}"
            part.mkdir(mode=0o700)
        except OSError as error:
            raise _no_room(self._directory, error) from error
        try:
            make(part / _HOME)
            _set_modes(part, shared=self._shared)
            part.rename(kept)
        except OSError as error:
            if not _is_whole(kept):
                raise _no_room(kept, error) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _checked(self, home: Path) -> Path:
        owner = home.stat()
        if owner.st_uid not in {os.geteuid(), 0} or stat.S_IMODE(owner.st_mode) & 0o022:
            raise PilotError(
                f"the pilot in {home} may have been changed by others",
                why=f"it belongs to user {owner.st_uid} with mode {stat.S_IMODE(owner.st_mode):o}",
                remedy=f"remove {home.parent}, and keep such files where only you may write",
            )
        blocking = _blocking(home) if self._shared else None
        if blocking is not None:
            raise PilotError(
                f"the pilot in {home} cannot be reached by another user",
                why=f"{blocking} is closed to others",
                remedy="let it be unpacked elsewhere, or open that directory",
            )
        return home


def _is_whole(kept: Path) -> bool:
    return (kept / _HOME / "pilot.py").is_file()


def _unpack(content: bytes, home: Path) -> None:
    """Write an archive's files and directories; PilotError for anything else in it, or a name that leads elsewhere."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            members = _members(archive)
            top = _top(members)
            for member, path in members:
                _write(archive, member, home / path.relative_to(top))
    except _BROKEN as error:
        raise _refused(f"it cannot be unpacked: {error}") from error


def _members(archive: tarfile.TarFile) -> list[tuple[tarfile.TarInfo, PurePosixPath]]:
    kept = list[tuple[tarfile.TarInfo, PurePosixPath]]()
    size = 0
    for member in archive:
        path = PurePosixPath(member.name)
        size += member.size
        if path.is_absolute() or ".." in path.parts or "\0" in member.name:
            raise _refused(f"{member.name!r} leads out of it")
        if not (member.isreg() or member.isdir()):
            raise _refused(f"{member.name!r} is neither file nor directory")
        if size > MAX_BYTES or len(kept) >= MAX_MEMBERS:
            raise _refused(f"it unpacks to more than {MAX_BYTES} bytes or {MAX_MEMBERS} files")
        kept.append((member, path))
    return kept


def _top(members: list[tuple[tarfile.TarInfo, PurePosixPath]]) -> PurePosixPath:
    """Return the folder in the archive that holds pilot.py: itself, or the one that all lies in."""
    tops = [path.parent for member, path in members if path.name == "pilot.py" and member.isreg()]
    for top in sorted(tops, key=lambda each: len(each.parts))[:1]:
        if len(top.parts) <= 1 and all(path.is_relative_to(top) for _, path in members):
            return top
    raise _refused("pilot.py is not in its top folder (PyPI's wheel has none, its source archive does)")


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = archive.extractfile(member)
    if source is None:
        raise _refused(f"{member.name!r} cannot be read")
    with source, target.open("xb") as file:
        shutil.copyfileobj(source, file)
    if member.mode & 0o100:
        target.chmod(0o700)


def _set_modes(part: Path, *, shared: bool) -> None:
    """Give nobody but the owner the right to write, and others that to read only if it is shared."""
    for path in (part, *part.rglob("*")):
        if path.is_dir() or path.stat().st_mode & 0o100:
            path.chmod(0o755 if shared else 0o700)
        else:
            path.chmod(0o644 if shared else 0o600)


def _open_to_all(home: Path) -> bool:
    try:
        return all(path.stat().st_mode & 0o004 for path in _contents(home))
    except OSError:
        return False


def _contents(home: Path) -> Iterator[Path]:
    yield home
    yield from sorted(path for path in home.rglob("*") if "__pycache__" not in path.parts)


def _blocking(home: Path) -> Path | None:
    """Return the directory on the way that other users may not pass; None: there is none."""
    inner = (path for path in home.rglob("*") if path.is_dir())
    for path in (*home.resolve().parents, home, *inner):
        if not path.stat().st_mode & 0o001:
            return path
    return None


def _digest_of(home: Path) -> str:
    digest = hashlib.sha256()
    for path in _contents(home):
        digest.update(f"{path.relative_to(home)}\0".encode("utf-8", "surrogateescape"))
        if path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _refused(why: str) -> PilotError:
    return PilotError(
        "the pilot's archive is refused", why=why, remedy="take the archive that the pilot's release publishes"
    )


def _no_room(place: Path, error: OSError) -> PilotError:
    return PilotError(
        f"the pilot cannot be unpacked into {place}",
        why=error.strerror or str(error),
        remedy="name a writable directory",
    )
