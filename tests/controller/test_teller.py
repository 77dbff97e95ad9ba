"""What is told: the teller's queues, the recorder's one write for many, the fetcher's thread, and what is written."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pilotwrap.model.errors import ServerError
from pilotwrap.model.job import JobSpec
from pilotwrap.model.outcome import Outcome, RankOutcome, Usage
from pilotwrap.model.report import JobReport
from pilotwrap.panda.client import PandaClient, Wanted
from pilotwrap.panda.job import PandaJob, UnrunnableJob, parse_job
from pilotwrap.panda.spool import AcceptedRecord, AcquiredRecord, Spool, TerminalRecord, fold, read_spool
from pilotwrap.panda.transport import MaybeTaken, NotSent, Reply
from pilotwrap.panda.update import JobUpdate
from pilotwrap.plan.ledger import Allotment
from pilotwrap.run import records
from pilotwrap.run.effects import Report, Send
from pilotwrap.run.events import Answered
from pilotwrap.run.fetcher import Fetched, Fetcher
from pilotwrap.run.job import Job
from pilotwrap.run.recorder import Entry, Recorder
from pilotwrap.run.state import State
from pilotwrap.run.teller import CALL_S, MAX_BATCH, URGENT_CALL_S, Teller, Word

from .panda import STORED, ScriptedPanda, job_entry, reply
from .rig import SERVER, panda_surroundings
from .starter import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pilotwrap.run.events import To
    from pilotwrap.run.rundir import RunDirectory

WANTED = Wanted(panda_queue="TEST_QUEUE", memory_mib=1, disk_mib=1, remaining_time_s=1)


class Ears:
    """Keeps what is heard, and lets a test wait for it."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._more = threading.Condition()

    def __call__(self, *said: Any) -> None:  # noqa: ANN401
        with self._more:
            self.all.append(said)
            self._more.notify_all()

    def wait(self, count: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: len(self.all) >= count, timeout=PATIENCE_S), self.all


def word(job: int, to: To, number: int = 1) -> Word:
    state = {"starting": "starting", "terminal": "finished"}.get(to, "running")
    return Word(f"{job}-1", to, number, JobUpdate.model_validate({"job_id": job, "job_status": state}))


