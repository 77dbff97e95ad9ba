"""What the driver writes down of a job: its acquisition, its last word, its updates. Pure."""

from pilotwrap.model.outcome import Usage
from pilotwrap.model.report import FileReport, JobReport
from pilotwrap.panda.job import PandaJob
from pilotwrap.panda.spool import AcceptedRecord, AcquiredRecord, Acquisition, TerminalRecord
from pilotwrap.panda.update import Beat, JobUpdate, beat_update, terminal_update
from pilotwrap.run.effects import Report, Send
from pilotwrap.run.job import Job
from pilotwrap.run.surroundings import Server, Surroundings


def acquired(job: Job, around: Surroundings, server: Server, now: float) -> AcquiredRecord:
    """Return the record of a job that became ours."""
    log = job.fetched.log if isinstance(job.fetched, PandaJob) else None
    return AcquiredRecord(
        acquisition=Acquisition(
            server=server.url,
            panda_queue=server.panda_queue,
            credential=server.credential,
            ca_path=server.ca_path,
            panda_id=job.panda_id or 0,
            attempt_nr=job.attempt_nr,
            log_lfn=log.lfn if log else None,
            log_guid=log.guid if log else None,
            core_count=cores_of(job),
            node=job.host,
            batch_id=batch_id(around),
            at=now,
        )
    )


def report_of(job: Job, report: Report, around: Surroundings) -> JobReport:
    """Return the JobReport that a life's Report means; its times become those of the wall clock."""
    return JobReport(
        panda_id=job.panda_id,
        attempt_nr=job.attempt_nr,
        state=report.state,
        reason=report.reason,
        detail=report.detail,
        exit_code=report.exit_code,
        node=job.host,
        batch_id=batch_id(around),
        core_count=cores_of(job),
        started_at=_wall(report.started_at, around),
        ended_at=_wall(report.ended_at, around),
        usage=job.outcome.usage if job.outcome else Usage(),
        files={lfn: FileReport.model_validate(file) for lfn, file in report.files.items()},
    )


def terminal(report: JobReport) -> TerminalRecord:
    """Return the record of a last word, to be fsynced before it is sent."""
    return TerminalRecord(report=report)


def accepted(job: Job) -> AcceptedRecord:
    """Return the record that the server has it."""
    return AcceptedRecord(panda_id=job.panda_id or 0, attempt_nr=job.attempt_nr)


def update_of(job: Job, send: Send, around: Surroundings) -> JobUpdate:
    """Return what a Send says to the server."""
    if send.report is not None:
        return terminal_update(report_of(job, send.report, around))
    return beat_update(
        Beat(
            panda_id=job.panda_id or 0,
            attempt_nr=job.attempt_nr,
            state="starting" if send.to == "starting" else "running",
            node=job.host,
            batch_id=batch_id(around),
            core_count=cores_of(job),
            started_at=_wall(job.state.started_at, around),
        )
    )


def batch_id(around: Surroundings) -> str | None:
    """Return the batch system's id of this run: the same through an attempt, or the server loses the update."""
    return around.allocation.head.allocation.job_id


def cores_of(job: Job) -> int | None:
    """Return how many cores the job holds on all its nodes."""
    return len(job.allotment.cores) * len(job.allotment.hosts) if job.allotment else None


def _wall(at: float | None, around: Surroundings) -> float | None:
    return None if at is None else around.epoch + at
