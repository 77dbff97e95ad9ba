"""The RunReport of a run that had one controller on each node, from what each of them said. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pilotwrap import __version__
from pilotwrap.model.base import Value
from pilotwrap.model.errors import PilotwrapError
from pilotwrap.model.outcome import Usage
from pilotwrap.model.reasons import EXIT_CODES, Reason, exit_code_of
from pilotwrap.model.report import (
    MAX_REPORT_BYTES,
    JobReport,
    RankCount,
    RunReport,
    RunState,
    TimelineEntry,
)
from pilotwrap.run.summary import MAX_DETAIL, STOPS, RunEnd, stop_code

MAX_EXAMPLES = 10
NAMED = 10
"""So many nodes stand in one sentence."""


class Answer(Value):
    """What one node's controller said at its end."""

    host: str
    exit_code: int
    report: RunReport


class Spread(NamedTuple):
    """How the whole ended, besides what its nodes said."""

    silent: tuple[str, ...] = ()
    """Nodes that were to answer and did not."""

    end: RunEnd = RunEnd()


def merged(answers: Sequence[Answer], spread: Spread) -> tuple[RunReport, int]:
    """Return the report, of at most 64 KiB, and the exit code."""
    jobs = [job for answer in answers for job in answer.report.jobs]
    jobs.sort(key=lambda job: job.state == "finished")
    code = _code(answers, spread)
    report = RunReport(
        version=__version__,
        state=_state(answers, spread),
        exit_code=max((one.report.exit_code for one in answers if one.report.exit_code is not None), default=None),
        job_count=sum(answer.report.job_count for answer in answers),
        ranks=_ranks(answers),
        timeline=spread.end.timeline,
        usage=_usage(answers),
        outcome=spread.end.outcome_file,
        run_dir=spread.end.run_dir,
        **_why(answers, spread),
    )
    return _small(report, jobs), code


def _small(report: RunReport, jobs: Sequence[JobReport]) -> RunReport:
    kept = len(jobs)
    while True:
        whole = report.model_copy(update={"jobs": tuple(jobs[:kept])})
        if not kept or len(whole.to_json().encode()) <= MAX_REPORT_BYTES:
            return whole
        kept //= 2


def _working(answers: Sequence[Answer]) -> list[Answer]:
    """Return those that had something to do, or all: a node that found no more work says nothing of the others."""
    idle = EXIT_CODES["no-work"]
    return [answer for answer in answers if answer.exit_code != idle] or list(answers)


def _code(answers: Sequence[Answer], spread: Spread) -> int:
    codes = [answer.exit_code for answer in _working(answers)]
    codes += [EXIT_CODES["node-lost"]] * bool(spread.silent)
    if spread.end.error is not None:
        codes.append(spread.end.error.exit_code)
    if spread.end.stop_reason is not None:
        codes.append(stop_code(spread.end))
    return exit_code_of(codes)


def _state(answers: Sequence[Answer], spread: Spread) -> RunState:
    if spread.end.stop_reason == "cancelled":
        return "cancelled"
    states = {answer.report.state for answer in _working(answers)}
    if spread.silent or spread.end.error is not None or spread.end.stop_reason or "failed" in states:
        return "failed"
    return next((state for state in ("cancelled", "finished") if state in states), "no-work")


def _why(answers: Sequence[Answer], spread: Spread) -> Mapping[str, Reason | str]:
    """Return the reason and one sentence: of the run's own end, of silent nodes, or of the worst answer."""
    error: PilotwrapError | None = spread.end.error
    if spread.end.stop_reason is not None:
        return {"reason": spread.end.stop_reason, "detail": STOPS[spread.end.stop_reason]}
    if error is not None:
        return {"reason": error.reason, "detail": str(error)[:MAX_DETAIL]}
    if spread.silent:
        named = ", ".join(spread.silent[:NAMED]) + (" and others" if len(spread.silent) > NAMED else "")
        more = f"{len(spread.silent)} nodes ended without a word: {named}; what they left untold waits for "
        return {"reason": "node-lost", "detail": f"{more}`pilotwrap flush`, or the next run"}
    working = _working(answers)
    first = exit_code_of(answer.exit_code for answer in working)
    worst = next((answer for answer in working if answer.exit_code == first), None)
    if worst is None:
        return {"reason": "no-work", "detail": "no node had anything to do"}
    said = worst.report
    return {"reason": said.reason, "detail": f"{worst.host}: {said.detail}"[:MAX_DETAIL] if said.detail else ""}


def _ranks(answers: Sequence[Answer]) -> tuple[RankCount, ...]:
    found: dict[tuple[Reason, int | None], RankCount] = {}
    for answer in answers:
        for one in answer.report.ranks:
            had = found.get((one.reason, one.exit_code))
            count = one.count + (had.count if had else 0)
            examples = (*(had.examples if had else ()), *one.examples)[:MAX_EXAMPLES]
            found[one.reason, one.exit_code] = one.model_copy(update={"count": count, "examples": examples})
    return tuple(found.values())


def _usage(answers: Sequence[Answer]) -> Usage:
    every = [answer.report.usage for answer in answers]
    return Usage(
        wall_s=sum(one.wall_s for one in every),
        user_s=sum(one.user_s for one in every),
        system_s=sum(one.system_s for one in every),
        max_rss_kib=max((one.max_rss_kib for one in every), default=0),
    )


def timeline_of(began: float, ended: float, answers: Sequence[Answer]) -> tuple[TimelineEntry, ...]:
    """Return when the head began and was over, and how many controllers answered; times since the epoch."""
    lasted = round(ended - began, 3)
    said = TimelineEntry(at_s=lasted, what=f"{len(answers)} nodes have reported")
    return (TimelineEntry(at_s=0.0, what="the run began"), said, TimelineEntry(at_s=lasted, what="the run was over"))
