"""Files in a place that the payload may write to: opened and made so that no name of its choice leads elsewhere."""

import os
import re
import secrets
import stat
from collections.abc import Generator
from pathlib import Path
from types import TracebackType

from pilotwrap.run.transfer import Terms, TransferTrouble

CHUNK_BYTES = 1024 * 1024
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=:@%,-]{0,254}")
"""As `model.job.FileName`: one component, no leading dot or hyphen; 255 is NAME_MAX of Linux."""


def is_safe_name(name: str) -> bool:
    """Return whether a name is one plain component of a path."""
    return _SAFE.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Raise TransferTrouble for a name that is no plain component of a path."""
    if not is_safe_name(name):
        raise TransferTrouble(
            f"the name {name[:80]!r} is not a plain file name",
            "use letters, digits and _.+=:@%,- only, no slash, no leading dot or hyphen",
        )


def open_regular(path: Path | str, dir_fd: int | None = None) -> int:
    """Return a descriptor of a regular file; OSError when it is anything else, also a symbolic link.

    O_NONBLOCK: a FIFO that somebody put there must not hold us up.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file")
    return descriptor


def reason_of(error: OSError) -> str:
    """Return an OSError's own words without the path."""
    return error.strerror or type(error).__name__


def chunks_of(descriptor: int, terms: Terms) -> Generator[bytes, None, None]:
    """Yield an open file's bytes from its begin; TransferTrouble when it cannot be read or the terms end it."""
    size, offset = os.fstat(descriptor).st_size, 0
    while offset <= size:  # one that grows faster than it is read would never end
        terms.left_s()
        try:
            chunk = os.pread(descriptor, CHUNK_BYTES, offset)
        except OSError as error:
            raise TransferTrouble(f"it cannot be read: {reason_of(error)}") from error
        if not chunk:
            break
        offset += len(chunk)
        yield chunk
    if offset != size:
        raise TransferTrouble("it changed while it was read", "let all that writes to it end first")


class Part:
    """A file being written beside its final name, which it takes only when it is complete.

    Its own name begins with a dot, so that no lfn can be it. Raises OSError.
    """

    def __init__(self, directory: Path, name: str, mode: int = 0o644) -> None:
        self._final = directory / name
        self._path = directory / f".part-{secrets.token_hex(8)}"
        self._mode = mode
        self._descriptor = -1

    def __enter__(self) -> "Part":  # noqa: PYI034 - Self came with Python 3.11
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        return self

    def write(self, chunk: bytes) -> None:
        """Append all of a chunk."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def commit(self, *, durable: bool = False) -> None:
        """Give the file its name in place of what had it; durable: its bytes are on the disk before that."""
        os.fchmod(self._descriptor, self._mode)
        if durable:
            os.fsync(self._descriptor)
        self._close()
        self._path.replace(self._final)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor >= 0:
            self._close()
        if kind is not None:
            self._path.unlink(missing_ok=True)