class TestTeller:
    def test_words_that_come_together_share_a_call_and_each_hears_its_own_answer(self) -> None:
        panda, ears = ScriptedPanda(), Ears()
        panda.judge = lambda update: STORED if update["job_id"] != 2 else {"StatusCode": 0, "command": "tobekilled"}
        Teller(lambda: PandaClient(panda), ears).tell([word(1, "running"), word(2, "running"), word(3, "running")])
        ears.wait(3)
        assert [len(call) for call in panda.calls] == [3]
        assert {name: said.verdict for name, said in ears.all} == {"1-1": "ok", "2-1": "kill", "3-1": "ok"}

    def test_the_newest_word_of_a_job_speaks_for_its_older_ones(self) -> None:
        panda, ears = ScriptedPanda(), Ears()
        teller = Teller(lambda: PandaClient(panda), ears)
        teller.tell([word(1, "starting", 1), word(1, "running", 2), word(1, "heartbeat", 3)])
        ears.wait(3)
        assert panda.states(1) == ["running"]
        assert [(said.to, said.number, said.verdict) for _, said in ears.all] == [
            ("starting", 1, "ok"),
            ("running", 2, "ok"),
            ("heartbeat", 3, "ok"),
        ]

    def test_an_end_drops_what_waits_of_its_job_and_of_no_other(self) -> None:
        panda, ears, gate = ScriptedPanda(), Ears(), threading.Event()
        panda.before = lambda updates: _hold(gate) if updates[0]["job_id"] == 9 else None
        teller = Teller(lambda: PandaClient(panda), ears)
        teller.tell([word(9, "running", 1)])
        panda.wait_for(lambda: panda.calls)
        teller.tell([word(1, "running", 1), word(2, "running", 1)])
        teller.tell([word(1, "terminal", 2)])
        ears.wait(1)
        gate.set()
        ears.wait(3)
        assert panda.states(1) == ["finished"]
        assert panda.states(2) == ["running"]
        assert [(name, said.to) for name, said in ears.all] == [
            ("1-1", "terminal"),
            ("9-1", "running"),
            ("2-1", "running"),
        ]

    def test_many_words_go_in_calls_of_a_bounded_size(self) -> None:
        panda, ears = ScriptedPanda(), Ears()
        teller = Teller(lambda: PandaClient(panda), ears)
        teller.urgent = True
        teller.tell([word(job, "terminal") for job in range(1, 2 * MAX_BATCH + 31)])
        ears.wait(2 * MAX_BATCH + 30)
        assert sorted(len(call) for call in panda.calls) == [30, MAX_BATCH, MAX_BATCH]
        assert sorted(update["job_id"] for update in panda.updates) == list(range(1, 2 * MAX_BATCH + 31))

    def test_a_beat_that_hangs_does_not_hold_up_an_end(self) -> None:
        panda, ears, gate = ScriptedPanda(), Ears(), threading.Event()
        panda.before = lambda updates: _hold(gate) if updates[0]["job_status"] == "running" else None
        teller = Teller(lambda: PandaClient(panda), ears)
        teller.tell([word(1, "running")])
        panda.wait_for(lambda: panda.calls)
        teller.tell([word(2, "terminal")])
        ears.wait(1)
        assert ears.all[0][0] == "2-1"
        gate.set()
        ears.wait(2)

    def test_an_end_that_hangs_does_not_hold_up_those_of_a_stop(self) -> None:
        panda, ears, gate = ScriptedPanda(), Ears(), threading.Event()
        panda.before = lambda updates: _hold(gate) if updates[0]["job_id"] == 1 else None
        teller = Teller(lambda: PandaClient(panda), ears)
        teller.tell([word(1, "terminal")])
        panda.wait_for(lambda: panda.calls)
        teller.urgent = True
        teller.tell([word(2, "terminal")])
        ears.wait(1)
        assert ears.all[0][0] == "2-1"
        gate.set()
        ears.wait(2)

    def test_a_call_is_shorter_when_the_run_is_ending(self) -> None:
        teller = Teller(lambda: PandaClient(ScriptedPanda()), Ears())
        assert teller.call_s == CALL_S
        teller.urgent = True
        assert teller.call_s == URGENT_CALL_S

    @pytest.mark.parametrize(
        ("instead", "verdict"),
        [
            (NotSent("no route", lasting=True), "unreachable"),
            (reply(message="Database error", data={"StatusCode": 30}), "broken"),
            (reply(message="production or pilot role required", success=False), "refused"),
            (reply({"StatusCode": 0, "command": "alreadydone"}), "already"),
        ],
    )
    def test_every_failure_is_an_answer(self, instead: Reply, verdict: str) -> None:
        panda, ears = ScriptedPanda(), Ears()
        panda.before = lambda _updates: instead
        Teller(lambda: PandaClient(panda), ears).tell([word(1, "terminal", 5)])
        ears.wait(1)
        ((name, said),) = ears.all
        assert isinstance(said, Answered)
        assert (name, said.to, said.number, said.verdict) == ("1-1", "terminal", 5, verdict)


def _hold(gate: threading.Event) -> None:
    assert gate.wait(PATIENCE_S)


class TestFetcher:
    def test_jobs_come_by_heard(self) -> None:
        ears = Ears()
        Fetcher(PandaClient(ScriptedPanda([job_entry(5), job_entry(6)])), ears).ask(WANTED)
        ears.wait(1)
        assert [fetched.job.panda_id for fetched in ears.all[0][0]] == [5, 6]

    def test_an_error_comes_by_heard_and_the_next_question_is_asked_all_the_same(self) -> None:
        ears = Ears()
        broken = reply(message="it is broken", success=False)
        fetcher = Fetcher(PandaClient(ScriptedPanda(broken, [job_entry(5)])), ears)
        fetcher.ask(WANTED)
        fetcher.ask(WANTED)
        ears.wait(2)
        first, second = (said[0] for said in ears.all)
        assert isinstance(first, ServerError)
        assert second[0].job.panda_id == 5

    def test_a_question_that_may_have_been_heard_is_not_repeated(self) -> None:
        ears, panda = Ears(), ScriptedPanda()

        class Deaf:
            def __init__(self) -> None:
                self.calls = 0

            def send(self, request: Any) -> Reply:  # noqa: ANN401
                self.calls += 1
                panda.send(request)
                return MaybeTaken("the connection broke")

        deaf = Deaf()
        Fetcher(PandaClient(deaf), ears).ask(WANTED)
        ears.wait(1)
        said: Fetched = ears.all[0][0]
        assert isinstance(said, ServerError)
        assert deaf.calls == 1


