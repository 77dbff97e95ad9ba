"""The run's directory, the mark that it may leave something, and what is read of it after its end."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import BadInputError, SiteEnvironmentError
from pilotwrap.model.reasons import REASONS
from pilotwrap.model.report import JobReport, RunReport
from pilotwrap.panda.client import PandaClient
from pilotwrap.panda.spool import AcceptedRecord, AcquiredRecord, Acquisition, Record, Spool, TerminalRecord, read_spool
from pilotwrap.panda.transport import NotSent
from pilotwrap.run import events as ev
from pilotwrap.run.inquest import MAX_JOBS, REMEDIES, TAIL_LINES, inquest
from pilotwrap.run.journal import Journal
from pilotwrap.run.remains import mark, tell_remains, unmark
from pilotwrap.run.rundir import RunDirectory, make, new_run_id, open_to, shard, write_file
from pilotwrap.run.summary import RunEnd, run_report

from .panda import ScriptedPanda
from .starter import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilotwrap.model.reasons import Reason


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def die(run: RunDirectory) -> RunDirectory:
    """Let go of a run's lock, as the kernel does when its process is gone."""
    os.close(run.lock_fd)
    return run


class TestRunDirectory:
    def test_it_and_all_in_it_are_ours_alone_whatever_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            run = make(tmp_path / "runs", "run-1")
            write_file(run.report, "{}")
            Journal(run.journal).close()
        finally:
            os.umask(before)
        folders = [run.path.parent, run.path, run.path / "jobs", run.path / "plans"]
        assert [mode(folder) for folder in folders] == [0o700] * 4
        assert {mode(path) for path in run.path.iterdir() if path.is_file()} == {0o600}

    def test_it_lies_in_a_shard_by_its_name(self, tmp_path: Path) -> None:
        run = make(tmp_path, "run-1")
        assert run.path == tmp_path.resolve() / shard("run-1") / "run-1"
        assert len(shard("run-1")) == 2

    def test_a_run_that_exists_is_refused(self, tmp_path: Path) -> None:
        make(tmp_path, "run-1")
        with pytest.raises(BadInputError, match="the run run-1 exists already at"):
            make(tmp_path, "run-1")

    @pytest.mark.parametrize("run_id", ["", ".", "..", ".hidden", "a/b", "../x", "a b", "a\n", "ж", "a\0"])
    def test_a_name_that_could_lead_elsewhere_is_refused(self, tmp_path: Path, run_id: str) -> None:
        with pytest.raises(BadInputError, match="run id"):
            make(tmp_path / "runs", run_id)
        assert not (tmp_path / "runs").exists()

    def test_a_parent_that_cannot_be_is_the_environments_fault_and_the_remedy_is_the_callers(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(SiteEnvironmentError, match="Not a directory; bind it") as caught:
            make(tmp_path / "file", "run-1", "bind it")
        assert caught.value.exit_code == 3

    def test_its_lock_is_held_while_it_lives_and_says_who_it_is(self, tmp_path: Path) -> None:
        run = make(tmp_path, "run-1")
        with (run.path / "lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        said = json.loads((run.path / "lock").read_text())
        assert said["host"] == os.uname().nodename
        assert abs(said["start"] - time.time()) < 60

    @given(st.floats(0, 4e9))
    def test_names_sort_by_time_and_are_safe_and_unlike(self, now: float) -> None:
        first, second, later = new_run_id(now), new_run_id(now), new_run_id(now + 1)
        assert first != second
        assert max(first, second)[:15] < later[:15]
        assert first.replace("-", "").isalnum()


class TestWriteFile:
    def test_a_file_is_replaced_whole(self, tmp_path: Path) -> None:
        target = tmp_path / "report.json"
        write_file(target, "x" * 100)
        with target.open() as reader:
            write_file(target, "new")
            assert reader.read() == "x" * 100
        assert target.read_text() == "new"
        assert [path.name for path in tmp_path.iterdir()] == ["report.json"]

    def test_a_failed_write_leaves_the_old_one(self, tmp_path: Path) -> None:
        target = tmp_path / "report.json"
        write_file(target, "old")
        (tmp_path / "report.json.part").mkdir()
        with pytest.raises(SiteEnvironmentError, match=r"report.json cannot be written: .*; free some space"):
            write_file(target, "new")
        assert target.read_text() == "old"

    def test_a_link_in_its_place_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "victim").write_text("mine")
        (tmp_path / "report.json.part").symlink_to(tmp_path / "victim")
        with pytest.raises(SiteEnvironmentError):
            write_file(tmp_path / "report.json", "new")
        assert (tmp_path / "victim").read_text() == "mine"


class TestOpenTo:
    def test_others_may_pass_and_not_list(self, tmp_path: Path) -> None:
        run = make(tmp_path / "runs", "run-1")
        open_to(run, os.geteuid(), [os.getegid()])
        assert mode(run.path) == mode(run.path / "jobs") == mode(run.path.parent) == 0o711
        assert mode(run.path / "lock") == 0o600

    def test_a_way_that_is_closed_to_the_user_is_named(self, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        run = make(closed, "run-1")
        with pytest.raises(BadInputError, match=r"cannot enter .*its mode is 0700; give a --run-dir"):
            open_to(run, 999_999, [999_999])

    def test_a_group_of_the_users_counts_and_so_does_its_lack_of_rights(self, tmp_path: Path) -> None:
        folder = tmp_path / "group"
        folder.mkdir()
        folder.chmod(0o701)
        run = make(folder, "run-1")
        with pytest.raises(BadInputError, match="its mode is 0701"):
            open_to(run, 999_999, [os.getegid()])


class TestJournal:
    def test_nothing_is_on_the_disk_before_write_and_all_of_it_after(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "journal")
        journal.note("7-1", ev.Acquired(1.0))
        journal.note("8-1", ev.Exited(2.0, "payload-exit", 3, 'said "no"'))
        assert (tmp_path / "journal").read_text() == ""
        journal.write()
        lines = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
        assert [(line["job"], line["event"], line["at"]) for line in lines] == [
            ("7-1", "Acquired", 1.0),
            ("8-1", "Exited", 2.0),
        ]
        assert lines[1]["detail"] == 'said "no"'
        journal.close()

    def test_close_writes_what_is_left(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "journal")
        journal.note("7-1", ev.Tick(1.0))
        journal.close()
        assert '"Tick"' in (tmp_path / "journal").read_text()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
    def test_a_full_disk_loses_lines_and_counts_them(self) -> None:
        # it refuses every write with ENOSPC
        journal = Journal(Path("/dev/full"))
        journal.note("7-1", ev.Tick(1.0))
        journal.note("7-1", ev.Tick(2.0))
        journal.write()
        assert journal.lost == 2
        journal.close()


def acquisition(panda_id: int) -> AcquiredRecord:
    return AcquiredRecord(
        acquisition=Acquisition(
            server="http://127.0.0.1:1",
            panda_queue="TEST_QUEUE",
            credential=Credential(kind="token", path="/nowhere"),
            panda_id=panda_id,
            attempt_nr=1,
            at=1.0,
        )
    )


def terminal(panda_id: int) -> TerminalRecord:
    return TerminalRecord(report=JobReport(panda_id=panda_id, attempt_nr=1, state="finished", reason="ok"))


def accepted(panda_id: int) -> AcceptedRecord:
    return AcceptedRecord(panda_id=panda_id, attempt_nr=1)


def with_spool(run: RunDirectory, records: Sequence[Record]) -> RunDirectory:
    spool = Spool(run.path)
    spool.append(records)
    spool.close()
    return run


class TestRemains:
    def told(self, run: RunDirectory, panda: ScriptedPanda) -> list[str]:
        """Let a run tell what dead ones left; return what is marked after that."""
        thread = tell_remains(run, lambda *_: PandaClient(panda))
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        return self.marked(run)

    @staticmethod
    def marked(run: RunDirectory) -> list[str]:
        return sorted(path.name for path in (run.path.parents[1] / "open").iterdir())

    def test_a_dead_runs_end_is_told_by_the_next_and_its_mark_goes(self, tmp_path: Path) -> None:
        panda = ScriptedPanda()
        dead = with_spool(make(tmp_path, "dead"), [acquisition(7), terminal(7), acquisition(8)])
        mark(dead)
        die(dead)
        run = make(tmp_path, "next")
        mark(run)
        assert self.told(run, panda) == ["next"]
        assert (panda.states(7), panda.states(8)) == (["finished"], ["failed"])
        assert sum(isinstance(record, AcceptedRecord) for record in read_spool(dead.path).records) == 2

    def test_a_run_that_lives_is_not_touched(self, tmp_path: Path) -> None:
        panda = ScriptedPanda()
        living = with_spool(make(tmp_path, "living"), [acquisition(7), terminal(7)])
        mark(living)
        run = make(tmp_path, "next")
        mark(run)
        assert self.told(run, panda) == ["living", "next"]
        assert panda.calls == []

    def test_what_cannot_be_told_keeps_its_mark(self, tmp_path: Path) -> None:
        panda = ScriptedPanda()
        panda.before = lambda _updates: NotSent("no route", lasting=True)
        dead = die(with_spool(make(tmp_path, "dead"), [acquisition(7), terminal(7)]))
        mark(dead)
        assert self.told(make(tmp_path, "next"), panda) == ["dead"]

    def test_a_mark_without_its_run_goes(self, tmp_path: Path) -> None:
        run = make(tmp_path, "next")
        mark(run)
        (tmp_path / "open" / "pruned").touch()
        assert self.told(run, ScriptedPanda()) == ["next"]

    def test_a_run_without_a_mark_is_not_looked_for(self, tmp_path: Path) -> None:
        panda = ScriptedPanda()
        die(with_spool(make(tmp_path, "dead"), [acquisition(7), terminal(7)]))
        run = make(tmp_path, "next")
        mark(run)
        self.told(run, panda)
        assert panda.calls == []

    def test_unmark_takes_ones_own_mark_and_may_be_repeated(self, tmp_path: Path) -> None:
        run, other = make(tmp_path, "run-1"), make(tmp_path, "run-2")
        mark(run)
        mark(run)
        mark(other)
        unmark(run)
        unmark(run)
        assert self.marked(run) == ["run-2"]

    def test_without_any_mark_nothing_happens(self, tmp_path: Path) -> None:
        thread = tell_remains(make(tmp_path, "run-1"), lambda *_: PandaClient(ScriptedPanda()))
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def ended(run: RunDirectory, *jobs: JobReport, told: bool = True) -> RunDirectory:
    reports = [job.model_copy(update={"told": told}) for job in jobs]
    write_file(run.report, run_report(reports, RunEnd(run_dir=str(run.path))).to_json())
    return die(run)


class TestInquest:
    def test_a_finished_run(self, run_directory: RunDirectory) -> None:
        well = JobReport(state="finished", reason="ok")
        found = inquest(ended(run_directory, well, well).path)
        assert (found.state, found.reason, found.sentence) == ("finished", "ok", "all 2 jobs finished")
        assert (found.jobs, found.unreported) == ((), ())

    def test_a_failed_run_shows_the_last_words_of_its_jobs(self, run_directory: RunDirectory) -> None:
        failed = {"state": "failed", "reason": "payload-exit", "detail": "it exited with 3"}
        ill = JobReport.model_validate({"name": "7-1", "panda_id": 7, "attempt_nr": 1, **failed})
        run_directory.job("7-1").mkdir()
        (run_directory.job("7-1") / "stderr").write_bytes(b"".join(b"line %d\n" % n for n in range(50)) + b"\xff\n")
        (run_directory.job("7-1") / "stdout").write_text("not this")
        found = inquest(ended(run_directory, ill, JobReport(state="finished", reason="ok")).path)
        assert found.sentence == "1 of 2 jobs did not finish, for payload-exit: it exited with 3"
        assert found.remedy == REMEDIES["payload-exit"]
        assert len(found.last_words["7-1"]) == TAIL_LINES
        assert found.last_words["7-1"][-2:] == ("line 49", "\ufffd")

    @pytest.mark.parametrize("reason", ["ok", "payload-exit"])
    def test_a_run_that_could_not_tell_blames_the_server_and_not_its_jobs(
        self, run_directory: RunDirectory, reason: Reason
    ) -> None:
        job = JobReport(state="finished" if reason == "ok" else "failed", reason=reason)
        found = inquest(ended(run_directory, job, told=False).path)
        assert found.reason == "server"
        assert found.sentence.startswith("server: 1 of 1 reports could not be told")
        assert str(run_directory.path) in found.sentence

    def test_of_many_failed_jobs_the_first_speak(self, run_directory: RunDirectory) -> None:
        jobs = [JobReport(panda_id=n, attempt_nr=1, state="failed", reason="stage-in") for n in range(1, 30)]
        assert len(inquest(ended(run_directory, *jobs).path).jobs) == MAX_JOBS

    def test_a_run_without_jobs(self, run_directory: RunDirectory) -> None:
        found = inquest(ended(run_directory).path)
        assert (found.state, found.reason) == ("no-work", "no-work")
        assert found.sentence.startswith("no-work: the server had no job")

    def test_a_run_that_goes_on(self, run_directory: RunDirectory) -> None:
        found = inquest(run_directory.path)
        assert (found.state, found.reason, found.remedy) == ("running", "ok", "wait for it")

    def test_asking_does_not_take_the_lock_away(self, run_directory: RunDirectory) -> None:
        inquest(run_directory.path)
        assert inquest(run_directory.path).state == "running"

    def test_a_run_that_died_with_something_untold_names_the_flush(self, run_directory: RunDirectory) -> None:
        with_spool(run_directory, [acquisition(7), acquisition(8), terminal(8), accepted(8)])
        found = inquest(die(run_directory).path)
        assert (found.state, found.reason) == ("died", "node-lost")
        assert found.unreported == ("7.1",)
        assert found.remedy == f"pilotwrap flush {run_directory.path}"

    def test_a_run_that_died_and_told_all_says_so(self, run_directory: RunDirectory) -> None:
        with_spool(run_directory, [acquisition(8), terminal(8), accepted(8)])
        found = inquest(die(run_directory).path)
        assert (found.unreported, found.remedy) == ((), REMEDIES["node-lost"])

    def test_a_torn_journal_and_a_torn_spool_still_tell(self, run_directory: RunDirectory) -> None:
        with_spool(run_directory, [acquisition(7)])
        with (run_directory.path / "spool.jsonl").open("ab") as spool:
            spool.write(b'{"record":"terminal","rep')
        journal = Journal(run_directory.journal)
        for event in (ev.Acquired(1.0), ev.Recorded(2.0), ev.StagedIn(3.0), ev.Started(4.0)):
            journal.note("7-1", event)
        journal.close()
        with run_directory.journal.open("ab") as torn:
            torn.write(b'[1]\n"x"\n\xff\xfe\n{"job":"7-1","event":"Exi')
        found = inquest(die(run_directory).path)
        assert found.unreported == ("7.1",)
        assert found.events == {"7-1": ("Recorded", "StagedIn", "Started")}

    @given(st.binary(max_size=200))
    def test_any_journal_is_survived(self, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
        run = die(make(tmp_path_factory.mktemp("runs"), "run-1"))
        run.journal.write_bytes(data)
        assert inquest(run.path).state == "died"

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}'])
    def test_a_report_that_cannot_be_read_is_an_error_that_names_it(
        self, run_directory: RunDirectory, text: str
    ) -> None:
        run_directory.report.write_text(text)
        with pytest.raises(BadInputError, match=r"report\.json cannot be read"):
            inquest(run_directory.path)

    def test_no_runs_directory_is_an_error_that_says_what_to_give(self, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match="it has no lock file; give PARENT/aa/RUN_ID"):
            inquest(tmp_path)

    def test_every_reason_has_its_remedy_and_no_other(self) -> None:
        assert set(REMEDIES) == set(REASONS)
        assert all(REMEDIES.values())

    def test_a_report_reads_as_it_was_written(self, run_directory: RunDirectory) -> None:
        report = run_report([JobReport(state="failed", reason="walltime")], RunEnd())
        write_file(run_directory.report, report.to_json())
        assert RunReport.model_validate_json(run_directory.report.read_bytes()) == report
