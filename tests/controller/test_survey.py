"""The survey with a scripted starter, the stopper at the edges of its times, and the controller's own looks."""

from __future__ import annotations

import json
import os
import pwd
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilotwrap.model.errors import (
    BadInputError,
    CredentialError,
    LauncherError,
    NodeUnusableError,
    ServerError,
    UsageError,
)
from pilotwrap.model.job import JobSpec
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.run import stopper as stopper_module
from pilotwrap.run.controller import _first_words, _server, _user
from pilotwrap.run.link import LOST
from pilotwrap.run.options import RunOptions
from pilotwrap.run.stopper import IDLE_S, LOST_S, STOP_BUDGET_S, Stopper
from pilotwrap.run.supply import make_sure
from pilotwrap.run.survey import STEP, SURVEY_S, Question, surveyed
from pilotwrap.site.machines.choice import Choice
from pilotwrap.site.machines.listing import machine_named

from .rig import Rig, head
from .starter import PATIENCE_S, Message, Script, ScriptedStarter, exited, failed, patient, silent, started

if TYPE_CHECKING:
    from pilotwrap.model.allocation import AllocationFacts
    from pilotwrap.run.rundir import RunDirectory

RigOf = Callable[..., Rig]
StarterOf = Callable[[Script], ScriptedStarter]
NODES = ("node1", "node2", "node3")
SNAPSHOT = Path(__file__).parents[1] / "snapshots" / "slurm-step.json"


def answer(folder: str, host: str) -> None:
    """Write what one node says of itself."""
    said = Snapshot.model_validate_json(SNAPSHOT.read_bytes())
    variables = {**said.variables, "SLURMD_NODENAME": host}
    said = said.model_copy(update={"host": host, "variables": variables})
    (Path(folder) / f"{host}.json").write_text(said.to_json())


def answering(*hosts: str, torn: tuple[str, ...] = ()) -> Script:
    def script(order: Message) -> Iterable[Message]:
        if order["do"] == "spawn":
            folder = order["argv"][-1]
            for host in hosts:
                answer(folder, host)
            for host in torn:
                (Path(folder) / f"{host}.json").write_text('{"schema": "pilotwrap.snapshot/1"')
        return [started(STEP), exited(STEP, 0 if len(hosts) == len(NODES) else 1)]

    return script


def survey(starter: ScriptedStarter, run: RunDirectory, hosts: tuple[str, ...] = NODES) -> AllocationFacts:
    return surveyed(head(hosts=hosts), starter.link, run, ("python3", "starter.pyz"))


def kept(cpus: str) -> Choice:
    """The user's own machine, whose nodes keep these CPUs for themselves."""
    known = machine_named("perlmutter-cpu")
    return Choice(named=known.model_copy(update={"node": known.node.model_copy(update={"reserved_cpus": cpus})}))


