"""Inputs in, outputs out: each file streamed once, its size and checksums computed on the way and compared."""

import errno
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pilotwrap.model.errors import StageInError, StageOutError
from pilotwrap.model.report import FileReport
from pilotwrap.panda.url import shown
from pilotwrap.run import web
from pilotwrap.run.checksum import Digest, Digester, digest_of
from pilotwrap.run.jobfile import Part, check_name, chunks_of, open_regular, reason_of
from pilotwrap.run.transfer import Outgoing, StagedOut, Terms, Transfer, TransferTrouble

__all__ = ["Outgoing", "StagedOut", "Terms", "Transfer", "bytes_of", "stage_in", "stage_out"]

_OCCUPIED = frozenset({409, 412})
"""How storages say that a file of this name is there already and is not replaced (RFC 9110, RFC 4918)."""


def stage_in(transfers: Sequence[Transfer], directory: Path, terms: Terms) -> dict[str, Digest]:
    """Bring every input into the directory and return what each was; StageInError names the first that failed."""
    return {transfer.lfn: _brought(transfer, directory, terms) for transfer in transfers}


def stage_out(outgoing: Sequence[Outgoing], directory: Path, terms: Terms) -> StagedOut:
    """Bring outputs or the log to their places; the first that fails ends it, and what travelled stays reported."""
    files: dict[str, FileReport] = {}
    for one in outgoing:
        try:
            files[one.lfn] = _sent(one, directory, terms)
        except StageOutError as error:  # noqa: PERF203 - what travelled before it is kept
            return StagedOut(files, error)
    return StagedOut(files)


def bytes_of(url: str, terms: Terms) -> Generator[bytes, None, None]:
    """Yield a file's bytes from a `file:`, `http:` or `https:` URL; TransferTrouble says why not."""
    scheme = web.split(url).scheme
    if scheme in {"http", "https"}:
        yield from web.download(url, terms)
    else:
        descriptor = _open(path_of(url))
        try:
            yield from chunks_of(descriptor, terms)
        finally:
            os.close(descriptor)


def path_of(url: str) -> Path:
    """Return the path that a `file:` URL names; TransferTrouble for every other URL."""
    parts = web.split(url)
    path = unquote(parts.path)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not path.startswith("/") or "\0" in path:
        raise TransferTrouble(f"{shown(url)!r} is no place that files travel to or from", "use file:///, http(s)://")
    return Path(path)


def _open(path: Path, name: str | None = None) -> int:
    try:
        return open_regular(path)
    except FileNotFoundError as error:
        raise TransferTrouble(f"there is no file {name or path}") from error
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else reason_of(error)
        raise TransferTrouble(f"{name or path} cannot be used: {why}", "only regular files travel") from error


def _brought(transfer: Transfer, directory: Path, terms: Terms) -> Digest:
    what = f"input {transfer.lfn[:80]!r} cannot be staged in"
    try:
        check_name(transfer.lfn)
        return _present(transfer, directory, terms) or terms.tried(lambda: _fetched(transfer, directory, terms))
    except TransferTrouble as trouble:
        remedy = trouble.remedy or f"check the replica at {shown(transfer.url)}"
        raise StageInError(what, why=trouble.why, remedy=remedy) from trouble
    except OSError as error:
        raise StageInError(what, why=reason_of(error), remedy=_disk_remedy(error, directory)) from error


def _present(transfer: Transfer, directory: Path, terms: Terms) -> Digest | None:
    """Return the digest of what an earlier try left complete; only a checksum can tell."""
    if not (transfer.adler32 or transfer.md5 or transfer.sha256):
        return None
    try:
        descriptor = open_regular(directory / transfer.lfn)
    except OSError:
        return None
    try:
        if transfer.size not in {None, os.fstat(descriptor).st_size}:
            return None
        digest = digest_of(chunks_of(descriptor, terms), md5=bool(transfer.md5), sha256=bool(transfer.sha256))
    finally:
        os.close(descriptor)
    return None if _differences(transfer, digest) else digest


