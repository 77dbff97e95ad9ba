"""The RunReport: how a whole run ended, from its jobs' reports; at most 64 KiB."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilotwrap import __version__
from pilotwrap.model.allocation import UnfitNode
from pilotwrap.model.errors import PilotwrapError
from pilotwrap.model.outcome import Outcome, Usage
from pilotwrap.model.reasons import ALLOCATION_WALLTIME_EXIT, EXIT_CODES, INTERRUPTED_EXIT, Reason, exit_code_of
from pilotwrap.model.report import (
    MAX_REPORT_BYTES,
    JobReport,
    OutcomeFile,
    RankCount,
    RunReport,
    RunState,
    TimelineEntry,
)

_INT = 2
STOPS: Mapping[Reason, str] = {
    "walltime": "the allocation's time was over",
    "preempted": "the batch system took the allocation back for another job",
    "cancelled": "it was stopped",
}
"""The run's sentence when it was ended from outside."""

MAX_DETAIL = 1000
"""Characters of a sentence in the report; the whole one is in the run's own files."""

MAX_NAMED = 10
"""Nodes that are named; what all of them said is in the survey's answers."""


@dataclass(frozen=True)
class RunEnd:
    """What a run's report is made of besides its jobs."""

    stopped: int | None = None
    """The signal that ended it."""

    stop_reason: Reason | None = None
    error: PilotwrapError | None = None
    outcomes: tuple[Outcome, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()
    outcome_file: OutcomeFile | None = None
    run_dir: str = ""


def exit_code(reports: Sequence[JobReport], end: RunEnd) -> int:
    """Return what `run` exits with."""
    codes = [_job_code(report) for report in reports]
    codes += [EXIT_CODES["server"] for report in reports if not report.told]
    if end.error is not None:
        codes.append(end.error.exit_code)
    if end.stop_reason is not None:
        codes.append(stop_code(end))
    if not codes:
        return EXIT_CODES["no-work"]
    return exit_code_of(codes)


def timeline(
    reports: Sequence[JobReport], began: float, ended: float, more: tuple[TimelineEntry, ...] = ()
) -> tuple[TimelineEntry, ...]:
    """Return when the run's first and last payloads started and ended; all times are seconds since the epoch.

    `more` is what else was seen.
    """
    starts = [report.started_at for report in reports if report.started_at is not None]
    ends = [report.ended_at for report in reports if report.ended_at is not None]
    found = {"the run began": began, "the run was over": ended}
    if starts and ends:
        found |= {
            "the first payload started": min(starts),
            "the last payload started": max(starts),
            "the first payload ended": min(ends),
            "the last payload ended": max(ends),
        }
    ours = (TimelineEntry(at_s=round(at - began, 3), what=what) for what, at in found.items())
    return tuple(sorted((*ours, *more), key=lambda entry: entry.at_s))


def set_aside(unfit: Sequence[UnfitNode]) -> tuple[TimelineEntry, ...]:
    """Return which nodes the survey set aside, and why; so many of them by name as one report can bear."""
    named = [f"{node.host} was set aside: {node.detail}"[:MAX_DETAIL] for node in unfit[:MAX_NAMED]]
    more = [f"{len(unfit) - MAX_NAMED} more nodes were set aside"] if len(unfit) > MAX_NAMED else []
    return tuple(TimelineEntry(at_s=0.0, what=what) for what in (*named, *more))


def run_report(reports: Sequence[JobReport], end: RunEnd) -> RunReport:
    """Return the report, with as many jobs as fit, those that failed first."""
    failed_first = sorted(reports, key=lambda report: report.state == "finished")
    reason, detail = _untold(reports, end) or _reason(failed_first, end)
    kept = len(failed_first)
    while True:
        report = _report(failed_first[:kept], reports, end, (reason, detail))
        if len(report.to_json().encode()) <= MAX_REPORT_BYTES:
            return report
        if kept == 0:
            return report.model_copy(update={"timeline": (), "ranks": ()})
        kept //= 2


def refusal(error: PilotwrapError, run_dir: str | None = None) -> RunReport:
    """Return the report of a run that ended before any job."""
    return RunReport(
        version=__version__, state="failed", reason=error.reason, detail=str(error)[:MAX_DETAIL], run_dir=run_dir
    )


def _report(kept: Sequence[JobReport], every: Sequence[JobReport], end: RunEnd, why: tuple[Reason, str]) -> RunReport:
    return RunReport(
        version=__version__,
        state=_state(every, end),
        reason=why[0],
        detail=why[1][:MAX_DETAIL],
        exit_code=max((report.exit_code for report in every if report.exit_code is not None), default=None),
        jobs=tuple(job.model_copy(update={"detail": job.detail[:MAX_DETAIL]}) for job in kept),
        job_count=len(every),
        ranks=_ranks(end.outcomes),
        timeline=end.timeline,
        usage=_usage(every),
        outcome=end.outcome_file,
        run_dir=end.run_dir,
    )


def _job_code(report: JobReport) -> int:
    """Return a job's part in the exit code; a job that the server killed or the run's end took is counted there."""
    if report.reason in {"cancelled", "preempted"}:
        return EXIT_CODES["payload-exit"]
    return EXIT_CODES[report.reason]


def stop_code(end: RunEnd) -> int:
    """Return what a run that was stopped exits with."""
    if end.stop_reason in {"walltime", "preempted"}:
        return ALLOCATION_WALLTIME_EXIT
    return INTERRUPTED_EXIT if end.stopped == _INT else EXIT_CODES["cancelled"]


def _state(reports: Sequence[JobReport], end: RunEnd) -> RunState:
    if end.stop_reason == "cancelled":
        return "cancelled"
    if end.error is None and not reports:
        return "no-work"
    bad = end.error is not None or end.stop_reason or any(report.state != "finished" for report in reports)
    return "failed" if bad else "finished"


def _untold(reports: Sequence[JobReport], end: RunEnd) -> tuple[Reason, str] | None:
    """Return what to say where nothing is worse than reports that the server did not take."""
    untold = sum(not report.told for report in reports)
    if not untold or end.error is not None or exit_code(reports, end) != EXIT_CODES["server"]:
        return None
    what = f"{untold} of {len(reports)} reports could not be told before the run ended: the server did not take them"
    return "server", f"{what}; they wait in the spool for `pilotwrap flush {end.run_dir}`"


def _reason(failed_first: Sequence[JobReport], end: RunEnd) -> tuple[Reason, str]:
    if end.stop_reason is not None:
        return end.stop_reason, STOPS[end.stop_reason]
    if end.error is not None:
        return end.error.reason, str(end.error)
    if not failed_first:
        return "no-work", "the server had no job for this queue, node and time"
    worst = max(failed_first, key=lambda report: (report.state != "finished", EXIT_CODES[report.reason]))
    return worst.reason, worst.detail


def _ranks(outcomes: Sequence[Outcome]) -> tuple[RankCount, ...]:
    found: dict[tuple[Reason, int | None], list[str]] = {}
    for outcome in outcomes:
        # a launcher only repeats what its ranks said, where they said anything
        told = [rank for rank in outcome.ranks if rank.rank is not None] or outcome.ranks
        for rank in told:
            found.setdefault((rank.reason, rank.exit_code), []).append(
                f"{rank.host}:{'launcher' if rank.rank is None else rank.rank}"
            )
    return tuple(
        RankCount(reason=reason, exit_code=code, count=len(names), examples=tuple(names[:10]))
        for (reason, code), names in found.items()
    )


def _usage(reports: Sequence[JobReport]) -> Usage:
    return Usage(
        wall_s=sum(report.usage.wall_s for report in reports),
        user_s=sum(report.usage.user_s for report in reports),
        system_s=sum(report.usage.system_s for report in reports),
        max_rss_kib=max((report.usage.max_rss_kib for report in reports), default=0),
    )