class TestSurvey:
    def test_the_machine_that_the_user_chose_is_that_of_every_node(
        self, starter_of: StarterOf, run_directory: RunDirectory
    ) -> None:
        starter, words = starter_of(answering(*NODES)), ("python3", "starter.pyz")
        found = surveyed(head(hosts=NODES), starter.link, run_directory, words, Question(kept("0")))
        assert {group.facts.cpus.reserved for group in found.groups} == {"0"}
        assert found.hosts == NODES

    def test_a_single_node_needs_none(self, starter_of: StarterOf, run_directory: RunDirectory) -> None:
        starter = starter_of(silent)
        assert survey(starter, run_directory, ("node1",)).hosts == ("node1",)
        assert starter.orders == []

    def test_every_node_that_answers_is_fit(self, starter_of: StarterOf, run_directory: RunDirectory) -> None:
        starter = starter_of(answering(*NODES))
        found = survey(starter, run_directory)
        assert (found.hosts, found.unfit) == (NODES, ())
        (order,) = starter.orders
        assert (order["id"], order["wall_s"], order["stdin"]) == (STEP, SURVEY_S, "null")
        assert order["argv"][-5:-1] == ["python3", "starter.pyz", "observe", "--into"]
        assert "--nodes=3" in order["argv"]

    def test_a_node_without_an_answer_is_set_aside_and_the_others_go_on(
        self, starter_of: StarterOf, run_directory: RunDirectory
    ) -> None:
        found = survey(starter_of(answering("node1", "node3")), run_directory)
        assert found.hosts == ("node1", "node3")
        assert [(node.host, node.reason) for node in found.unfit] == [("node2", "node-lost")]

    def test_a_torn_answer_is_none(self, starter_of: StarterOf, run_directory: RunDirectory) -> None:
        found = survey(starter_of(answering("node1", torn=("node2", "node3"))), run_directory)
        assert found.hosts == ("node1",)
        assert [node.host for node in found.unfit] == ["node2", "node3"]

    def test_no_answer_at_all_leaves_no_node(self, starter_of: StarterOf, run_directory: RunDirectory) -> None:
        found = survey(starter_of(answering()), run_directory)
        assert (found.groups, len(found.unfit)) == ((), 3)

    def test_a_step_that_cannot_be_started_is_the_launchers_fault(
        self, starter_of: StarterOf, run_directory: RunDirectory
    ) -> None:
        with pytest.raises(LauncherError, match="the survey cannot be started: No such file"):
            survey(starter_of(lambda order: [failed(order["id"])]), run_directory)

    def test_without_a_launcher_there_is_no_survey(self, starter_of: StarterOf, run_directory: RunDirectory) -> None:
        starter = starter_of(silent)
        with pytest.raises(LauncherError, match="3 nodes cannot be surveyed: no launcher is on PATH"):
            surveyed(head(hosts=NODES, launcher="local"), starter.link, run_directory, ("python3",))

    def test_a_starter_that_goes_away_ends_it(self, starter_of: StarterOf, run_directory: RunDirectory) -> None:
        starter = starter_of(silent)
        threading.Thread(target=lambda: (starter.next_order(), starter.go_away())).start()
        assert survey(starter, run_directory).groups == ()
        assert starter.link.read() is LOST

    def test_a_stop_during_it_ends_the_step_and_is_read_again_by_the_run(
        self, starter_of: StarterOf, run_directory: RunDirectory
    ) -> None:
        def script(order: Message) -> Iterable[Message]:
            if order["do"] == "spawn":
                return [started(STEP), {"event": "stop", "signal": 15}]
            return [exited(STEP, None, 15)]

        starter = starter_of(script)
        found = survey(starter, run_directory)
        assert found.hosts == NODES
        assert [order["do"] for order in starter.orders] == ["spawn", "signal"]
        assert starter.link.read() == {"event": "stop", "signal": 15}

    def test_words_on_other_steps_are_not_taken_for_its_own(
        self, starter_of: StarterOf, run_directory: RunDirectory
    ) -> None:
        def script(order: Message) -> Iterable[Message]:
            return [failed("wall"), exited("wall"), *answering(*NODES)(order)]

        assert survey(starter_of(script), run_directory).hosts == NODES


