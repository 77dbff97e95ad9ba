"""What the driver writes down of a job: its acquisition, its last word, its updates. Pure."""

from pilotwrap.model.report import JobReport
from pilotwrap.panda.job import PandaJob
from pilotwrap.panda.spool import AcceptedRecord, AcquiredRecord, Acquisition, TerminalRecord
from pilotwrap.panda.update import Beat, JobUpdate, beat_update, terminal_update
from pilotwrap.run.effects import Send
from pilotwrap.run.job import Job
from pilotwrap.run.jobreport import batch_id, cores_of, report_of, wall_clock
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
            started_at=wall_clock(job.state.started_at, around),
        )
    )
