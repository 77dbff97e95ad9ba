"""The log tarball: what the job said, bounded, without its data and without anything that looks like a secret."""

import gzip
import io
import os
import re
import stat
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pilotwrap.model.base import Value
from pilotwrap.run.jobfile import Part, is_safe_name, open_regular, reason_of

FIRST = ("stdout", "stderr")
"""These come first, and are kept whatever else has to be left out."""

_SECRET_NAME = re.compile(
    r"^\.|token|x509|proxy|secret|passw|credential|cookie|id_(rsa|dsa|ecdsa|ed25519)|\.(pem|key|p12|pfx|jks|kdbx)$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(rb"-----BEGIN [A-Z ]*(PRIVATE KEY|CERTIFICATE)-----|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.")
"""A PEM block, or a JSON Web Token: both of its first parts are base64 of `{"`."""

_LEVEL = 1
"""Text shrinks five-fold already; a higher level costs several times the time for a tenth more."""

_LOOKED_AT = 5000
_DEEP = 3


@dataclass(frozen=True)
class Bounds:
    """How much goes in: files, bytes of one file's head and tail, bytes in all; guesses at what a person reads."""

    files: int = 200
    head: int = 256 * 1024
    tail: int = 768 * 1024
    total: int = 16 * 1024 * 1024


SCANTY = Bounds(files=2, head=2048, tail=6144, total=16384)
"""What is still tried when the disk is full."""


class LogFile(Value):
    """The tarball as written; path None: it could not be, and `detail` says why."""

    path: str | None = None
    size: int = 0
    detail: str = ""


@dataclass(frozen=True)
class _Found:
    name: str
    path: Path
    status: os.stat_result


def write_log(directory: Path, lfn: str, exclude: Collection[str] = (), bounds: Bounds | None = None) -> LogFile:
    """Write the tarball of a job's directory into it under `lfn`, and never raise.

    `exclude` are the names at its top (inputs, outputs, the transformation) that are no log.
    """
    if not is_safe_name(lfn):
        return LogFile(detail=f"the log's name {lfn[:80]!r} is not a plain file name")
    problem = ""
    for limit in (bounds or Bounds(), SCANTY):
        try:
            content = log_bytes(directory, {*exclude, lfn}, limit)
            with Part(directory, lfn) as part:
                part.write(content)
                part.commit()
            return LogFile(path=str(directory / lfn), size=len(content), detail=problem)
        except OSError as error:  # noqa: PERF203 - the second try is the remedy
            problem = f"the log could not be written in full: {reason_of(error)}"
    return LogFile(detail=problem)


def log_bytes(directory: Path, exclude: Collection[str], bounds: Bounds) -> bytes:
    """Return the tarball's bytes: the same for the same files."""
    buffer = io.BytesIO()
    room = bounds.total
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=buffer, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for found in _candidates(directory, frozenset(exclude))[: bounds.files]:
            content = _content(found, bounds)
            if content is None or len(content) > room:
                continue
            room -= len(content)
            archive.addfile(_member(found, len(content)), io.BytesIO(content))
    return buffer.getvalue()


def _candidates(directory: Path, exclude: frozenset[str]) -> list[_Found]:
    """Return what may be a log, stdout and stderr first, then in order of names."""
    found = [one for one in _walk(directory) if one.name not in exclude]
    return sorted(found, key=lambda one: (FIRST.index(one.name) if one.name in FIRST else len(FIRST), one.name))


def _walk(top: Path) -> Iterator[_Found]:
    """Yield regular files outside of hidden folders and links, no deeper than `_DEEP`."""
    waiting = [(top, "", 1)]
    looked_at = 0
    while waiting and looked_at < _LOOKED_AT:
        folder, prefix, depth = waiting.pop()
        for entry in sorted(_entries(folder), key=lambda one: one.name):
            looked_at += 1
            if looked_at > _LOOKED_AT or _SECRET_NAME.search(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth < _DEEP:
                    waiting.append((folder / entry.name, f"{prefix}{entry.name}/", depth + 1))
            elif entry.is_file(follow_symlinks=False):
                yield _Found(prefix + entry.name, folder / entry.name, entry.stat(follow_symlinks=False))


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []  # a folder that the payload closed is no reason to lose the rest


def _content(found: _Found, bounds: Bounds) -> bytes | None:
    """Return a text file's bytes, the middle of a long one cut out; None: not one for the log."""
    try:
        descriptor = open_regular(found.path)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if status.st_ino != found.status.st_ino or status.st_nlink != 1:
            return None  # changed under us, or a hard link: a file that was made elsewhere
        content = _shortened(descriptor, status.st_size, bounds)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    spoken = found.name in FIRST
    return None if not spoken and (b"\0" in content[:8192] or _SECRET_TEXT.search(content)) else content


def _shortened(descriptor: int, size: int, bounds: Bounds) -> bytes:
    if size <= bounds.head + bounds.tail:
        return os.read(descriptor, size) if size else b""
    cut = size - bounds.head - bounds.tail
    head = os.pread(descriptor, bounds.head, 0)
    return head + f"\n[… {cut} bytes left out …]\n".encode() + os.pread(descriptor, bounds.tail, size - bounds.tail)


def _member(found: _Found, size: int) -> tarfile.TarInfo:
    """Return the header: no owner, so that a log tells nothing of the machine's accounts."""
    member = tarfile.TarInfo(found.name)
    member.size = size
    member.mtime = int(found.status.st_mtime)
    member.mode = stat.S_IMODE(found.status.st_mode) & 0o755
    return member
