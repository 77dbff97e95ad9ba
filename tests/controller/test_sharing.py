"""Specs and a server share one allocation; near its end nothing is begun that no longer fits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pilotwrap.cli.run import read_spec, read_specs
from pilotwrap.model.errors import BadInputError
from pilotwrap.model.job import JobSpec
from pilotwrap.model.outcome import Usage
from pilotwrap.model.reasons import Reason
from pilotwrap.model.report import MAX_REPORT_BYTES, JobReport, RankCount, RunReport, RunState
from pilotwrap.plan.ledger import ledger_of
from pilotwrap.run.merge import Answer, Spread, merged
from pilotwrap.run.pool import Pool
from pilotwrap.run.summary import RunEnd
from pilotwrap.run.work import LAST_PAUSE_S, MOST_WAITING, PandaWork, WorkTerms

from .rig import SERVER, Rig, head, new_run, surroundings
from .starter import Script, ScriptedStarter, obedient, patient
from .test_work import Questions

if TYPE_CHECKING:
    from pathlib import Path

    from pilotwrap.run.rundir import RunDirectory

StarterOf = Callable[[Script], ScriptedStarter]
RigOf = Callable[..., Rig]
ONE_CORE = JobSpec(command=("/bin/sh",), cpus_per_rank=1)


@pytest.fixture
def two_nodes(run_directory: RunDirectory, starter_of: StarterOf) -> Rig:
    return Rig(surroundings(run_directory, head(hosts=("node1", "node2"))), starter_of(patient))


class TestFetching:
    def test_beside_a_job_that_waits_one_is_asked_for_at_a_time(self, two_nodes: Rig) -> None:
        two_nodes.take("spec-0", cpus_per_rank=2)
        two_nodes.until(two_nodes.starter.spawned)
        two_nodes.take("spec-1", nodes=2, cpus_per_rank=3)
        two_nodes.driver.turn(0.0)
        asked = Questions()
        PandaWork(two_nodes.driver, asked, SERVER, ONE_CORE, WorkTerms(None, 0.0)).poll(time.monotonic())
        assert [wanted.n_jobs for wanted in asked.all] == [1]

    def test_what_is_reserved_is_nothing_to_ask_for(self, two_nodes: Rig) -> None:
        two_nodes.take("spec-0", cpus_per_rank=2)
        two_nodes.until(two_nodes.starter.spawned)
        two_nodes.take("spec-1", nodes=2)
        two_nodes.driver.turn(0.0)
        asked = Questions()
        PandaWork(two_nodes.driver, asked, SERVER, ONE_CORE, WorkTerms(None, 0.0)).poll(time.monotonic())
        assert asked.all == []

    def test_no_more_than_a_few_may_wait(self, tmp_path: Path, starter_of: StarterOf) -> None:
        hosts = [f"node{number}" for number in range(9)]
        rig = Rig(surroundings(new_run(tmp_path), head(hosts=hosts)), starter_of(patient))
        rig.take("spec-0", cpus_per_rank=2)
        rig.until(rig.starter.spawned)
        for number in range(MOST_WAITING + 1):
            rig.take(f"large-{number}", nodes=9)
        asked = Questions()
        work = PandaWork(rig.driver, asked, SERVER, ONE_CORE, WorkTerms(None, 0.0))
        assert work.poll(time.monotonic()) == LAST_PAUSE_S
        assert asked.all == []

    def test_near_the_end_a_worker_of_known_wall_time_asks_no_more(self, rig_of: RigOf) -> None:
        rig, asked = rig_of(), Questions()
        now = time.monotonic()
        object.__setattr__(rig.around, "stop_at", now + 50)
        work = PandaWork(rig.driver, asked, SERVER, ONE_CORE.model_copy(update={"walltime_s": 60}), WorkTerms(None, 0))
        work.poll(now)
        assert (asked.all, work.over) == ([], True)


class TestTail:
    def test_what_no_longer_fits_the_time_left_is_not_started_and_says_so(
        self, run_directory: RunDirectory, starter_of: StarterOf
    ) -> None:
        around = surroundings(run_directory, stop_at=time.monotonic() + 50)
        rig = Rig(around, starter_of(obedient))
        rig.take("late", walltime_s=60)
        rig.take("short", walltime_s=40)
        rig.take("unknown")
        rig.until_over()
        ends = {report.name: (report.state, report.reason) for report in rig.driver.reports}
        assert ends == {"late": ("failed", "walltime"), "short": ("finished", "ok"), "unknown": ("finished", "ok")}
        (late,) = [report for report in rig.driver.reports if report.name == "late"]
        assert "it may take 60 s" in late.detail
        assert rig.starter.spawned() == ["short/0", "unknown/0"]


class TestLists:
    def test_a_file_may_hold_several(self, tmp_path: Path) -> None:
        path = tmp_path / "list.json"
        path.write_text(json.dumps([{"command": [name]} for name in "abc"]))
        assert [spec.command for spec in read_specs(path)] == [("a",), ("b",), ("c",)]
        with pytest.raises(BadInputError, match="a list of 3 jobs"):
            read_spec(path)

    @pytest.mark.parametrize("text", ["[]", "[1]", '[{"command": []}]', '[{"command": ["a"]}, {"nodes": 0}]'])
    def test_a_wrong_one_is_named_by_its_number(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "list.json"
        path.write_text(text)
        with pytest.raises(BadInputError, match=r"list\.json(: [01])?[: ]"):
            read_specs(path)


def answer(host: str, code: int, state: RunState, reason: Reason = "ok", jobs: int = 1) -> Answer:
    own = JobReport(state="finished" if state == "finished" else "failed", reason=reason, detail="x" * 200)
    report = RunReport(
        version="0",
        state=state,
        reason=reason,
        detail=f"{reason} there",
        jobs=(own,) * jobs,
        job_count=jobs,
        ranks=(RankCount(reason=reason, exit_code=0, count=jobs, examples=(f"{host}:0",)),),
        usage=Usage(wall_s=2.0, user_s=1.0, system_s=0.5, max_rss_kib=100),
    )
    return Answer(host=host, exit_code=code, report=report)


class TestMerging:
    def test_counts_and_use_are_summed_and_a_node_without_work_says_nothing(self) -> None:
        idle = answer("c", 5, "no-work", "no-work", 0)
        report, code = merged([answer("a", 0, "finished"), answer("b", 0, "finished"), idle], Spread())
        assert (report.state, report.reason, code, report.job_count) == ("finished", "ok", 0, 2)
        assert (report.usage.wall_s, report.usage.max_rss_kib) == (6.0, 100)
        assert report.ranks[0].count == 2

    def test_no_work_anywhere_is_no_work(self) -> None:
        report, code = merged([answer(host, 5, "no-work", "no-work", 0) for host in "ab"], Spread())
        assert (report.state, report.reason, code) == ("no-work", "no-work", 5)

    def test_the_worst_node_is_named(self) -> None:
        bad = answer("b", 3, "failed", "environment")
        report, code = merged([answer("a", 1, "failed", "payload-exit"), bad], Spread())
        assert (report.state, report.reason, code) == ("failed", "environment", 3)
        assert report.detail == "b: environment there"

    def test_a_silent_node_is_lost_and_named(self) -> None:
        report, code = merged([answer("a", 0, "finished")], Spread(silent=("b",)))
        assert (report.state, report.reason, code) == ("failed", "node-lost", 3)
        assert "b" in report.detail

    def test_a_stop_is_the_whole_runs(self) -> None:
        end = RunEnd(stopped=15, stop_reason="cancelled")
        report, code = merged([answer("a", 143, "cancelled", "cancelled")], Spread(end=end))
        assert (report.state, code) == ("cancelled", 143)

    def test_a_thousand_reports_are_one_small_one_with_the_failed_first(self) -> None:
        answers = [answer(f"node{number}", 0, "finished", jobs=10) for number in range(1000)]
        report, _ = merged([*answers, answer("bad", 1, "failed", "payload-exit")], Spread())
        assert len(report.to_json().encode()) <= MAX_REPORT_BYTES
        assert (report.job_count, report.jobs[0].state) == (10001, "failed")


def test_a_pool_whose_holders_ended_is_idle_again(rig_of: RigOf) -> None:
    rig = rig_of(obedient)
    pool = rig.driver.pool
    assert isinstance(pool, Pool)
    for number in range(3):
        rig.take(f"spec-{number}", cpus_per_rank=2)
    rig.until_over()
    assert (pool.waiting, pool.ledger.idle, pool.spare) == ([], True, ledger_of(rig.around.allocation))
