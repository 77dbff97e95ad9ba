"""The driver's seam to whoever runs the jobs: what an agent decides, and processes that outlive their job's life."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from pilotwrap.model.errors import SiteEnvironmentError
from pilotwrap.model.outcome import Outcome
from pilotwrap.model.report import TimelineEntry
from pilotwrap.run import events as ev
from pilotwrap.run.agent import FAR_S, Agent, DirectAgent
from pilotwrap.run.orders import Payload, kills

from .rig import Rig, head
from .starter import exited, failed, patient, silent, started

if TYPE_CHECKING:
    from pilotwrap.model.outcome import RankOutcome
    from pilotwrap.model.plan import Plan
    from pilotwrap.run.effects import StageOut
    from pilotwrap.run.events import StagedOut, StageOutFailed
    from pilotwrap.run.job import Job
    from pilotwrap.run.link import Message
    from pilotwrap.run.rundir import RunDirectory

RigOf = Callable[..., Rig]


class ScriptedAgent:
    """Runs a job as the direct agent does, but for what a test changes; notes what it is asked."""

    def __init__(self, rig: Rig) -> None:
        self._direct = DirectAgent(rig.around)
        self.starts = False
        self.steps: list[tuple[str, str]] = []
        self.judged: list[int] = []
        self.staged: list[str] = []
        self.refusal: Exception | None = None
        rig.driver.agent = self

    def prepare(self, job: Job) -> Plan:
        if self.refusal:
            raise self.refusal
        return self._direct.prepare(job)

    def payload(self, job: Job) -> Payload:
        return Payload(job.name, "/elsewhere", str(job.directory), None, apart=True)

    def begins(self, _job: Job, _started: Message) -> bool:
        return self.starts

    def outcome(self, _job: Job, ranks: Sequence[RankOutcome], _told: Sequence[RankOutcome]) -> Outcome:
        self.judged.append(len(ranks))
        return Outcome(reason="pilot", exit_code=None, ranks=tuple(ranks), detail="as the agent says")

    def stage_out(self, job: Job, _effect: StageOut) -> StagedOut | StageOutFailed:
        self.staged.append(job.name)
        return ev.StagedOut(time.monotonic(), {})

    def stepped(self, job: Job) -> None:
        self.steps.append((job.name, job.state.phase))

    def poll(self, _now: float) -> float:
        return FAR_S

    def timeline(self, _began: float) -> tuple[TimelineEntry, ...]:
        return ()

    def close(self) -> None:
        """Hold nothing."""


def ended(rig: Rig, job: Job) -> None:
    """Let a job end while its processes live: all that they had to say was said."""
    now = time.monotonic()
    rig.driver.happened(job, ev.Started(now))
    rig.driver.happened(job, ev.Exited(now, "ok", 0, ""))
    rig.driver.let_go(job)


class TestAgent:
    def test_it_says_when_a_payload_runs(self, rig_of: RigOf) -> None:
        rig = rig_of(patient)
        agent = ScriptedAgent(rig)
        job = rig.take("spec-0")
        rig.until(lambda: job.started)
        assert job.state.phase == "spawning"
        rig.driver.happened(job, ev.Started(time.monotonic()))
        assert job.state.phase == "running"
        assert agent.steps[-1] == ("spec-0", "running")

    def test_it_says_what_an_end_means(self, rig_of: RigOf) -> None:
        rig = rig_of()
        agent = ScriptedAgent(rig)
        agent.starts = True
        rig.take("spec-0", ranks_per_node=2)
        rig.until_over()
        assert agent.judged == [2]
        assert (rig.driver.reports[0].reason, rig.driver.reports[0].detail) == ("pilot", "as the agent says")

    def test_it_says_where_processes_run(self, rig_of: RigOf) -> None:
        rig = rig_of(patient)
        ScriptedAgent(rig)
        rig.take("spec-0")
        rig.until(rig.starter.spawned)
        order = rig.starter.orders[0]
        assert (order["cwd"], order["pid_namespace"], order["session"]) == ("/elsewhere", True, "child")

    def test_it_hears_of_every_step_and_last_of_the_end(self, rig_of: RigOf) -> None:
        rig = rig_of()
        agent = ScriptedAgent(rig)
        agent.starts = True
        rig.take("spec-0")
        rig.until_over()
        phases = [phase for _, phase in agent.steps]
        assert phases == ["staging-in", "spawning", "running", "staging-out", "done"]
        assert agent.staged == ["spec-0"]

    @pytest.mark.parametrize(
        ("error", "words"),
        [(SiteEnvironmentError("no room"), "no room"), (OSError(28, "No space left"), "could not be prepared")],
    )
    def test_a_preparation_that_fails_ends_the_job_and_gives_its_cores_back(
        self, rig_of: RigOf, error: Exception, words: str
    ) -> None:
        rig = rig_of()
        ScriptedAgent(rig).refusal = error
        rig.take("spec-0")
        rig.until_over()
        assert rig.driver.reports[0].reason == "environment"
        assert words in rig.driver.reports[0].detail
        assert (rig.starter.orders, rig.driver.ledger.idle) == ([], True)

    def test_the_direct_agents_jobs_begin_with_their_first_process(self, rig_of: RigOf) -> None:
        rig = rig_of(patient)
        agent: Agent = rig.driver.agent
        rig.take("spec-0")
        rig.until(lambda: rig.driver.counts() == {"running": 1})
        assert isinstance(agent, DirectAgent)
        assert (agent.poll(0.0), agent.timeline(0.0)) == (FAR_S, ())
        assert not rig.starter.orders[0]["pid_namespace"]
        agent.close()


class TestLettingGo:
    def test_what_lives_is_killed_at_once_and_its_end_is_no_news(self, rig_of: RigOf) -> None:
        rig = rig_of(silent)
        agent = ScriptedAgent(rig)
        job = rig.take("spec-0", ranks_per_node=2)
        rig.until(lambda: len(rig.starter.spawned()) == 2)
        ended(rig, job)
        rig.until_over()
        rig.until(lambda: len(rig.starter.orders) == 4)
        assert rig.starter.orders[2:] == kills({"spec-0/0", "spec-0/1"})
        assert all((order["signal"], order["grace_s"]) == (9, 0.0) for order in rig.starter.orders[2:])
        assert list(rig.driver.leaving) == ["spec-0"]
        rig.starter.say(exited("spec-0/0", None, 9), exited("spec-0/1", None, 9), exited("spec-0/1", None, 9))
        rig.until(lambda: not rig.driver.leaving)
        assert agent.judged == []
        assert (rig.driver.reports[0].state, rig.driver.reports[0].reason) == ("finished", "ok")
        assert rig.events("spec-0").count("Exited") == 1
        assert len(rig.driver.reports) == 1

    def test_cores_are_lent_until_the_last_process_is_gone(self, rig_of: RigOf) -> None:
        rig = rig_of(silent, head(cores=2))
        ScriptedAgent(rig)
        job = rig.take("spec-0", ranks_per_node=2, cpus_per_rank=1)
        rig.until(lambda: len(rig.starter.spawned()) == 2)
        waiting = rig.take("spec-1", cpus_per_rank=1)
        ended(rig, job)
        rig.until(lambda: "spec-0" in rig.driver.leaving)
        rig.starter.say(exited("spec-0/0", None, 9))
        rig.until(lambda: job.alive == {"spec-0/1"})
        assert (list(rig.driver.leaving), waiting.allotment, job.holding) == (["spec-0"], None, True)
        rig.starter.say(exited("spec-0/1", None, 9))
        rig.until(lambda: "spec-1/0" in rig.starter.spawned())
        assert (rig.driver.leaving, job.holding) == ({}, False)

    def test_processes_that_went_before_the_life_was_over_leave_nothing_behind(self, rig_of: RigOf) -> None:
        rig = rig_of(silent)
        agent = ScriptedAgent(rig)
        job = rig.take("spec-0")
        rig.until(rig.starter.spawned)
        ended(rig, job)
        rig.driver.heard(exited("spec-0/0", None, 9))
        assert (job.state.phase, job.holding) == ("staging-out", False)
        rig.until_over()
        assert (rig.driver.leaving, agent.judged, rig.driver.ledger.idle) == ({}, [], True)
        assert rig.driver.reports[0].state == "finished"

    def test_an_order_that_could_not_be_done_ends_it_too(self, rig_of: RigOf) -> None:
        rig = rig_of(silent)
        ScriptedAgent(rig)
        job = rig.take("spec-0")
        rig.until(rig.starter.spawned)
        rig.starter.say(started("spec-0/0"))
        rig.until(lambda: job.started)
        ended(rig, job)
        rig.until_over()
        rig.starter.say(failed("spec-0/0", "ESRCH", "signal it"))
        rig.until(lambda: not rig.driver.leaving)
        assert rig.driver.ledger.idle

    def test_a_starter_that_is_lost_ends_the_waiting(self, rig_of: RigOf) -> None:
        """Its lifelines end what lives; nobody would tell us when."""
        rig = rig_of(silent)
        ScriptedAgent(rig)
        job = rig.take("spec-0")
        rig.until(rig.starter.spawned)
        ended(rig, job)
        rig.until(lambda: rig.driver.leaving)
        rig.starter.go_away()
        rig.until(lambda: rig.driver.starter_lost)
        assert rig.driver.leaving == {}

    def test_after_a_lost_starter_nothing_leaves(self, rig_of: RigOf) -> None:
        rig = rig_of(silent)
        ScriptedAgent(rig)
        job = rig.take("spec-0")
        rig.until(rig.starter.spawned)
        rig.driver.happened(job, ev.Started(time.monotonic()))
        rig.starter.go_away()
        rig.until(lambda: rig.driver.starter_lost)
        ended(rig, job)
        rig.until_over()
        assert (rig.driver.leaving, rig.driver.ledger.idle) == ({}, True)

    def test_nothing_is_ordered_where_nothing_lives(self, rig_of: RigOf, run_directory: RunDirectory) -> None:
        rig = rig_of()
        agent = ScriptedAgent(rig)
        agent.starts = True
        job = rig.take("spec-0")
        rig.until_over()
        rig.driver.let_go(job)
        rig.driver.turn(0.0)
        assert [order["do"] for order in rig.starter.orders] == ["spawn"]
        assert run_directory.journal.exists()
