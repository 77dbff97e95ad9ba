"""Sends what dead runs left: final reports that were not accepted, and the last word for jobs that have none."""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from pydantic import Field

from pilotwrap.model.base import Value
from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import BadInputError, PilotwrapError, SiteEnvironmentError
from pilotwrap.model.reasons import EXIT_CODES, Reason, exit_code_of
from pilotwrap.model.report import JobReport
from pilotwrap.panda.answers import Answer
from pilotwrap.panda.spool import (
    SPOOL_NAME,
    AcceptedRecord,
    Acquisition,
    Key,
    Spool,
    SpoolEntry,
    TerminalRecord,
    fold,
    orphan_report,
    read_spool,
)
from pilotwrap.panda.update import JobUpdate, terminal_update

LOCK_NAME = "lock"
"""flock()ed by the run as long as it lives, and by whoever flushes it."""

_SHARD_LENGTH = 2

_log = logging.getLogger(__name__)


class Reporter(Protocol):
    """What flush needs of a client."""

    def update(self, updates: Sequence[JobUpdate], deadline: float) -> tuple[Answer, ...]:
        """Send updates and return their answers in order."""


class LeftReport(Value):
    """A report that still waits, and why."""

    run_dir: str
    panda_id: int | None = None
    attempt_nr: int | None = None
    reason: Reason
    why: str