class SlowSpool(Spool):
    """A real spool on a disk that hangs until it is let go."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self.gate = threading.Event()
        self.busy = threading.Event()
        self.appends: list[int] = []

    def append(self, records: Sequence[Any]) -> None:
        if records:
            self.appends.append(len(records))
        self.busy.set()
        _hold(self.gate)
        super().append(records)


def terminal(panda_id: int) -> TerminalRecord:
    return TerminalRecord(report=JobReport(panda_id=panda_id, attempt_nr=1, state="finished", reason="ok"))


def accepted(panda_id: int) -> AcceptedRecord:
    return AcceptedRecord(panda_id=panda_id, attempt_nr=1)


class TestRecorder:
    def test_whoever_waits_hears_when_the_record_is_on_the_disk(self, tmp_path: Path) -> None:
        ears, seen = Ears(), []
        recorder = Recorder(Spool(tmp_path))

        def written(refusal: str | None) -> None:
            seen.append([record.key for record in read_spool(tmp_path).records])
            ears(refusal)

        recorder.put(Entry(terminal(1), written))
        ears.wait(1)
        assert (ears.all, seen) == ([(None,)], [[(1, 1)]])
        recorder.close()

    def test_all_that_gather_during_one_write_go_with_the_next(self, tmp_path: Path) -> None:
        ears, spool = Ears(), SlowSpool(tmp_path)
        recorder = Recorder(spool)
        recorder.put(Entry(terminal(1), ears))
        assert spool.busy.wait(PATIENCE_S)
        for panda_id in range(2, 52):
            recorder.put(Entry(terminal(panda_id), ears))
        spool.gate.set()
        ears.wait(51)
        recorder.close()
        assert spool.appends == [1, 50]
        assert [key[0] for key in fold(read_spool(tmp_path).records)] == list(range(1, 52))

    def test_what_nobody_waits_for_goes_with_what_somebody_does(self, tmp_path: Path) -> None:
        ears, spool = Ears(), SlowSpool(tmp_path)
        spool.gate.set()
        recorder = Recorder(spool)
        for panda_id in (1, 2):
            recorder.put(Entry(accepted(panda_id)))
            while not recorder._entries.empty():
                os.sched_yield()
        recorder.put(Entry(terminal(3), ears))
        ears.wait(1)
        recorder.close()
        assert spool.appends == [3]

    def test_close_writes_what_nobody_waits_for(self, tmp_path: Path) -> None:
        recorder = Recorder(Spool(tmp_path))
        recorder.put(Entry(accepted(1)))
        recorder.put(Entry(accepted(2)))
        recorder.close()
        assert [record.key for record in read_spool(tmp_path).records] == [(1, 1), (2, 1)]

    def test_a_refused_write_is_reported_to_all_and_the_next_is_tried(self, tmp_path: Path) -> None:
        ears, spool = Ears(), SlowSpool(tmp_path)
        spool.path.mkdir()
        recorder = Recorder(spool)
        recorder.put(Entry(terminal(1), ears))
        assert spool.busy.wait(PATIENCE_S)
        recorder.put(Entry(terminal(2), ears))
        recorder.put(Entry(terminal(3), ears))
        spool.gate.set()
        ears.wait(3)
        assert all("cannot be written" in refusal for (refusal,) in ears.all)
        spool.path.rmdir()
        recorder.put(Entry(terminal(4), ears))
        ears.wait(4)
        recorder.close()
        assert ears.all[3] == (None,)
        assert [record.key for record in read_spool(tmp_path).records] == [(4, 1)]

    def test_what_was_refused_with_others_is_not_written_later(self, tmp_path: Path) -> None:
        """An acceptance that is lost is told again by `flush`, and the server knows it."""
        ears, spool = Ears(), Spool(tmp_path)
        spool.path.mkdir()
        recorder = Recorder(spool)
        recorder.put(Entry(accepted(1)))
        recorder.put(Entry(terminal(2), ears))
        ears.wait(1)
        recorder.close()
        spool.path.rmdir()
        assert read_spool(tmp_path).records == ()


def panda_job(**more: object) -> PandaJob:
    found = parse_job(job_entry(7, 3, **more))
    assert isinstance(found, PandaJob)
    return found


def job_of(run: RunDirectory, fetched: PandaJob | UnrunnableJob, *hosts: str) -> Job:
    allotment = Allotment(hosts=hosts, cores=("0", "1"), memory_mib=100) if hosts else None
    return Job("7-3", JobSpec(command=("true",)), run.job("7-3"), State(), fetched, allotment)


class TestRecords:
    def test_an_acquisition_holds_all_that_a_stranger_needs_to_tell_its_end(self, run_directory: RunDirectory) -> None:
        around = panda_surroundings(run_directory)
        record = records.acquired(job_of(run_directory, panda_job(), "node1"), around, SERVER, 1000.0)
        assert isinstance(record, AcquiredRecord)
        assert record.acquisition.model_dump(exclude={"credential"}) == {
            "server": SERVER.url,
            "panda_queue": "TEST_QUEUE",
            "ca_path": None,
            "panda_id": 7,
            "attempt_nr": 3,
            "log_lfn": "7.log.tgz",
            "log_guid": "64daaf67-7fa2-4cca-9346-3e286bc6c98f",
            "core_count": 2,
            "node": "node1",
            "batch_id": "1",
            "api": "current",
            "at": 1000.0,
        }
        assert record.acquisition.credential == SERVER.credential

    def test_an_unrunnable_job_is_recorded_without_a_log(self, run_directory: RunDirectory) -> None:
        unrunnable = UnrunnableJob(panda_id=8, attempt_nr=None, why="no attemptNr")
        record = records.acquired(job_of(run_directory, unrunnable), panda_surroundings(run_directory), SERVER, 1000.0)
        assert record.key == (8, None)
        assert (record.acquisition.log_lfn, record.acquisition.core_count) == (None, None)

    @pytest.mark.parametrize(
        ("to", "state"), [("starting", "starting"), ("running", "running"), ("heartbeat", "running")]
    )
    def test_a_word_on_the_way_says_where_the_job_is(self, run_directory: RunDirectory, to: To, state: str) -> None:
        update = records.update_of(
            job_of(run_directory, panda_job(), "node1"), Send(to, 1), panda_surroundings(run_directory)
        )
        assert (update.job_id, update.attempt_nr, update.job_status) == (7, 3, state)
        assert (update.batch_id, update.node, update.core_count) == ("1", "node1", 2)

    def test_the_batch_id_is_the_same_in_every_word(self, run_directory: RunDirectory) -> None:
        job, around = job_of(run_directory, panda_job(), "node1"), panda_surroundings(run_directory)
        sends = [Send("starting", 1), Send("heartbeat", 2), Send("terminal", 3, Report("finished", "ok"))]
        assert {records.update_of(job, send, around).batch_id for send in sends} == {"1"}

    def test_an_end_lists_files_use_and_times_of_the_wall_clock(self, run_directory: RunDirectory) -> None:
        job, around = job_of(run_directory, panda_job(), "node1", "node2"), panda_surroundings(run_directory)
        rank = RankOutcome(rank=0, host="node1", exit_code=0, signal=None, reason="ok")
        used = Usage(wall_s=9, user_s=3, system_s=1, max_rss_kib=77)
        job.outcome = Outcome(reason="ok", exit_code=0, ranks=(rank,), usage=used)
        files = {"out": {"guid": "g", "size": 5, "adler32": "00000001", "url": None}}
        at = time.monotonic()
        report = Report("finished", "ok", 0, "", files, started_at=at - 9, ended_at=at)
        record = records.terminal(job, records.report_of(job, report, around))
        assert record.key == (7, 3)
        assert record.report.usage == used
        assert record.report.files["out"].size == 5
        assert record.report.core_count == 4
        assert record.report.ended_at == pytest.approx(time.time(), abs=30)
        assert record.report.started_at == pytest.approx((record.report.ended_at or 0) - 9)
        update = records.update_of(job, Send("terminal", 1, report), around)
        assert (update.job_status, update.cpu_consumption_time, update.max_rss) == ("finished", 4, 77)
        assert records.accepted(job).key == record.key

    def test_a_payload_that_never_started_has_no_start(self, run_directory: RunDirectory) -> None:
        report = Report("failed", "stage-in", None, "no input")
        told = records.report_of(job_of(run_directory, panda_job()), report, panda_surroundings(run_directory))
        assert (told.started_at, told.ended_at, told.node, told.usage) == (None, None, "", Usage())
