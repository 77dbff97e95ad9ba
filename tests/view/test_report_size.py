"""A RunReport keeps within 64 KiB, whatever was said; what was cut off is counted."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pilotwrap.model.errors import BadInputError
from pilotwrap.model.outcome import Outcome, RankOutcome
from pilotwrap.model.reasons import REASONS
from pilotwrap.model.report import MAX_REPORT_BYTES, FileReport, JobReport, TimelineEntry
from pilotwrap.run.summary import RunEnd, run_report

WORDS = st.sampled_from(["", "no space", "ж" * 500, "x" * 70_000, "\u2028" * 1000])
FILES = {f"out.{number}": FileReport(guid="g" * 36, size=1, adler32="00000001") for number in range(200)}
JOBS = st.builds(
    JobReport,
    state=st.sampled_from(["finished", "failed"]),
    reason=st.sampled_from(REASONS),
    detail=WORDS,
    files=st.sampled_from([{}, FILES]),
)
MANY = st.tuples(JOBS, st.integers(0, 60)).map(lambda found: [found[0]] * found[1])
OUTCOMES = st.builds(
    lambda host, codes: Outcome(
        reason="payload-exit",
        exit_code=1,
        ranks=tuple(
            RankOutcome(rank=rank, host=host, exit_code=code, signal=None, reason="payload-exit")
            for rank, code in codes
        ),
    ),
    st.sampled_from(["node1", "n" * 200]),
    st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 255)), max_size=300),
)


@settings(max_examples=40, deadline=None)
@given(MANY, st.lists(JOBS, max_size=5), WORDS, st.lists(OUTCOMES, max_size=3))
@example([JobReport(state="failed", reason="stage-out", detail="ж" * 300)] * 120, [], "", [])
def test_a_report_is_at_most_64_kib_of_bytes(
    many: list[JobReport], few: list[JobReport], text: str, outcomes: list[Outcome]
) -> None:
    end = RunEnd(
        error=BadInputError(text) if text else None,
        outcomes=tuple(outcomes),
        timeline=tuple(TimelineEntry(at_s=1, what=text[:3000]) for _ in range(60)),
        run_dir="/runs/1",
    )
    report = run_report(many + few, end)
    assert len(report.to_json().encode()) <= MAX_REPORT_BYTES
    assert report.job_count == len(many) + len(few)


def test_failed_jobs_are_kept_before_finished_ones() -> None:
    well = JobReport(state="finished", reason="ok", detail="x" * 200, told=True)
    ill = JobReport(state="failed", reason="stage-in", detail="not there", told=True)
    report = run_report([well] * 2000 + [ill], RunEnd())
    assert report.jobs[0] == ill
    assert len(report.jobs) < report.job_count == 2001
    assert (report.state, report.reason, report.detail) == ("failed", "stage-in", "not there")
