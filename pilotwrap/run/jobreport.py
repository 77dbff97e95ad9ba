"""What a life's end means for its teller: the JobReport. Pure."""

from pilotwrap.model.outcome import Usage
from pilotwrap.model.report import FileReport, JobReport
from pilotwrap.run.effects import Report
from pilotwrap.run.job import Job
from pilotwrap.run.surroundings import Surroundings


def report_of(job: Job, report: Report, around: Surroundings) -> JobReport:
    """Return the JobReport that a life's Report means; its times become those of the wall clock."""
    return JobReport(
        name=job.name,
        panda_id=job.panda_id,
        attempt_nr=job.attempt_nr,
        state=report.state,
        reason=report.reason,
        detail=report.detail,
        exit_code=report.exit_code,
        node=job.host,
        batch_id=batch_id(around),
        core_count=cores_of(job),
        started_at=wall_clock(report.started_at, around),
        ended_at=wall_clock(report.ended_at, around),
        usage=job.outcome.usage if job.outcome else Usage(),
        files={lfn: FileReport.model_validate(file) for lfn, file in report.files.items()},
    )


def batch_id(around: Surroundings) -> str | None:
    """Return the batch system's id of this run: the same through an attempt, or the server loses the update."""
    return around.allocation.head.allocation.job_id


def cores_of(job: Job) -> int | None:
    """Return how many cores the job holds on all its nodes."""
    return len(job.allotment.cores) * len(job.allotment.hosts) if job.allotment else None


def wall_clock(at: float | None, around: Surroundings) -> float | None:
    """Return a time of the monotonic clock as seconds since the epoch."""
    return None if at is None else around.epoch + at