class FlushResult(Value):
    """What a flush did."""

    schema_: Literal["pilotwrap.flush/1"] = Field(default="pilotwrap.flush/1", alias="schema")
    runs: int = 0
    """Dead runs that were looked at."""

    living: int = 0
    """Runs that live or are being flushed by another; they are not touched."""

    told: int = 0
    orphans: int = 0
    """Of those told, jobs that had no last word of their own."""

    left: tuple[LeftReport, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """Return 0 when all is told."""
        return exit_code_of(EXIT_CODES[left.reason] for left in self.left)

    def line(self) -> str:
        """Return the result in one line for a person."""
        text = f"{self.told} reports told ({self.orphans} for jobs without a last word) from {self.runs} ended runs"
        text += f"; {self.living} living runs not touched" if self.living else ""
        if not self.left:
            return text + "; nothing is left"
        return f"{text}; {len(self.left)} left, e.g. {self.left[0].run_dir}: {self.left[0].why}"


ClientOf: TypeAlias = Callable[[str, Credential, str | None, Literal["current", "legacy"]], Reporter]


@dataclass(frozen=True)
class Errand:
    """How a flush goes about: `now` in seconds since the epoch, `deadline` on the clients' clock.

    `client_of` makes a client for a server, a credential, a CA path and the calls that the server knows. `credential`
    is used in place of the one that the run had: that may lie where nobody can read it any more.
    """

    client_of: ClientOf
    now: float
    deadline: float
    credential: Credential | None = None


@dataclass
class _Tally:
    runs: int = 0
    living: int = 0
    told: int = 0
    orphans: int = 0
    left: list[LeftReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    down: dict[str, Answer] = field(default_factory=dict)
    """Servers that did not answer once: the other runs do not wait for them again."""


def flush(directory: Path, errand: Errand) -> FlushResult:
    """Tell what the dead runs in a directory left; it is one run, or the parent of many (`PARENT/aa/RUN_ID`).

    Nothing is sent twice at once: each run's lock is held meanwhile. Raises BadInputError for no directory.
    """
    tally = _Tally()
    for run_dir in run_dirs(directory):
        try:
            with _locked(run_dir) as ours:
                if ours:
                    tally.runs += 1
                    _flush_run(run_dir, errand, tally)
                else:
                    tally.living += 1
        except PilotwrapError as error:  # noqa: PERF203 - one unreadable run must not hide the others
            tally.left.append(LeftReport(run_dir=str(run_dir), reason=error.reason, why=str(error)))
    return FlushResult(
        runs=tally.runs,
        living=tally.living,
        told=tally.told,
        orphans=tally.orphans,
        left=tuple(tally.left),
        problems=tuple(tally.problems),
    )


def run_dirs(directory: Path) -> tuple[Path, ...]:
    """Return the run directories with a spool, sorted; raises BadInputError for no directory."""
    if (directory / SPOOL_NAME).is_file():
        return (directory,)
    try:
        shards = [path for path in _folders(directory) if len(path.name) == _SHARD_LENGTH]
    except OSError as error:
        raise BadInputError(
            f"{directory} cannot be looked into",
            why=error.strerror or "",
            remedy="give a run's directory, or the --run-dir that the runs were given",
        ) from None
    return tuple(sorted(run for shard in shards for run in _runs_of(shard)))


def _runs_of(shard: Path) -> list[Path]:
    try:
        return [run for run in _folders(shard) if (run / SPOOL_NAME).is_file()]
    except OSError as error:  # another user's folder under a shared parent
        _log.warning("%s cannot be looked into: %s", shard, error.strerror)
        return []


def _folders(directory: Path) -> list[Path]:
    with os.scandir(directory) as found:
        return [Path(entry.path) for entry in found if entry.is_dir(follow_symlinks=False)]


@contextmanager
def _locked(run_dir: Path) -> Iterator[bool]:
    try:
        descriptor = os.open(run_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SiteEnvironmentError(
            f"the lock of {run_dir} cannot be opened", why=error.strerror or "", remedy="flush as the user who ran it"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = True
    except BlockingIOError:
        ours = False
    except OSError as error:
        os.close(descriptor)
        raise SiteEnvironmentError(f"{run_dir} cannot be locked", why=error.strerror or "") from error
    try:
        yield ours
    finally:
        os.close(descriptor)


def _flush_run(run_dir: Path, errand: Errand, tally: _Tally) -> None:
    text = read_spool(run_dir)
    tally.problems += [f"{run_dir / SPOOL_NAME}: {problem}" for problem in text.problems]
    entries = {key: entry for key, entry in fold(text.records).items() if key[0] > 0 and not entry.accepted}
    if not entries:
        return
    spool = Spool(run_dir)
    try:
        orphans = {key: orphan_report(entry, errand.now) for key, entry in entries.items() if entry.terminal is None}
        # on disk before it is sent: should we die now, the next flush says the same
        spool.append([TerminalRecord(report=report) for report in orphans.values()])
        words = {
            key: TerminalRecord(report=entry.terminal or orphans[key], said=entry.said)
            for key, entry in entries.items()
        }
        answers = _answers(_sources(entries), words, errand, tally.down)
        _count(run_dir, answers, orphans, tally)
        _settle(spool, [key for key, answer in answers.items() if answer.accepted], tally)
    finally:
        spool.close()


def _count(run_dir: Path, answers: Mapping[Key, Answer], orphans: Mapping[Key, JobReport], tally: _Tally) -> None:
    for key, answer in answers.items():
        if answer.accepted:
            tally.told += 1
            tally.orphans += key in orphans
        else:
            tally.left.append(_left(run_dir, key, answer))


def _sources(entries: Mapping[Key, SpoolEntry]) -> dict[Key, Acquisition | None]:
    """Return where each job came from; a run has one server, so another's will do where a line cannot be read."""
    known = [entry.acquired for entry in entries.values() if entry.acquired is not None]
    return {key: entry.acquired or (known[-1] if known else None) for key, entry in entries.items()}


def _answers(
    sources: Mapping[Key, Acquisition | None],
    words: Mapping[Key, TerminalRecord],
    errand: Errand,
    down: dict[str, Answer],
) -> dict[Key, Answer]:
    groups: dict[str, list[Key]] = {}
    for key, source in sources.items():
        groups.setdefault(_desk(source), []).append(key)
    answers: dict[Key, Answer] = {}
    for desk, keys in groups.items():
        source = sources[keys[0]]
        if source is None:
            found = _nobody(len(keys))
        elif desk in down:
            found = (down[desk],) * len(keys)
        else:
            credential = errand.credential or source.credential
            client = errand.client_of(source.server, credential, source.ca_path, source.api)
            found = client.update(
                [terminal_update(words[key].report, words[key].said) for key in keys], errand.deadline
            )
            down |= {desk: lost for lost in found if lost.verdict == "unreachable"}  # noqa: B035 - any of them will do
        answers |= dict(zip(keys, found, strict=True))
    return answers


def _desk(source: Acquisition | None) -> str:
    return f"{source.server} {source.credential.to_json()} {source.ca_path}" if source else ""


def _nobody(count: int) -> tuple[Answer, ...]:
    return (Answer("broken", "the spool does not say from which server this job came"),) * count


def _settle(spool: Spool, accepted: Sequence[Key], tally: _Tally) -> None:
    try:
        spool.append([AcceptedRecord(panda_id=panda_id, attempt_nr=attempt_nr) for panda_id, attempt_nr in accepted])
    except SiteEnvironmentError as error:
        # told all the same: the next flush repeats it, and the server knows it again
        tally.problems.append(str(error))


def _left(run_dir: Path, key: Key, answer: Answer) -> LeftReport:
    reason: Reason = "credential" if answer.verdict == "refused" else "server"
    return LeftReport(run_dir=str(run_dir), panda_id=key[0], attempt_nr=key[1], reason=reason, why=answer.detail)
