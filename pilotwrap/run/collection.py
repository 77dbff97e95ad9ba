"""A job's way out: its outputs to their places, its log beside them."""

import os
import time
import uuid

from pilotwrap.model.errors import PilotwrapError, StageOutError
from pilotwrap.model.report import FileReport
from pilotwrap.panda.job import LogFile, PandaJob
from pilotwrap.run.events import Files, StagedOut, StageOutFailed
from pilotwrap.run.job import USAGE_NAME, Job, path_url
from pilotwrap.run.surroundings import Surroundings
from pilotwrap.run.transfer import STAGE_S, Outgoing, Terms


class _PartlyError(Exception):
    """Some files travelled before one did not."""

    def __init__(self, files: dict[str, FileReport], why: PilotwrapError) -> None:
        super().__init__(str(why))
        self.files = files
        self.why = why


def collect(job: Job, around: Surroundings, *, outputs: bool, log: bool) -> StagedOut | StageOutFailed:
    """Bring away what is asked for; what travelled is reported even when the rest did not."""
    files: dict[str, FileReport] = {}
    trouble = ""
    terms = Terms(deadline=time.monotonic() + STAGE_S, stopped=lambda: job.state.phase != "staging-out")
    for wanted, bring in ((outputs, _outputs), (log, bring_log)):
        if not wanted:
            continue
        try:
            files.update(bring(job, around, terms))
        except _PartlyError as error:
            files.update(error.files)
            trouble = trouble or str(error.why)
        except (PilotwrapError, OSError) as error:
            trouble = trouble or str(error)
    said: Files = {lfn: file.model_dump() for lfn, file in files.items()}
    at = time.monotonic()
    return StageOutFailed(at, trouble, said) if trouble else StagedOut(at, said)


def _outputs(job: Job, around: Surroundings, terms: Terms) -> dict[str, FileReport]:
    going = [Outgoing(lfn=lfn, url=url, guid=str(uuid.uuid4())) for lfn, url in _places(job, around)]
    if not going:
        return {}
    from pilotwrap.run.staging import stage_out

    done = stage_out(going, job.directory, terms)
    if done.error:
        raise _PartlyError(done.files, done.error)
    return done.files


def _places(job: Job, around: Surroundings) -> list[tuple[str, str]]:
    if not isinstance(job.fetched, PandaJob):
        places = [(file.lfn, file.url or (file.path and path_url(file.path))) for file in job.spec.outputs]
        return [(lfn, url) for lfn, url in places if url]
    if job.fetched.outputs and around.storage is None:
        raise StageOutError(
            f"no place is known for output {job.fetched.outputs[0].lfn}",
            why="no storage map was given",
            remedy="give --storage FILE, which maps storage endpoints to URLs",
        )
    return [
        (file.lfn, around.storage.url(file.endpoint or "", file.lfn, StageOutError))
        for file in job.fetched.outputs
        if around.storage
    ]


def bring_log(job: Job, around: Surroundings, terms: Terms) -> dict[str, FileReport]:
    """Make the log tarball and bring it away; without a place for it, it is reported and stays where it is."""
    log = job.fetched.log if isinstance(job.fetched, PandaJob) else None
    if log is None or not job.directory.is_dir():
        return {}
    _write_log(job, log.lfn)
    url = _log_place(log, around)
    guid = log.guid or str(uuid.uuid4())
    if url is None:
        from pilotwrap.run.checksum import digest_of

        digest = digest_of([(job.directory / log.lfn).read_bytes()])
        return {log.lfn: FileReport(guid=guid, size=digest.size, adler32=digest.adler32)}
    from pilotwrap.run.staging import stage_out

    done = stage_out([Outgoing(lfn=log.lfn, url=url, guid=guid, durable=False)], job.directory, terms)
    if done.error:
        raise done.error
    return done.files


def _write_log(job: Job, name: str) -> None:
    """Make the tarball of all but the job's data, its use of resources included."""
    from pilotwrap.run.logfile import write_log
    from pilotwrap.run.usage import prmon_summary

    if job.outcome:
        _try_write(job, USAGE_NAME, prmon_summary(job.outcome.usage))
    fetched = _fetched(job)
    data = [file.lfn for file in fetched.inputs] + [file.lfn for file in fetched.outputs]
    written = write_log(job.directory, name, exclude=data)
    if written.path is None:
        raise StageOutError(f"the log {name} could not be made", why=written.detail)


def _fetched(job: Job) -> PandaJob:
    assert isinstance(job.fetched, PandaJob)  # noqa: S101 - its caller made sure
    return job.fetched


def _log_place(log: LogFile, around: Surroundings) -> str | None:
    if around.storage is None or not around.storage.serves(log.endpoint):
        return None
    return around.storage.url(log.endpoint or "", log.lfn, StageOutError)


def _try_write(job: Job, name: str, text: str) -> None:
    """Write a small file beside the payload's own, never through something that the payload put there."""
    try:
        fd = os.open(job.directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError:
        return
