"""What a person reads: a line a fact, never two, and nothing of it hidden."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model.examples import FULL_NODE, FULL_REPORT, RUN_REPORT
from plan.facts import node

from pilotwrap.model.inquest import Inquest
from pilotwrap.model.node import Problem
from pilotwrap.model.report import JobReport, RunReport
from pilotwrap.view.inquest import told
from pilotwrap.view.node import described
from pilotwrap.view.progress import EVERY_S, Progress
from pilotwrap.view.summary import MAX_ROWS, summary


@given(st.text(max_size=40))
def test_each_fact_is_one_line_whatever_it_holds(text: str) -> None:
    bad = FULL_NODE.model_copy(update={"problems": (Problem(source=text, reason="r", detail=text),), "machine": text})
    assert len(described(bad).split("\n")) == len(described(FULL_NODE).split("\n")) + 1


def test_a_node_s_devices_are_shown_with_what_is_wrong() -> None:
    shown = described(FULL_NODE)
    assert "device      nvidia A100 at 0000:01:00.0: ok\n" in shown
    assert "device      nvidia A100 at 0000:02:00.0: lost\n" in shown
    assert "60 s left" in shown
    assert "no limit known" in described(node())


def test_a_run_s_summary_names_its_jobs_reasons_and_where_the_rest_is() -> None:
    shown = summary(RUN_REPORT, 1)
    assert "1.2" in shown
    assert "stage-out" in shown
    assert shown.endswith("exit code 1; all of it: /runs/1\n")


@pytest.mark.parametrize("count", [0, 1, MAX_ROWS, MAX_ROWS + 5])
def test_a_summary_is_short_however_many_jobs_there_are(count: int) -> None:
    report = RunReport(version="0", state="failed", reason="ok", jobs=(FULL_REPORT,) * count, job_count=count)
    lines = summary(report, 1).splitlines()
    assert len(lines) == 2 + min(count, MAX_ROWS) + (count > MAX_ROWS)
    assert (f"  … and {count - MAX_ROWS} more" in lines) == (count > MAX_ROWS)


def test_why_gives_the_sentence_then_what_to_do_then_the_evidence() -> None:
    found = Inquest(
        run_dir="/runs/1",
        state="died",
        reason="internal",
        sentence="The run died.",
        remedy="run pilotwrap flush",
        jobs=(FULL_REPORT, JobReport(state="failed", reason="walltime")),
        last_words={"1.2": ("disk full",)},
        unreported=("1.2",),
        events={"3.1": ("acquired", "staged")},
    )
    lines = told(found).splitlines()
    assert lines[:2] == ["The run died.", "what to do: run pilotwrap flush"]
    assert "    disk full" in lines
    assert "  job 3.1 was last seen at: acquired → staged" in lines
    assert "  not told yet: 1.2" in lines
    assert "  the job on ?: failed, walltime: " in lines


def test_progress_is_one_line_written_over_and_not_faster_than_one_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = Progress(stream, on=True)
    show = progress.show
    show(lambda: {"running": 2})
    show(lambda: {"running": 1, "finished": 1})
    now[0] += 2 * EVERY_S
    show(lambda: {"running": 1, "finished": 1})
    assert stream.getvalue() == "\r\x1b[K2 going on\r\x1b[K1 going on, 1 finished"
    progress.clear()
    assert stream.getvalue().endswith("1 finished\r\x1b[K")


def test_nothing_is_shown_where_nobody_looks() -> None:
    stream = io.StringIO()
    asked = []
    Progress(stream, on=False).show(lambda: asked.append("counted") or {"running": 1})
    assert asked == []
    assert stream.getvalue() == ""
