"""A job in a pilot's hands from its acquisition to its end: the real bridge, driver, spool; the pilot is the test."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from controller.panda import STORED, ScriptedPanda
from controller.starter import exited, failed, started
from pilot3.pilotrig import PilotRig, deaf, ends, happened, immortal, last, pilot_rig

from pilotwrap.panda.spool import Record, Spool, TerminalRecord, fold, read_spool
from pilotwrap.run.pilot3 import agent as agent_module
from pilotwrap.run.pilot3 import watch as watch_module
from pilotwrap.run.recorder import Recorder

if TYPE_CHECKING:
    from pilotwrap.run.rundir import RunDirectory

LOGS = Path(__file__).with_name("logs")
LOG = "7.log.tgz"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A log where the pilot says that it is."""
    path = tmp_path / LOG
    path.write_bytes(b"abc")
    return path


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "POLL_S", 0.02)
    monkeypatch.setattr(watch_module, "SETTLED_S", 0.1)


class HeldSpool(Spool):
    """Writes no terminal record before `may_write` is set; `asked` when it is to."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self.may_write, self.asked = threading.Event(), threading.Event()

    def append(self, records: Sequence[Record]) -> None:
        if any(isinstance(record, TerminalRecord) for record in records):
            self.asked.set()
            assert self.may_write.wait(30)
        super().append(records)


def held(panda: ScriptedPanda) -> threading.Event:
    """Have the server answer no final update before the event is set: until then a job is not over."""
    free = threading.Event()

    def wait(updates: list[dict[str, Any]]) -> None:
        if any(update["job_status"] in {"finished", "failed"} for update in updates):
            assert free.wait(30)

    panda.before = wait
    return free


def ages(rig: PilotRig, seconds: float = 31.0) -> None:
    """Let time pass without a sign of life of the pilot, and the agent look twice."""
    rig.agent._watches["7-1"]._alive_at -= seconds
    for _ in range(2):
        before = rig.agent._poll_at
        rig.until(lambda before=before: rig.agent._poll_at > before)  # type: ignore[misc]


class TestFinished:
    def test_a_job_from_its_fetching_to_the_end_of_its_pilot(
        self, rig: PilotRig, panda: ScriptedPanda, stored: Path
    ) -> None:
        job = rig.given()
        pilot = rig.pilot(job)
        assert job.state.phase == "spawning"  # the pilot runs, its payload does not
        entry = rig.answer(pilot.get_job())
        assert (entry["PandaID"], entry["transformation"], entry["logFile"]) == (7, "true", LOG)
        pilot.panda_id = 7
        assert rig.command(pilot.say("starting")) == "NULL"
        assert job.state.phase == "spawning"
        assert rig.command(pilot.say("running")) == "NULL"
        assert job.state.phase == "running"
        assert rig.answer(pilot.get_job())["StatusCode"] == 20
        assert rig.command(pilot.say_finished({LOG: stored})) == "NULL"
        rig.until_over()
        (report,) = rig.driver.reports
        assert (report.state, report.reason, report.exit_code, report.told) == ("finished", "ok", 0, True)
        assert report.files[LOG].url == stored.as_uri()
        assert ends(panda) == ["finished"]
        rig.until(lambda: not rig.driver.leaving)
        assert rig.signals("7-1") == [9]
        assert rig.driver.ledger.idle
        assert rig.events("7-1").count("Exited") == 1
        assert not Path(pilot.order["env"]["PANDA_AUTH_TOKEN"]).exists()

    def test_its_last_word_is_answered_when_it_is_on_the_disk_and_not_before(
        self, rig: PilotRig, run: RunDirectory, stored: Path
    ) -> None:
        assert rig.driver.recorder is not None
        rig.driver.recorder.close()
        spool = HeldSpool(run.path)
        rig.driver.recorder = Recorder(spool)
        job = rig.given()
        pilot = rig.running(job)
        on_disk: list[bool] = []
        said = pilot.say_finished({LOG: stored})
        said.add_done_callback(lambda _: on_disk.append(fold(read_spool(run.path).records)[7, 1].terminal is not None))
        rig.until(spool.asked.is_set)
        for _ in range(20):
            rig.driver.turn(0.02)
        assert (said.done(), job.state.phase, rig.signals("7-1")) == (False, "spooling", [])
        spool.may_write.set()
        assert rig.command(said) == "NULL"
        rig.until(lambda: on_disk)
        assert on_disk == [True]
        rig.until_over()

    def test_its_pilot_is_answered_and_ended_though_the_server_does_not_answer(
        self, rig: PilotRig, panda: ScriptedPanda, stored: Path
    ) -> None:
        """Once it is on our disk the telling is ours: no pilot has to wait for a server."""
        free = held(panda)
        job = rig.given()
        pilot = rig.running(job)
        assert rig.command(pilot.say_finished({LOG: stored})) == "NULL"
        rig.until(lambda: not job.alive)
        assert job.state.phase == "telling"
        free.set()
        rig.until_over()
        assert ends(panda) == ["finished"]

    def test_what_it_measured_is_reported(self, rig: PilotRig, panda: ScriptedPanda, stored: Path) -> None:
        job = rig.given()
        pilot = rig.running(job)
        rig.command(pilot.say("running", cpuConsumptionTime=12, maxRSS=2048, node="somewhere", batchID="x"))
        rig.command(pilot.say_finished({LOG: stored}))
        rig.until_over()
        (report,) = rig.driver.reports
        assert (report.usage.user_s, report.usage.max_rss_kib) == (12.0, 2048)
        assert not {"node", "batch_id", "job_output_report"} & job.said.keys()
        assert (last(panda)["node"], last(panda)["cpu_consumption_time"]) == ("node1", 12)

    def test_an_output_that_is_not_where_it_was_reported_fails_the_job(
        self, rig: PilotRig, panda: ScriptedPanda, tmp_path: Path
    ) -> None:
        pilot = rig.running(rig.given())
        rig.command(pilot.say_finished({LOG: tmp_path / "nowhere"}))
        rig.until_over()
        assert (rig.driver.reports[0].state, rig.driver.reports[0].reason) == ("failed", "stage-out")
        assert ends(panda) == ["failed"]


class TestFailed:
    def test_a_payload_that_fails_is_told_with_the_pilots_own_code(self, rig: PilotRig, panda: ScriptedPanda) -> None:
        pilot = rig.running(rig.given())
        said = pilot.say("failed", pilotErrorCode=1305, pilotErrorDiag="it failed", transExitCode=3)
        assert rig.command(said) == "NULL"
        rig.until_over()
        (report,) = rig.driver.reports
        assert (report.state, report.reason, report.exit_code) == ("failed", "payload-exit", 3)
        assert ends(panda) == ["failed"]
        assert (last(panda)["pilot_error_code"], last(panda)["trans_exit_code"]) == (1305, 3)
        assert LOG in report.files  # the pilot had none: ours

    def test_a_job_may_fail_before_its_payload_ran(self, rig: PilotRig, panda: ScriptedPanda) -> None:
        pilot = rig.pilot(rig.given())
        pilot.panda_id = rig.answer(pilot.get_job())["PandaID"]
        assert rig.command(pilot.say("failed", pilotErrorCode=1099, transExitCode=200)) == "NULL"
        rig.until_over()
        (report,) = rig.driver.reports
        assert (report.reason, report.exit_code, report.started_at) == ("stage-in", None, None)
        assert ends(panda) == ["failed"]

    def test_a_pilot_that_cannot_be_started_is_told(self, run: RunDirectory, panda: ScriptedPanda) -> None:
        with pilot_rig(run, lambda order: [failed(order["id"], "EAGAIN", "fork")], panda) as rig:
            rig.given()
            rig.until_over()
            assert rig.driver.reports[0].reason == "node-unusable"
            assert (ends(panda), rig.driver.ledger.idle) == (["failed"], True)
            assert not (run.path / "pilots" / "7-1").exists()  # its token is of no use any more

    @pytest.mark.parametrize(
        ("asks", "words"), [(False, "without asking for its job"), (True, "took its job and exited with 0 without")]
    )
    def test_a_pilot_that_exits_without_a_word_has_failed_its_job(
        self, run: RunDirectory, panda: ScriptedPanda, words: str, *, asks: bool
    ) -> None:
        with pilot_rig(run, immortal, panda) as rig:
            pilot = rig.pilot(rig.given())
            if asks:
                rig.answer(pilot.get_job())
            rig.starter.say(exited("7-1/0", 0))
            rig.until_over()
            (report,) = rig.driver.reports
            assert (report.state, report.reason) == ("failed", "pilot")
            assert words in report.detail
            assert ends(panda) == ["failed"]
            assert rig.signals("7-1") == []
            assert rig.driver.broken  # the next one would do the same

    def test_why_a_pilot_exited_is_read_from_its_log(self, run: RunDirectory, panda: ScriptedPanda) -> None:
        with pilot_rig(run, immortal, panda) as rig:
            pilot = rig.pilot(rig.given())
            pilot.stdout.write_bytes((LOGS / "badtoken.log").read_bytes())
            rig.agent._poll_at += 60.0
            rig.starter.say(exited("7-1/0", 0))
            rig.until_over()
            assert rig.driver.reports[0].reason == "credential"
            assert rig.driver.outcomes["7-1"].detail == rig.driver.reports[0].detail


class TestEnded:
    def test_a_stop_ends_the_pilot_and_its_last_word_is_told_as_ours(self, rig: PilotRig, panda: ScriptedPanda) -> None:
        pilot = rig.running(rig.given())
        rig.driver.stop("cancelled", 20.0)
        rig.until(lambda: rig.signals("7-1") == [15])
        said = pilot.say("failed", pilotErrorCode=1201, pilotErrorDiag="killed by SIGTERM", transExitCode=254)
        assert rig.command(said) == "NULL"
        rig.until_over()
        (report,) = rig.driver.reports
        assert (report.state, report.reason, report.exit_code) == ("cancelled", "cancelled", None)
        assert ends(panda) == ["failed"]
        assert last(panda)["pilot_error_code"] == 1144  # not the signal that we sent
        assert rig.signals("7-1") == [15, 9]

    def test_a_stopped_pilot_that_says_nothing_is_told_of_all_the_same(
        self, run: RunDirectory, panda: ScriptedPanda
    ) -> None:
        def ends_by_term(order: dict[str, Any]) -> list[dict[str, Any]]:
            return [started(order["id"])] if order["do"] == "spawn" else [exited(order["id"], None, 9)]

        with pilot_rig(run, ends_by_term, panda) as rig:
            rig.running(rig.given())
            rig.driver.stop("walltime", 20.0)
            rig.until_over()
            assert (rig.driver.reports[0].state, rig.driver.reports[0].reason) == ("failed", "walltime")
            assert ends(panda) == ["failed"]

    def test_a_job_that_finished_in_the_moment_of_the_stop_is_told_as_stopped_once(
        self, rig: PilotRig, panda: ScriptedPanda, stored: Path
    ) -> None:
        pilot = rig.running(rig.given())
        rig.driver.stop("cancelled", 20.0)
        assert rig.command(pilot.say_finished({LOG: stored})) == "NULL"
        rig.until_over()
        assert rig.driver.reports[0].state == "cancelled"
        assert len(ends(panda)) == 1

    def test_the_servers_kill_ends_the_pilot(self, rig: PilotRig, panda: ScriptedPanda) -> None:
        panda.judge = lambda update: (
            {**STORED, "command": "tobekilled"} if update["job_status"] == "running" else STORED
        )
        pilot = rig.running(rig.given())
        rig.until(lambda: 15 in rig.signals("7-1"))
        assert rig.command(pilot.say("failed", pilotErrorCode=1201)) == "NULL"
        rig.until_over()
        assert (rig.driver.reports[0].state, rig.driver.reports[0].reason) == ("cancelled", "cancelled")
        assert len(ends(panda)) == 1

    @pytest.mark.usefixtures("hasty")
    def test_a_silent_pilot_is_ended_and_its_late_word_is_not_told(
        self, run: RunDirectory, panda: ScriptedPanda
    ) -> None:
        with pilot_rig(run, immortal, panda, silence_s=30.0) as rig:
            free = held(panda)
            pilot = rig.running(rig.given())
            ages(rig)
            rig.until(lambda: rig.signals("7-1") == [9])
            for state in ("running", "finished", "failed"):
                assert rig.command(pilot.say(state)) == "tobekilled"
            free.set()
            rig.until_over()
            (report,) = rig.driver.reports
            assert (report.state, report.reason) == ("failed", "pilot")
            assert "gave no sign of life" in report.detail
            assert ends(panda) == ["failed"]
            assert "the pilot was ended: it gave no sign of life" in happened(rig)
            assert rig.driver.leaving

    @pytest.mark.usefixtures("hasty")
    def test_a_pilot_that_speaks_or_writes_is_not_silent(self, run: RunDirectory) -> None:
        with pilot_rig(run, deaf, silence_s=30.0) as rig:
            job = rig.given()
            pilot = rig.running(job)
            for _ in range(2):
                ages(rig, 20.0)
                rig.command(pilot.say("running"))
                ages(rig, 20.0)
                with pilot.stdout.open("ab") as log:
                    log.write(b"x")
                ages(rig, 0.0)
            assert rig.signals("7-1") == []
            assert job.state.phase == "running"
            ages(rig, 20.0)
            ages(rig, 10.5)
            rig.until(lambda: rig.signals("7-1") == [9])

    @pytest.mark.usefixtures("hasty")
    def test_a_pilot_that_only_waits_to_tell_of_a_failure_is_told_for(
        self, rig: PilotRig, panda: ScriptedPanda
    ) -> None:
        free = held(panda)
        pilot = rig.running(rig.given())
        pilot.stdout.write_bytes((LOGS / "exit3.log").read_bytes())
        rig.until(lambda: rig.signals("7-1") == [9])
        assert rig.command(pilot.say("failed", pilotErrorCode=1305, transExitCode=3)) == "tobekilled"
        free.set()
        rig.until_over()
        (report,) = rig.driver.reports
        assert (report.state, report.reason, report.exit_code) == ("failed", "payload-exit", 3)
        assert ends(panda) == ["failed"]
        assert "the pilot was ended: it only waited to tell" in happened(rig)

    @pytest.mark.usefixtures("hasty")
    def test_a_pilot_whose_last_word_waits_for_the_disk_is_not_called_silent(
        self, run: RunDirectory, panda: ScriptedPanda, stored: Path
    ) -> None:
        with pilot_rig(run, deaf, panda, silence_s=30.0) as rig:
            assert rig.driver.recorder is not None
            rig.driver.recorder.close()
            spool = HeldSpool(run.path)
            rig.driver.recorder = Recorder(spool)
            job = rig.given()
            pilot = rig.running(job)
            said = pilot.say_finished({LOG: stored})
            rig.until(spool.asked.is_set)
            ages(rig)
            assert rig.signals("7-1") == []
            spool.may_write.set()
            assert rig.command(said) == "NULL"
            rig.until_over()
            assert ends(panda) == ["finished"]

    def test_a_pilot_of_a_lost_starter_is_told_of(self, rig: PilotRig, panda: ScriptedPanda) -> None:
        job = rig.given()
        job.state = job.state._replace(rules=job.state.rules._replace(reap_s=0.05, blink_s=0.05))
        rig.running(job)
        rig.starter.go_away()
        rig.until_over()
        assert rig.driver.reports[0].reason == "node-lost"
        assert ends(panda) == ["failed"]
