"""Several pilots at once, what they leave, and what is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from controller.rig import head, new_run
from controller.starter import exited, started
from pilot3.pilotrig import FakePilot, PilotRig, ends, happened, immortal, pilot_rig

from pilotwrap.run.pilot3 import agent as agent_module

if TYPE_CHECKING:
    from pathlib import Path

    from controller.panda import ScriptedPanda

    from pilotwrap.run.rundir import RunDirectory


class TestSeveral:
    def test_two_pilots_at_once_have_each_its_own_token_job_and_end(
        self, rig: PilotRig, panda: ScriptedPanda, tmp_path: Path
    ) -> None:
        one, two = rig.given(7), rig.given(8)
        first, second = rig.running(one), rig.running(two)
        assert first.token != second.token
        assert (first.panda_id, second.panda_id) == (7, 8)
        first.panda_id = 8
        assert rig.command(first.say("failed", pilotErrorCode=1305)) == "tobekilled"
        first.panda_id = 7
        assert rig.command(first.say("failed", pilotErrorCode=1305, transExitCode=1)) == "NULL"
        rig.until(lambda: "7-1" not in rig.driver.jobs)
        log = tmp_path / "8.log.tgz"
        log.write_bytes(b"abc")
        assert rig.command(second.say_finished({log.name: log})) == "NULL"
        rig.until_over()
        assert {report.panda_id: report.state for report in rig.driver.reports} == {7: "failed", 8: "finished"}
        assert (ends(panda, 7), ends(panda, 8)) == (["failed"], ["finished"])

    def test_cores_are_lent_until_the_last_process_is_gone(self, run: RunDirectory, panda: ScriptedPanda) -> None:
        with pilot_rig(run, immortal, panda, head(cores=1)) as rig:
            pilot = rig.running(rig.given(7))
            waiting = rig.given(8)
            rig.command(pilot.say("failed", pilotErrorCode=1305, transExitCode=1))
            rig.until(lambda: "7-1" in rig.driver.leaving)
            assert (ends(panda), rig.signals("7-1")) == (["failed"], [9])
            assert (rig.driver.ledger.idle, waiting.allotment) == (False, None)
            rig.starter.say(exited("7-1/0", None, 9))
            rig.until(lambda: waiting.allotment)
            assert rig.driver.leaving == {}
            assert len(rig.driver.reports) == 1

    def test_a_token_of_a_job_that_is_over_opens_nothing(self, rig: PilotRig) -> None:
        pilot = rig.running(rig.given())
        rig.command(pilot.say("failed", pilotErrorCode=1305, transExitCode=1))
        rig.until_over()
        said = pilot.get_job()
        rig.until(said.done)
        assert "403" in str(said.exception())

    def test_the_bridge_ends_with_the_agent(self, run: RunDirectory) -> None:
        with pilot_rig(run) as rig:
            pilot = rig.running(rig.given())
        said = FakePilot(pilot.order)
        assert "refused" in str(said.get_job().exception(30)).lower()
        said.close()


class TestTold:
    def test_whether_it_has_a_namespace_and_why_not_stands_in_the_timeline(self, run: RunDirectory) -> None:
        bare = "the pilot started without a PID namespace of its own"
        cases = (
            ({"pid_namespace": True}, "the pilot started"),
            ({"pid_namespace": False, "why": "EPERM"}, f"{bare}: EPERM"),
        )
        for number, (more, words) in enumerate(cases):
            own = new_run(run.path, f"own-{number}")
            with pilot_rig(own, lambda order, more=more: [{**started(order["id"]), **more}]) as rig:  # type: ignore[misc]
                rig.pilot(rig.given())
                assert happened(rig) == [words]

    def test_only_a_few_pilots_stand_in_the_timeline(self, rig: PilotRig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(agent_module, "MAX_TOLD", 1)
        for panda_id in (7, 8):
            rig.pilot(rig.given(panda_id))
        assert happened(rig) == ["the pilot started without a PID namespace of its own"]

    def test_the_pilot_runs_apart_in_its_own_directory(self, rig: PilotRig) -> None:
        job = rig.given()
        order = rig.pilot(job).order
        assert (order["pid_namespace"], order["session"]) == (True, "child")
        assert order["cwd"] == str(job.directory / "pilot")
        assert order["stdout"] == str(job.directory / "stdout")
