"""The spool of one run: what was acquired, what has to be told of it, and what was accepted.

`RUN_DIR/spool.jsonl` only grows, one JSON record a line, so that a run that dies at any point leaves a file of which
at most the last line is torn.
"""

import errno
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from pilotwrap.model.base import Value
from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import SiteEnvironmentError
from pilotwrap.model.report import JobReport

SPOOL_NAME = "spool.jsonl"

Key: TypeAlias = tuple[int, int | None]
"""`(panda_id, attempt_nr)`; the attempt is None when the server did not say it."""


class Acquisition(Value):
    """Where a job came from, and what a report needs that nobody may be left to know."""

    server: str
    panda_queue: str
    credential: Credential
    ca_path: str | None = None
    panda_id: int
    attempt_nr: int | None
    log_lfn: str | None = None
    log_guid: str | None = None
    core_count: int | None = None
    node: str = ""
    batch_id: str | None = None
    api: Literal["current", "legacy"] = "current"
    """Which calls the server knows."""

    at: float
    """Seconds since the epoch."""


class AcquiredRecord(Value):
    """A job is ours."""

    record: Literal["acquired"] = "acquired"
    acquisition: Acquisition

    @property
    def key(self) -> Key:
        """Return whose record it is."""
        return self.acquisition.panda_id, self.acquisition.attempt_nr


class TerminalRecord(Value):
    """The last word on a job, before it is sent."""

    record: Literal["terminal"] = "terminal"
    report: JobReport
    said: dict[str, JsonValue] = {}
    """Arguments of the final update that PanDA's own pilot has given, by update_job's names."""

    @property
    def key(self) -> Key:
        """Return whose record it is."""
        return self.report.panda_id or 0, self.report.attempt_nr


class AcceptedRecord(Value):
    """The server has the last word."""

    record: Literal["accepted"] = "accepted"
    panda_id: int
    attempt_nr: int | None

    @property
    def key(self) -> Key:
        """Return whose record it is."""
        return self.panda_id, self.attempt_nr


Record: TypeAlias = AcquiredRecord | TerminalRecord | AcceptedRecord
_RECORDS: TypeAdapter[Record] = TypeAdapter(
    Annotated[Record, Field(discriminator="record")], config=ConfigDict(defer_build=True)
)


class SpoolEntry(Value):
    """All that the spool says of one attempt of one job."""

    acquired: Acquisition | None = None
    terminal: JobReport | None = None
    said: dict[str, JsonValue] = {}
    accepted: bool = False


class SpoolText(Value):
    """A spool as read: its records, and one line for each part that cannot be read."""

    records: tuple[Record, ...] = ()
    problems: tuple[str, ...] = ()


class Spool:
    """The spool of a run that lives, or of a dead one whose lock we hold: there is one writer at a time."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / SPOOL_NAME
        self._descriptor: int | None = None
        self._torn = False
        self._turn = threading.Lock()

    def append(self, records: Sequence[Record]) -> None:
        """Add records with one write and one fsync for all; when it returns they survive a power cut.

        Raises SiteEnvironmentError when they may not be there; then none of them counts.
        """
        if not records:
            return
        data = "".join(f"{record.to_json()}\n" for record in records).encode()
        with self._turn:
            try:
                self._write(data)
            except OSError as error:
                raise SiteEnvironmentError(
                    f"the spool {self.path} cannot be written",
                    why=error.strerror or str(error),
                    remedy="free some space or quota there, or choose another --run-dir",
                ) from error

    def close(self) -> None:
        """Let go of the file."""
        with self._turn:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor = None

    def _write(self, data: bytes) -> None:
        descriptor = self._opened()
        before = os.lseek(descriptor, 0, os.SEEK_END)
        if self._torn:
            data = b"\n" + data
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - its cleaning up is below
            os.fsync(descriptor)
        except OSError:
            self._torn = True
            os.ftruncate(descriptor, before)
            self._torn = before > 0 and os.pread(descriptor, 1, before - 1) != b"\n"
            raise
        self._torn = False

    def _opened(self) -> int:
        if self._descriptor is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.path, flags, 0o600)
            size = os.fstat(descriptor).st_size
            self._torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            self._descriptor = descriptor
            _sync_directory(self.path.parent)  # or the file itself may be gone after a power cut
        return self._descriptor


def read_spool(run_dir: Path) -> SpoolText:
    """Return what a run's spool holds; nothing for a run without one.

    Raises SiteEnvironmentError when the file is there and cannot be read.
    """
    path = run_dir / SPOOL_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return SpoolText()
    except OSError as error:
        raise SiteEnvironmentError(f"the spool {path} cannot be read", why=error.strerror or str(error)) from error
    return parse_spool(data)


def parse_spool(data: bytes) -> SpoolText:
    """Return the records in a spool's bytes; what cannot be read is named and passed over."""
    records: list[Record] = []
    problems: list[str] = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip(b" \t\r\0"):
            continue  # some file systems fill what a crash left unwritten with NUL bytes
        try:
            records.append(_RECORDS.validate_json(line.strip(b"\0")))
        except ValidationError:
            torn = number == len(lines)
            problems.append(f"line {number} " + ("is torn" if torn else "is no record"))
    return SpoolText(records=tuple(records), problems=tuple(problems))


def fold(records: Iterable[Record]) -> Mapping[Key, SpoolEntry]:
    """Return what the records say of each job; the first final word on it stays."""
    entries: dict[Key, SpoolEntry] = {}
    for record in records:
        entry = entries.get(record.key, SpoolEntry())
        if isinstance(record, AcquiredRecord):
            entry = entry.model_copy(update={"acquired": entry.acquired or record.acquisition})
        elif isinstance(record, TerminalRecord):
            first = entry if entry.terminal else record
            entry = entry.model_copy(update={"terminal": entry.terminal or record.report, "said": first.said})
        else:
            entry = entry.model_copy(update={"accepted": True})
        entries[record.key] = entry
    return entries


def orphan_report(entry: SpoolEntry, at: float) -> JobReport:
    """Return the last word on a job whose run died before it could say one; `at` is seconds since the epoch.

    Raises ValueError for an entry without its acquisition.
    """
    if entry.acquired is None:
        raise ValueError("nothing is known of this job")
    acquired = entry.acquired
    return JobReport(
        panda_id=acquired.panda_id,
        attempt_nr=acquired.attempt_nr,
        state="failed",
        reason="node-lost",
        detail="the run died before the job ended: its node, its allocation or its controller was lost",
        node=acquired.node,
        batch_id=acquired.batch_id,
        core_count=acquired.core_count,
        ended_at=at,
    )


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
