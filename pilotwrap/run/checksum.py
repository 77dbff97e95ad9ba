"""What a file is known by: its size, adler32, and md5 or sha256 where asked for; computed while it streams."""

import hashlib
import zlib
from collections.abc import Iterable

from pilotwrap.model.base import Value


class Digest(Value):
    """Size in bytes, checksums in lower-case hexadecimal; adler32 always has eight digits, as PanDA's catalogue."""

    size: int
    adler32: str
    md5: str | None = None
    sha256: str | None = None


class Digester:
    """Takes a file's bytes one chunk after the other."""

    def __init__(self, *, md5: bool = False, sha256: bool = False) -> None:
        self.size = 0
        self._adler = 1  # RFC 1950: the checksum of nothing
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._sha256 = hashlib.sha256() if sha256 else None

    def update(self, chunk: bytes) -> None:
        """Count one chunk in."""
        self.size += len(chunk)
        self._adler = zlib.adler32(chunk, self._adler)
        if self._md5:
            self._md5.update(chunk)
        if self._sha256:
            self._sha256.update(chunk)

    def digest(self) -> Digest:
        """Return what is known of the bytes so far."""
        return Digest(
            size=self.size,
            adler32=f"{self._adler:08x}",
            md5=self._md5.hexdigest() if self._md5 else None,
            sha256=self._sha256.hexdigest() if self._sha256 else None,
        )


def digest_of(chunks: Iterable[bytes], *, md5: bool = False, sha256: bool = False) -> Digest:
    """Return the digest of all chunks together."""
    digester = Digester(md5=md5, sha256=sha256)
    for chunk in chunks:
        digester.update(chunk)
    return digester.digest()
