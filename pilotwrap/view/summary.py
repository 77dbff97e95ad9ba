"""A RunReport for people."""

from pilotwrap.model.report import JobReport, RunReport

MAX_ROWS = 20


def summary(report: RunReport, exit_code: int) -> str:
    """Return a few lines: the run, its jobs, where the rest is."""
    lines = [
        f"{report.state}: {report.job_count} job{'' if report.job_count == 1 else 's'}"
        + (f"; {report.detail}" if report.detail else "")
    ]
    lines += [_row(job) for job in report.jobs[:MAX_ROWS]]
    if report.job_count > MAX_ROWS:
        lines.append(f"  … and {report.job_count - MAX_ROWS} more")
    lines.append(f"exit code {exit_code}; all of it: {report.run_dir}")
    return "\n".join(lines) + "\n"


def _row(job: JobReport) -> str:
    name = f"{job.panda_id}.{job.attempt_nr}" if job.panda_id else "job"
    took = f"{job.ended_at - job.started_at:7.1f} s" if job.ended_at and job.started_at else "        -"
    return f"  {name:<12} {job.state:<9} {job.reason:<15} {took}  {job.detail[:80]}".rstrip()
