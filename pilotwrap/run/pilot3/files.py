"""What a pilot reports as stored, checked where it can be: the file counts, not the report."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from pilotwrap.model.errors import PilotwrapError, StageOutError
from pilotwrap.panda.job import PandaJob
from pilotwrap.run.checksum import digest_of
from pilotwrap.run.collection import bring_log
from pilotwrap.run.events import StagedOut, StageOutFailed
from pilotwrap.run.jobfile import chunks_of, is_safe_name, open_regular
from pilotwrap.run.staging import path_of
from pilotwrap.run.staging import stage_out as stage_out_files
from pilotwrap.run.transfer import STAGE_S, Outgoing, Terms, TransferTrouble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilotwrap.model.report import FileReport
    from pilotwrap.panda.job import LogFile, OutputFile
    from pilotwrap.run.effects import StageOut
    from pilotwrap.run.events import Files
    from pilotwrap.run.job import Job
    from pilotwrap.run.surroundings import Surroundings

PLACES = ("pilot/PanDA_Pilot3_*", "pilot/PanDA_Pilot3_*/PanDA_Pilot-*", "pilot")
"""Where pilot3's copytool `mv` leaves a file when it may not bring it further: beside the job's own directory, in one
that the pilot deletes at its end (pilot3 3.7 and 3.11, copytool/mv.py)."""


def stage_out(
    job: Job, around: Surroundings, said: Mapping[str, FileReport], effect: StageOut
) -> StagedOut | StageOutFailed:
    """Return what really lies where the pilot says that it does; what it left behind is brought there by us."""
    reported = _named(said)
    terms = Terms(deadline=time.monotonic() + STAGE_S, stopped=lambda: job.state.phase != "staging-out")
    files: dict[str, FileReport] = {}
    troubles: list[str] = []
    for file in _outputs(job) if effect.outputs else ():
        try:
            files[file.lfn] = _placed(job, around, file, reported.get(file.lfn), terms)
        except (PilotwrapError, OSError) as error:  # noqa: PERF203 - each file counts
            troubles.append(str(error))
    try:
        files |= _log(job, around, reported, terms)
    except (PilotwrapError, OSError) as error:
        troubles.append(str(error))
    stored: Files = {lfn: file.model_dump() for lfn, file in files.items()}
    at = time.monotonic()
    return StageOutFailed(at, troubles[0], stored) if troubles else StagedOut(at, stored)


def _named(said: Mapping[str, FileReport]) -> dict[str, FileReport]:
    """Return the files with a GUID each: 3.7 gives outputs none, and a catalogue takes none without (measured)."""
    return {
        lfn: file if file.guid else file.model_copy(update={"guid": str(uuid.uuid4())}) for lfn, file in said.items()
    }


def _outputs(job: Job) -> tuple[OutputFile, ...]:
    return job.fetched.outputs if isinstance(job.fetched, PandaJob) else ()


def _log(job: Job, around: Surroundings, reported: dict[str, FileReport], terms: Terms) -> dict[str, FileReport]:
    """Return the pilot's log tarball, or our own of what it left where it has none."""
    log = job.fetched.log if isinstance(job.fetched, PandaJob) else None
    if log is None:
        return {}
    if log.lfn in reported:
        # the server chose the log's GUID
        said = reported[log.lfn].model_copy(update={"guid": log.guid or reported[log.lfn].guid})
        return {log.lfn: _placed(job, around, log, said, terms)}
    return bring_log(job, around, terms)


def _placed(
    job: Job, around: Surroundings, file: OutputFile | LogFile, said: FileReport | None, terms: Terms
) -> FileReport:
    if said is None:
        raise StageOutError(
            f"the pilot says that the job has finished, and nothing of its output {file.lfn}",
            remedy="look into the pilot's log for the transfer",
        )
    path = _local(said.url)
    if path is not None and _is(path, said, terms):
        return said
    left = _left_behind(job, file.lfn)
    if left is not None:
        return _brought(around, file, said.guid, left, terms)
    if path is None:
        return said
    raise StageOutError(
        f"output {file.lfn} is not at {path}, or is another file",
        why="the pilot reported it as stored there",
        remedy="check the copytools and the storage data of the queue",
    )


def _brought(around: Surroundings, file: OutputFile | LogFile, guid: str, left: Path, terms: Terms) -> FileReport:
    """Bring a file to its place that the pilot has left where it will delete it."""
    if around.storage is None or not around.storage.serves(file.endpoint):
        raise StageOutError(
            f"the pilot has left output {file.lfn} in a directory that it deletes",
            why="the queue's copytool is mv and has no final destination",
            remedy="set mv_final_destination in the queue's catchall, or give --storage FILE",
        )
    url = around.storage.url(file.endpoint or "", file.lfn, StageOutError)
    done = stage_out_files([Outgoing(lfn=file.lfn, url=url, guid=guid)], left, terms)
    if done.error:
        raise done.error
    return done.files[file.lfn]


def _local(url: str | None) -> Path | None:
    """Return where a URL leads on this machine; None: to another."""
    if not url or not url.startswith("file:"):
        return None
    try:
        return path_of(url)
    except TransferTrouble:
        return None


def _is(path: Path, said: FileReport, terms: Terms) -> bool:
    """Tell whether the file is there and is the one that was reported."""
    try:
        descriptor = open_regular(path)
    except OSError:
        return False
    try:
        digest = digest_of(chunks_of(descriptor, terms))
    except TransferTrouble:
        return False
    finally:
        os.close(descriptor)
    return digest.size == said.size and (not said.adler32 or digest.adler32 == said.adler32.rjust(8, "0"))


def _left_behind(job: Job, lfn: str) -> Path | None:
    """Return the folder in which the pilot left a file."""
    if not is_safe_name(lfn):
        return None
    home = job.directory.resolve()
    # no link of the payload's making: as root we could read there what it may not
    found = (folder for pattern in PLACES for folder in sorted(home.glob(pattern)) if folder.resolve() == folder)
    return next((folder for folder in found if (folder / lfn).is_file() and not (folder / lfn).is_symlink()), None)
