"""What the driver writes down of a job: its acquisition, its last word, its updates. Pure."""

from pilotwrap.model.reasons import Reason
from pilotwrap.model.report import JobReport
from pilotwrap.panda.answers import Json
from pilotwrap.panda.job import PandaJob
from pilotwrap.panda.spool import AcceptedRecord, AcquiredRecord, Acquisition, TerminalRecord
from pilotwrap.panda.update import Beat, JobUpdate, beat_update, terminal_update
from pilotwrap.run.effects import Send
from pilotwrap.run.job import Job
from pilotwrap.run.jobreport import batch_id, cores_of, report_of, wall_clock
from pilotwrap.run.surroundings import Server, Surroundings

OUR_ENDS: frozenset[Reason] = frozenset({"cancelled", "walltime", "preempted", "pilot", "node-lost"})
"""Reasons that we have for a job's end whatever its pilot says: that it was killed by a signal, and by none of its."""


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
            api=server.api,
            at=now,
        )
    )


def terminal(job: Job, report: JobReport) -> TerminalRecord:
    """Return the record of a last word, to be fsynced before it is sent."""
    return TerminalRecord(report=report, said=_said(job, report))


def _said(job: Job, report: JobReport) -> dict[str, Json]:
    """Return what the pilot said of its job, less its error code where the job's end was of our making."""
    if report.reason not in OUR_ENDS:
        return job.said
    return {name: said for name, said in job.said.items() if not name.startswith(("pilot_error", "exe_error"))}


def accepted(job: Job) -> AcceptedRecord:
    """Return the record that the server has it."""
    return AcceptedRecord(panda_id=job.panda_id or 0, attempt_nr=job.attempt_nr)


def update_of(job: Job, send: Send, around: Surroundings) -> JobUpdate:
    """Return what a Send says to the server."""
    if send.report is not None:
        report = report_of(job, send.report, around)
        return terminal_update(report, _said(job, report))
    return beat_update(
        Beat(
            panda_id=job.panda_id or 0,
            attempt_nr=job.attempt_nr,
            state="starting" if send.to == "starting" else "running",
            node=job.host,
            batch_id=batch_id(around),
            core_count=cores_of(job),
            started_at=wall_clock(job.state.started_at, around),
        ),
        job.said,
    )