class Clock:
    """The stopper's time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        monkeypatch.setattr(stopper_module, "time", self)

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


def limited(rig: Rig, stop_at: float | None) -> Rig:
    object.__setattr__(rig.around, "stop_at", stop_at)
    return rig


class TestStopper:
    @pytest.mark.parametrize(
        ("left_s", "reason"),
        [
            (None, "cancelled"),
            (3600.0, "cancelled"),
            (STOP_BUDGET_S + 0.5, "cancelled"),
            (STOP_BUDGET_S - 0.5, "walltime"),
            (-1.0, "walltime"),
        ],
    )
    def test_a_signal_near_the_allocations_end_is_the_batch_systems(
        self, rig_of: RigOf, monkeypatch: pytest.MonkeyPatch, left_s: float | None, reason: str
    ) -> None:
        clock = Clock(monkeypatch)
        rig = limited(rig_of(), None if left_s is None else clock.now + left_s)
        stopper = Stopper(rig.driver)
        stopper.asked(15)
        assert stopper.reason == reason

    def test_it_is_spent_when_its_budget_is_over_and_a_second_signal_gives_no_more(
        self, rig_of: RigOf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = Clock(monkeypatch)
        stopper = Stopper(rig_of().driver)
        assert not stopper.spent
        stopper.asked(15)
        clock.now += STOP_BUDGET_S - 0.1
        stopper.asked(15)
        assert not stopper.spent
        clock.now += 0.1
        assert stopper.spent

    def test_without_an_end_it_is_idle(self, rig_of: RigOf) -> None:
        stopper = Stopper(rig_of().driver)
        assert stopper.due_in(time.monotonic()) == IDLE_S
        assert stopper.reason is None

    def test_it_waits_until_the_end_and_stops_then_once(self, rig_of: RigOf, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock(monkeypatch)
        rig = limited(rig_of(patient), clock.now + 100.0)
        job = rig.take("spec-0")
        rig.until(lambda: rig.driver.counts() == {"running": 1})
        stopper = Stopper(rig.driver)
        assert stopper.due_in(clock.now) == pytest.approx(100.0)
        assert stopper.due_in(clock.now + 99.5) == pytest.approx(0.5)
        assert (stopper.reason, job.state.phase) == (None, "running")
        assert stopper.due_in(clock.now + 100.0) == pytest.approx(0.0, abs=1e-6)
        assert (stopper.reason, job.state.phase, rig.driver.stopped) == ("walltime", "ending", 0)
        assert stopper.due_in(clock.now + 200.0) == IDLE_S
        rig.until_over()
        assert (rig.driver.reports[0].state, rig.driver.reports[0].reason) == ("failed", "walltime")

    def test_the_first_reason_stays(self, rig_of: RigOf, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock(monkeypatch)
        stopper = Stopper(limited(rig_of(), clock.now + 20.0).driver)
        stopper.asked(2)
        clock.now += 19.0
        stopper.asked(15)
        assert stopper.reason == "cancelled"

    def test_a_lost_starter_leaves_jobs_time_to_be_told_and_is_no_stop_of_ours(
        self, rig_of: RigOf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rig = rig_of(silent)
        rig.starter.go_away()
        rig.until(lambda: rig.driver.starter_lost)
        budgets: list[float] = []
        stop = rig.driver.stop
        monkeypatch.setattr(rig.driver, "stop", lambda reason, s: (budgets.append(s), stop(reason, s)))
        stopper = Stopper(rig.driver)
        stopper.due_in(time.monotonic())
        stopper.due_in(time.monotonic())
        assert (budgets, stopper.reason, stopper.spent) == ([LOST_S], None, False)


class TestFirstWords:
    def test_stops_before_the_snapshot_are_kept(self, starter_of: StarterOf) -> None:
        starter = starter_of(silent)
        snapshot = json.loads(SNAPSHOT.read_bytes())
        starter.say({"event": "stop", "signal": 2}, {"event": "stop", "signal": 15})
        starter.say({"event": "snapshot", "snapshot": snapshot})
        found, early = _first_words(starter.link)
        assert found.host == snapshot["host"]
        assert [message["signal"] for message in early] == [2, 15]

    def test_a_starter_that_goes_away_is_the_nodes_fault(self, starter_of: StarterOf) -> None:
        starter = starter_of(silent)
        starter.go_away()
        with pytest.raises(NodeUnusableError, match="went away before the run began: it said 'lost'"):
            _first_words(starter.link)


class TestMakeSure:
    def test_what_the_call_raises_is_raised(self, rig_of: RigOf) -> None:
        def refused() -> None:
            raise CredentialError("may not report")

        with pytest.raises(CredentialError, match="may not report"):
            make_sure(rig_of().driver, refused)

    def test_a_call_that_is_well_ends_it(self, rig_of: RigOf) -> None:
        make_sure(rig_of().driver, lambda: None)

    @pytest.mark.parametrize("how", ["signal", "lost"])
    def test_a_call_that_hangs_is_left_when_the_run_has_to_end(self, rig_of: RigOf, how: str) -> None:
        rig, gate = rig_of(silent), threading.Event()

        def hangs() -> None:
            if how == "lost":
                rig.starter.go_away()
            else:
                rig.starter.say({"event": "stop", "signal": 15})
            gate.wait(PATIENCE_S)
            raise ServerError("too late")

        began = time.monotonic()
        make_sure(rig.driver, hangs)
        gate.set()
        assert time.monotonic() - began < PATIENCE_S / 2


class TestWhoAndWhere:
    def test_nobody_is_asked_for_nobody_is_given(self, run_directory: RunDirectory) -> None:
        assert _user(None, run_directory) is None

    def test_an_unknown_user_is_bad_input(self, run_directory: RunDirectory) -> None:
        with pytest.raises(BadInputError, match="no user 'no-such-user-here' on this host"):
            _user("no-such-user-here", run_directory)

    def test_only_root_can_run_payloads_as_another(
        self, run_directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(BadInputError, match="--payload-user needs root"):
            _user("root", run_directory)

    @pytest.mark.skipif(os.geteuid() != 0, reason="looks a payload's user up as root does: run the tests as root")
    def test_a_user_comes_with_all_its_groups_and_may_pass_to_the_jobs(self, run_directory: RunDirectory) -> None:
        entry = pwd.getpwuid(0)
        assert _user(entry.pw_name, run_directory) == {
            "uid": 0,
            "gid": entry.pw_gid,
            "groups": os.getgrouplist(entry.pw_name, entry.pw_gid),
        }
        assert (run_directory.path / "jobs").stat().st_mode & 0o777 == 0o711

    @pytest.mark.parametrize("missing", ["server", "panda_queue", "credential"])
    def test_fetching_needs_all_three(self, tmp_path: Path, missing: str) -> None:
        given: dict[str, Any] = {
            "server": "http://127.0.0.1:1",
            "panda_queue": "Q",
            "credential": {"kind": "token", "path": "/t"},
        }
        del given[missing]
        worker = JobSpec(command=("/bin/sh",))
        options = RunOptions.model_validate({"run_dir": tmp_path, "worker": worker, **given})
        with pytest.raises(UsageError, match="fetching jobs needs --server, --panda-queue and --credential"):
            _server(options)

    def test_local_specs_have_no_server(self, tmp_path: Path) -> None:
        assert _server(RunOptions(run_dir=tmp_path)) is None
