"""The driver alone: local specs, without a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pytest

from pilotwrap.model.errors import StageInError
from pilotwrap.panda.job import UnrunnableJob
from pilotwrap.plan.ledger import ledger_of
from pilotwrap.run import events as ev
from pilotwrap.run.job import Job
from pilotwrap.run.state import State

from .rig import Rig, head, surroundings
from .starter import Message, ScriptedStarter, exited, failed, obedient, patient, silent, started

if TYPE_CHECKING:
    from pilotwrap.run.rundir import RunDirectory

RigOf = Callable[..., Rig]


class TestLives:
    def test_a_spec_runs_to_its_report(self, rig_of: RigOf) -> None:
        rig = rig_of()
        rig.take("spec-0", command=["echo", "hello"])
        rig.until_over()
        assert rig.starter.orders[0]["argv"] == ["echo", "hello"]
        (report,) = rig.driver.reports
        assert (report.state, report.reason, report.exit_code, report.told) == ("finished", "ok", 0, True)
        assert (report.usage.wall_s, report.usage.max_rss_kib, report.core_count) == (2.0, 1024, 4)
        assert report.started_at is not None
        assert report.ended_at is not None
        assert time.time() - 60 < report.started_at <= report.ended_at < time.time() + 1

    def test_the_journal_tells_the_life_in_order(self, rig_of: RigOf) -> None:
        rig = rig_of()
        rig.take("spec-0")
        rig.until_over()
        assert rig.events("spec-0") == ["Acquired", "StagedIn", "Started", "Exited", "StagedOut"]

    def test_several_ranks_are_one_job(self, rig_of: RigOf) -> None:
        rig = rig_of()
        rig.take("spec-0", ranks_per_node=4)
        rig.until_over()
        assert rig.starter.spawned() == [f"spec-0/{rank}" for rank in range(4)]
        assert rig.events("spec-0").count("Started") == 1
        assert rig.events("spec-0").count("Exited") == 1
        assert rig.driver.outcomes["spec-0"].usage.user_s == 4.0
        assert len({order["cpus"] for order in rig.starter.orders}) == 4

    def test_a_job_is_over_when_its_last_rank_is(self, rig_of: RigOf) -> None:
        rig = rig_of(silent)
        job = rig.take("spec-0", ranks_per_node=2)
        rig.until(lambda: len(rig.starter.spawned()) == 2)
        rig.starter.say(started("spec-0/0"), exited("spec-0/0", 3), started("spec-0/1"))
        rig.until(lambda: job.alive == {"spec-0/1"})
        assert job.state.phase == "running"
        rig.starter.say(exited("spec-0/1"))
        rig.until_over()
        assert (rig.driver.reports[0].reason, rig.driver.reports[0].exit_code) == ("payload-exit", 3)
        assert rig.driver.reports[0].detail == "the payload exited with code 3 (rank 0 on node1)"

    def test_a_word_on_a_job_that_is_over_or_unknown_changes_nothing(self, rig_of: RigOf) -> None:
        rig = rig_of(silent)
        job = rig.take("spec-0")
        rig.until(rig.starter.spawned)
        rig.starter.say(exited("other/0"), started("spec-0/0"), exited("spec-0/0"), exited("spec-0/0", 9))
        rig.until_over()
        assert job.outcome is not None
        assert job.outcome.exit_code == 0
        assert len(rig.driver.reports) == 1

    def test_counts_are_of_phases_and_of_ends(self, rig_of: RigOf) -> None:
        rig = rig_of(patient)
        rig.take("spec-0", cpus_per_rank=1)
        rig.take("spec-1", cpus_per_rank=1)
        rig.until(lambda: rig.driver.counts() == {"running": 2})
        rig.starter.say(exited("spec-0/0", 1))
        rig.until(lambda: rig.driver.counts() == {"running": 1, "failed": 1})
        rig.starter.say(exited("spec-1/0"))
        rig.until(lambda: rig.driver.counts() == {"finished": 1, "failed": 1})


class TestSpawns:
    def test_a_command_that_does_not_exist_is_bad_input_and_gives_its_cores_back(self, rig_of: RigOf) -> None:
        rig = rig_of(lambda order: [failed(order["id"])])
        rig.take("spec-0", command=["nothing"])
        rig.until_over()
        (report,) = rig.driver.reports
        assert (report.state, report.reason) == ("failed", "bad-input")
        assert "cannot start nothing: No such file or directory" in report.detail
        assert rig.driver.ledger.idle
        assert not rig.driver.broken

    def test_a_fault_of_the_node_marks_the_run_broken(self, rig_of: RigOf) -> None:
        rig = rig_of(lambda order: [failed(order["id"], "EAGAIN", "fork")])
        rig.take("spec-0")
        rig.until_over()
        assert rig.driver.reports[0].reason == "node-unusable"
        assert rig.driver.broken

    @pytest.mark.parametrize("last", ["started", "failed"])
    def test_ranks_that_partly_fail_to_start_fail_the_job_when_the_others_have_ended(
        self, rig_of: RigOf, last: str
    ) -> None:
        rig = rig_of(silent)
        rig.take("spec-0", ranks_per_node=2)
        rig.until(lambda: len(rig.starter.spawned()) == 2)
        well, ill = [started("spec-0/0"), exited("spec-0/0")], [failed("spec-0/1", "EACCES")]
        rig.starter.say(*(well + ill if last == "failed" else ill + well))
        rig.until_over()
        (report,) = rig.driver.reports
        assert (report.state, report.reason) == ("failed", "bad-input")
        assert "(rank 1 on node1)" in report.detail
        assert rig.driver.ledger.idle

    def test_no_rank_that_starts_is_one_failed_spawn(self, rig_of: RigOf) -> None:
        rig = rig_of(lambda order: [failed(order["id"])])
        rig.take("spec-0", ranks_per_node=3)
        rig.until_over()
        assert rig.events("spec-0").count("SpawnFailed") == 1
        assert len(rig.driver.reports) == 1

    def test_an_order_leaves_when_the_journal_has_what_led_to_it(self, run_directory: RunDirectory) -> None:
        """The order is longer than a pipe: as long as the starter reads none of it, the driver is still sending."""
        seen: list[str] = []
        starter = ScriptedStarter(obedient, lambda: seen.append(run_directory.journal.read_text()))
        rig = Rig(surroundings(run_directory), starter)
        rig.take("spec-0", command=["true", "x" * 300_000])
        rig.until_over()
        starter.close()
        assert '"event":"StagedIn"' in seen[0]
        rig.driver.journal.close()


class TestStop:
    def test_running_payloads_are_signalled_and_told_as_cancelled(self, rig_of: RigOf) -> None:
        rig = rig_of(patient)
        rig.take("spec-0", ranks_per_node=2)
        rig.until(lambda: rig.driver.counts() == {"running": 1})
        rig.driver.stop("cancelled", 5.0)
        rig.until_over()
        signals = [order for order in rig.starter.orders if order["do"] == "signal"]
        assert [(order["id"], order["signal"]) for order in signals] == [("spec-0/0", 15), ("spec-0/1", 15)]
        assert all(0 < order["grace_s"] < 5.0 for order in signals)
        assert (rig.driver.reports[0].state, rig.driver.reports[0].reason) == ("cancelled", "cancelled")
        assert rig.driver.ledger.idle

    def test_only_ranks_that_live_are_signalled(self, rig_of: RigOf) -> None:
        rig = rig_of(patient)
        job = rig.take("spec-0", ranks_per_node=2)
        rig.until(lambda: rig.driver.counts() == {"running": 1})
        rig.starter.say(exited("spec-0/0"))
        rig.until(lambda: job.alive == {"spec-0/1"})
        rig.driver.stop("cancelled", 5.0)
        rig.until_over()
        assert [order["id"] for order in rig.starter.orders if order["do"] == "signal"] == ["spec-0/1"]

    def test_jobs_that_wait_for_cores_never_start(self, rig_of: RigOf) -> None:
        rig = rig_of(patient)
        rig.take("spec-0")
        rig.take("spec-1")
        rig.until(lambda: rig.driver.counts() == {"running": 1, "staging-in": 1})
        rig.driver.stop("cancelled", 5.0)
        rig.until_over()
        assert rig.starter.spawned() == ["spec-0/0"]
        assert [report.state for report in rig.driver.reports] == ["cancelled", "cancelled"]
        assert rig.driver.unallotted == []

    def test_a_job_that_comes_after_the_stop_ends_at_once(self, rig_of: RigOf) -> None:
        rig = rig_of()
        rig.driver.stop("walltime", 5.0)
        rig.take("late")
        rig.until_over()
        assert rig.starter.spawned() == []
        assert (rig.driver.reports[0].state, rig.driver.reports[0].reason) == ("failed", "walltime")

    def test_a_late_job_gets_what_is_left_of_the_nearest_end(self, rig_of: RigOf) -> None:
        rig = rig_of()
        before = time.monotonic()
        rig.driver.stop("cancelled", 3.0)
        rig.driver.stop("cancelled", 50.0)
        job = rig.take("late")
        assert before + 3.0 <= job.state.stop_at <= time.monotonic() + 3.0

    def test_a_signal_from_the_starter_is_handed_on_with_its_number(self, rig_of: RigOf) -> None:
        rig = rig_of()
        asked: list[int] = []
        rig.driver.on_stop = asked.append
        rig.starter.say({"event": "stop", "signal": 2})
        rig.until(lambda: asked)
        assert (asked, rig.driver.stopped) == ([2], 2)


class TestStarterLost:
    def test_a_running_job_is_told_as_lost(self, rig_of: RigOf) -> None:
        rig = rig_of(patient)
        quick = rig.around.rules._replace(reap_s=0.05, blink_s=0.05)
        rig.take("spec-0", quick)
        rig.until(lambda: rig.driver.counts() == {"running": 1})
        rig.starter.go_away()
        rig.until_over()
        assert rig.driver.starter_lost
        assert (rig.driver.reports[0].state, rig.driver.reports[0].reason) == ("failed", "node-lost")
        assert rig.driver.broken
        assert rig.driver.ledger.idle

    def test_a_job_that_comes_later_ends_at_once(self, rig_of: RigOf) -> None:
        rig = rig_of()
        rig.starter.go_away()
        rig.until(lambda: rig.driver.starter_lost)
        rig.take("late")
        rig.until_over()
        assert rig.driver.reports[0].reason == "node-lost"
        assert rig.starter.orders == []

    def test_an_order_to_a_starter_that_is_gone_breaks_nothing(self, rig_of: RigOf) -> None:
        rig = rig_of()
        rig.starter.close()
        rig.driver.link.send({"do": "signal", "id": "spec-0/0", "signal": 15, "grace_s": 1.0})


class TestLedger:
    def test_jobs_run_beside_each_other_as_far_as_cores_reach(self, rig_of: RigOf) -> None:
        rig = rig_of(patient)
        for number in range(6):
            rig.take(f"spec-{number}", cpus_per_rank=1)
        rig.until(lambda: rig.driver.counts() == {"running": 4, "staging-in": 2})
        assert len({order["cpus"] for order in rig.starter.orders}) == 4
        rig.starter.say(exited("spec-2/0"))
        rig.until(lambda: "spec-4/0" in rig.starter.spawned())
        cpus = {order["id"]: order["cpus"] for order in rig.starter.orders}
        assert cpus["spec-4/0"] == cpus["spec-2/0"]
        assert "spec-5/0" not in rig.starter.spawned()

    def test_a_large_job_is_not_overtaken_for_ever(self, rig_of: RigOf) -> None:
        rig = rig_of(patient)
        rig.take("first", cpus_per_rank=1)
        rig.until(lambda: rig.starter.spawned() == ["first/0"])
        rig.take("large", cpus_per_rank=4)
        rig.take("small", cpus_per_rank=1)
        rig.until(lambda: rig.driver.counts() == {"running": 1, "staging-in": 2})
        rig.starter.say(exited("first/0"))
        rig.until(lambda: len(rig.starter.spawned()) == 2)
        assert rig.starter.spawned() == ["first/0", "large/0"]
        rig.starter.say(exited("large/0"))
        rig.until(lambda: len(rig.starter.spawned()) == 3)

    def test_a_stopped_job_at_the_front_does_not_hold_up_the_others(self, rig_of: RigOf) -> None:
        rig = rig_of(patient)
        rig.take("first", cpus_per_rank=2)
        rig.until(lambda: rig.starter.spawned() == ["first/0"])
        large = rig.take("large", cpus_per_rank=4)
        rig.take("small", cpus_per_rank=1)
        rig.driver.happened(large, ev.StopAsked(time.monotonic(), "cancelled", 5.0))
        rig.until(lambda: "small/0" in rig.starter.spawned())
        assert "large/0" not in rig.starter.spawned()

    @pytest.mark.parametrize(
        "script",
        [
            obedient,
            lambda order: [failed(order["id"])],
            lambda order: [started(order["id"]), exited(order["id"]), exited(order["id"]), failed(order["id"])],
        ],
    )
    def test_an_allotment_is_given_back_once(
        self, rig_of: RigOf, script: Callable[[Message], Iterable[Message]]
    ) -> None:
        rig = rig_of(script)
        for number in range(3):
            rig.take(f"spec-{number}", ranks_per_node=2, cpus_per_rank=1)
        rig.until_over()
        assert rig.driver.ledger.model_dump() == ledger_of(rig.around.allocation).model_dump()

    def test_what_can_never_fit_is_refused_in_words_and_holds_nobody_up(self, rig_of: RigOf) -> None:
        rig = rig_of()
        rig.take("vast", cpus_per_rank=64)
        rig.take("small", cpus_per_rank=1)
        rig.until_over()
        vast = next(report for report in rig.driver.reports if report.state == "failed")
        assert vast.reason == "bad-input"
        assert "ranks of 64 cores; there are 1 nodes of 4 cores and 0 usable accelerators; ask for less" in vast.detail
        assert rig.starter.spawned() == ["small/0"]

    def test_a_job_over_two_nodes_holds_the_same_cores_on_both(self, rig_of: RigOf) -> None:
        rig = rig_of(patient, head(hosts=("node1", "node2")))
        job = rig.take("wide", nodes=2, ranks_per_node=2, cpus_per_rank=1, mode="mpi")
        rig.until(lambda: rig.starter.spawned() == ["wide/launch"])
        assert job.allotment is not None
        assert (job.allotment.hosts, job.allotment.cores) == (("node1", "node2"), ("0", "1"))
        assert rig.driver.ledger.free == {"node1": ("2", "3"), "node2": ("2", "3")}
        rig.starter.say(exited("wide/launch"))
        rig.until_over()
        assert rig.driver.reports[0].core_count == 4


class TestPreparationFails:
    def test_a_job_without_its_input_is_told_and_gives_its_cores_back(self, rig_of: RigOf) -> None:
        rig = rig_of()
        rig.take("spec-0", inputs=[{"lfn": "in.dat", "path": "/nowhere/in.dat"}])
        rig.until_over()
        assert rig.driver.reports[0].reason == StageInError.reason
        assert "in.dat" in rig.driver.reports[0].detail
        assert rig.driver.ledger.idle

    def test_an_unrunnable_job_of_the_server_is_told_with_the_servers_reason(self, rig_of: RigOf) -> None:
        rig = rig_of()
        refused = UnrunnableJob(panda_id=7, attempt_nr=2, why="the job has no transformation")
        job = rig.take("spec-0")
        rig.until_over()
        told = Job("7-2", job.spec, rig.run.job("7-2"), State(rules=rig.around.rules), refused)
        rig.driver.take(told)
        rig.until_over()
        report = rig.driver.reports[1]
        assert (report.panda_id, report.attempt_nr, report.reason) == (7, 2, "bad-input")
        assert report.detail == "the job has no transformation"


class TestClock:
    def test_a_wake_is_a_tick_at_its_time(self, rig_of: RigOf) -> None:
        rig = rig_of(silent)
        rules = rig.around.rules._replace(spawn_s=0.2, reap_s=0.1, grace_s=0.1)
        rig.take("spec-0", rules)
        rig.until_over()
        assert rig.driver.reports[0].reason == "node-lost"
        assert "did not start within 0 s; the payload's end was never seen" in rig.driver.reports[0].detail
        assert "Tick" in rig.events("spec-0")

    def test_a_turn_waits_no_longer_than_the_next_wake(self, rig_of: RigOf) -> None:
        rig = rig_of(silent)
        job = rig.take("spec-0")
        rig.until(rig.starter.spawned)
        while job.state.phase != "spawning":
            rig.driver.turn(0.0)
        job.wake_at = time.monotonic() + 0.1
        began = time.monotonic()
        rig.driver.turn(60.0)
        assert time.monotonic() - began < 30.0
        assert rig.events("spec-0")[-1] == "Tick"

    def test_a_task_of_another_thread_ends_the_wait(self, rig_of: RigOf) -> None:
        rig = rig_of()
        done: list[int] = []
        rig.driver.post(lambda: done.append(1))
        rig.driver.post(lambda: done.append(2))
        rig.driver.turn(60.0)
        assert done == [1, 2]