def _fetched(transfer: Transfer, directory: Path, terms: Terms) -> Digest:
    digester = Digester(md5=bool(transfer.md5), sha256=bool(transfer.sha256))
    with Part(directory, transfer.lfn) as part, closing(bytes_of(transfer.url, terms)) as chunks:
        for chunk in chunks:
            digester.update(chunk)
            if transfer.size is not None and digester.size > transfer.size:
                break  # whatever else follows, it is another file
            part.write(chunk)
        digest = digester.digest()
        if wrong := _differences(transfer, digest):
            raise TransferTrouble(wrong, "the replica is corrupt or the catalogue is wrong")
        part.commit()
    return digest


def _differences(transfer: Transfer, digest: Digest) -> str:
    """Return in words what is not as the job says; empty: all agrees."""
    if transfer.size is not None and digest.size > transfer.size:
        return f"it is longer than the {transfer.size} bytes that the job says"
    if transfer.size is not None and digest.size != transfer.size:
        return f"its size is {digest.size}, the job says {transfer.size}"
    wanted = {"adler32": transfer.adler32, "md5": transfer.md5, "sha256": transfer.sha256}
    for name, said in wanted.items():
        found = getattr(digest, name)
        if said is not None and found.lstrip("0") != said.lower().lstrip("0"):
            return f"its {name} is {found}, the job says {said}"
    return ""


def _disk_remedy(error: OSError, directory: Path) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"free some space in {directory}, or choose another place with --run-dir"
    return f"check {directory}"


@dataclass(frozen=True)
class _Output:
    """An output that is open: nothing that happens to its name can put another file in its place."""

    descriptor: int
    size: int

    def chunks(self, digester: Digester, terms: Terms) -> Iterator[bytes]:
        for chunk in chunks_of(self.descriptor, terms):
            digester.update(chunk)
            yield chunk
        if digester.size != self.size:
            raise TransferTrouble("it changed between two tries", "let the payload wait for all that it started")


def _sent(one: Outgoing, directory: Path, terms: Terms) -> FileReport:
    what = f"output {one.lfn[:80]!r} cannot be staged out"
    try:
        check_name(one.lfn)
        descriptor = _open_output(one.lfn, directory)
        try:
            output = _Output(descriptor, os.fstat(descriptor).st_size)
            digest = terms.tried(lambda: _carried(one, output, terms))
        finally:
            os.close(descriptor)
    except TransferTrouble as trouble:
        remedy = trouble.remedy or "check that the payload writes it into its own directory"
        raise StageOutError(what, why=trouble.why, remedy=remedy) from trouble
    except OSError as error:
        place = f"the storage behind {shown(one.url)}"
        remedy = (
            f"free some space: {place} is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else f"check {place}"
        )
        raise StageOutError(what, why=reason_of(error), remedy=remedy) from error
    return FileReport(guid=one.guid, size=digest.size, adler32=digest.adler32, url=shown(one.url))


def _open_output(lfn: str, directory: Path) -> int:
    """Open an output; a hard link to somebody else's file is refused, since we may read what the payload may not."""
    descriptor = _open(directory / lfn, name=lfn)
    said = os.fstat(descriptor)
    if said.st_nlink > 1 and said.st_uid != directory.stat().st_uid:
        os.close(descriptor)
        raise TransferTrouble(f"{lfn} is a hard link to a file of another user", "write a file of its own")
    return descriptor


def _carried(one: Outgoing, output: _Output, terms: Terms) -> Digest:
    if web.split(one.url).scheme in {"http", "https"}:
        return _put(one, output, terms)
    target = path_of(one.url)
    digester = Digester()
    if not target.parent.is_dir():
        raise TransferTrouble(f"there is no directory {target.parent}", "make it, or correct the storage map")
    with Part(target.parent, target.name) as part:
        for chunk in output.chunks(digester, terms):
            part.write(chunk)
        part.commit(durable=one.durable)
    return digester.digest()


def _put(one: Outgoing, output: _Output, terms: Terms) -> Digest:
    digesters = [Digester()]

    def chunks() -> Iterator[bytes]:
        digesters.append(Digester())
        return output.chunks(digesters[-1], terms)

    try:
        web.upload(one.url, web.Upload(output.size, chunks), terms)
    except TransferTrouble as trouble:
        if trouble.status not in _OCCUPIED:
            raise
        mine = digest_of(chunks_of(output.descriptor, terms))
        if digest_of(bytes_of(one.url, terms)) != mine:
            raise
        return mine
    return digesters[-1].digest()
