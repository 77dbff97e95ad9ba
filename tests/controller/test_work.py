"""Fetching by the real PandaWork, driver, recorder and teller, before a server in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from pilotwrap.model.errors import ServerError
from pilotwrap.model.job import JobSpec
from pilotwrap.panda.client import PandaClient
from pilotwrap.panda.job import parse_jobs
from pilotwrap.panda.spool import fold, read_spool
from pilotwrap.run import work as work_module
from pilotwrap.run.fetcher import Fetcher
from pilotwrap.run.work import EMPTY_ANSWERS, FIRST_PAUSE_S, LAST_PAUSE_S, NO_LIMIT_S, PandaWork, WorkTerms

from .panda import NOTHING, STORED, ScriptedPanda, job_entry, reply, shaped
from .rig import SERVER, Rig, head
from .starter import PATIENCE_S, exited, failed, obedient, patient

if TYPE_CHECKING:
    from pilotwrap.panda.client import Wanted

RigOf = Callable[..., Rig]
WORKER = JobSpec(command=("/bin/sh",))
ONE_CORE = JobSpec(command=("/bin/sh",), cpus_per_rank=1)


def work_of(
    rig: Rig, panda: ScriptedPanda, worker: JobSpec = ONE_CORE, jobs: int | None = None, wait_s: float = 0.0
) -> PandaWork:
    works: list[PandaWork] = []
    fetcher = Fetcher(PandaClient(panda), lambda fetched: rig.driver.post(lambda: works[0].heard(fetched)))
    works.append(PandaWork(rig.driver, fetcher, SERVER, worker, WorkTerms(jobs, wait_s)))
    return works[0]


def until(rig: Rig, work: PandaWork, happened: Callable[[], object]) -> None:
    """Poll and turn as the controller's loop does."""

    def looked() -> object:
        work.poll(time.monotonic())
        return happened()

    rig.until(looked)


def to_the_end(rig: Rig, work: PandaWork) -> None:
    until(rig, work, lambda: work.over and not rig.driver.jobs)


def many(first: int, last: int) -> list[object]:
    return [job_entry(panda_id) for panda_id in range(first, last + 1)]


class TestFetchedJobs:
    def test_a_job_is_recorded_run_told_and_settled(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda([job_entry(7, 3)])
        rig = rig_of(obedient, None, panda)
        work = work_of(rig, panda)
        to_the_end(rig, work)
        assert panda.states(7)[-1] == "finished"
        assert panda.states(7).count("finished") == 1
        assert rig.driver.reports[0].told
        assert rig.starter.orders[0]["argv"][-1] == "true"
        assert rig.driver.recorder is not None
        rig.driver.recorder.close()
        rig.driver.recorder = None
        entry = fold(read_spool(rig.run.path).records)[7, 3]
        assert entry.acquired is not None
        assert entry.terminal is not None
        assert entry.terminal.state == "finished"
        assert entry.accepted

    def test_no_payload_starts_before_its_acquisition_is_on_the_disk(self, rig_of: RigOf) -> None:
        panda, seen = ScriptedPanda([job_entry(7)]), []
        rig = rig_of(obedient, None, panda)

        def looking(order: dict[str, Any]) -> Any:  # noqa: ANN401
            seen.append([record.key for record in read_spool(rig.run.path).records])
            return obedient(order)

        rig.starter.script = looking
        to_the_end(rig, work_of(rig, panda))
        assert seen == [[(7, 1)]]

    def test_no_end_is_told_before_it_is_on_the_disk(self, rig_of: RigOf) -> None:
        panda, seen = ScriptedPanda([job_entry(7)]), []
        rig = rig_of(obedient, None, panda)

        def looking(update: Any) -> Any:  # noqa: ANN401
            entry = fold(read_spool(rig.run.path).records)[7, 1]
            seen.append((update["job_status"], entry.terminal is not None))
            return STORED

        panda.judge = looking
        to_the_end(rig, work_of(rig, panda))
        assert seen[-1] == ("finished", True)
        assert all(not on_disk for status, on_disk in seen if status == "starting")

    def test_a_job_that_cannot_be_recorded_is_told_at_once_and_never_runs(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda([job_entry(7)])
        rig = rig_of(obedient, None, panda)
        (rig.run.path / "spool.jsonl").mkdir()
        work = work_of(rig, panda)
        to_the_end(rig, work)
        assert rig.starter.orders == []
        assert panda.states(7) == ["failed"]
        assert rig.driver.reports[0].reason == "environment"
        assert rig.driver.broken

    def test_a_job_that_the_server_kills_is_ended(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda([job_entry(7)])
        panda.judge = lambda update: (
            {"StatusCode": 0, "command": "tobekilled"} if update["job_status"] == "running" else STORED
        )
        rig = rig_of(patient, None, panda)
        to_the_end(rig, work_of(rig, panda))
        assert [order["do"] for order in rig.starter.orders] == ["spawn", "signal"]
        assert rig.driver.reports[0].reason == "cancelled"
        assert panda.updates[-1]["job_sub_status"] == "cancelled"

    def test_an_unrunnable_job_is_told_though_it_never_runs(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda([job_entry(7, inFiles="../x", fsize="1"), job_entry(8)])
        rig = rig_of(obedient, None, panda)
        to_the_end(rig, work_of(rig, panda, jobs=2))
        assert panda.states(7)[-1] == "failed"
        assert panda.states(8)[-1] == "finished"

    def test_the_same_job_twice_in_one_answer_runs_once(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda([job_entry(7), job_entry(7)])
        rig = rig_of(obedient, None, panda)
        to_the_end(rig, work_of(rig, panda))
        assert rig.starter.spawned() == ["7-1/0"]
        assert panda.states(7).count("finished") == 1


class TestHowMany:
    def test_never_more_is_asked_for_than_fits(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda(many(1, 3))
        rig = rig_of(patient, None, panda)
        work = work_of(rig, panda)
        until(rig, work, lambda: rig.driver.counts() == {"running": 3} and len(panda.asked) == 2)
        assert [asked["n_jobs"] for asked in panda.asked] == [4, 1]

    def test_nothing_is_asked_for_while_nothing_fits(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda(many(1, 4), many(5, 5))
        rig = rig_of(patient, None, panda)
        work = work_of(rig, panda)
        until(rig, work, lambda: rig.driver.counts() == {"running": 4})
        assert work.poll(time.monotonic()) == LAST_PAUSE_S
        assert len(panda.asked) == 1
        rig.starter.say(exited("2-1/0"))
        until(rig, work, lambda: len(panda.asked) == 2)
        assert panda.asked[1]["n_jobs"] == 1

    def test_one_question_at_a_time(self, rig_of: RigOf) -> None:
        rig, asked = rig_of(), Questions()
        work = PandaWork(rig.driver, asked, SERVER, ONE_CORE, WorkTerms(None, 0.0))
        for _ in range(3):
            work.poll(time.monotonic() + 100)
        assert len(asked.all) == 1
        assert not work.over

    def test_the_jobs_limit_counts_over_all_answers(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda(many(1, 2), many(3, 3), many(4, 9))
        rig = rig_of(patient, None, panda)
        work = work_of(rig, panda, jobs=3)
        until(rig, work, lambda: work.over)
        assert [asked["n_jobs"] for asked in panda.asked] == [3, 1]
        assert work.fetched == 3

    def test_jobs_that_are_being_recorded_have_their_cores_already(self, rig_of: RigOf) -> None:
        rig, asked = rig_of(), Questions()
        work = PandaWork(rig.driver, asked, SERVER, ONE_CORE, WorkTerms(None, 0.0))
        recording = rig.take("1-1", rig.around.rules._replace(told_by="panda"), cpus_per_rank=1)
        assert recording.state.phase == "recording"
        work.poll(time.monotonic())
        assert asked.all[0].n_jobs == 3

    def test_a_job_that_waits_for_cores_stops_the_asking(self, rig_of: RigOf) -> None:
        rig, asked = rig_of(patient), Questions()
        rig.take("spec-0", cpus_per_rank=3)
        rig.until(rig.starter.spawned)
        rig.take("spec-1", cpus_per_rank=2)
        work = PandaWork(rig.driver, asked, SERVER, ONE_CORE, WorkTerms(None, 0.0))
        assert work.poll(time.monotonic()) == LAST_PAUSE_S
        assert asked.all == []

    def test_memory_disk_time_and_place_are_always_said(self, rig_of: RigOf) -> None:
        rig, asked = rig_of(), Questions()
        PandaWork(rig.driver, asked, SERVER, ONE_CORE, WorkTerms(None, 0.0)).poll(time.monotonic())
        said = asked.all[0]
        assert (said.memory_mib, said.disk_mib, said.remaining_time_s) == (8000, 0, NO_LIMIT_S)
        assert (said.panda_queue, said.node, said.prod_source_label) == ("TEST_QUEUE", "node1", "managed")

    @pytest.mark.parametrize(("left_s", "said_s"), [(500.9, 500), (0.5, 0), (-10.0, 0)])
    def test_the_remaining_time_is_that_until_the_stop(
        self, rig_of: RigOf, left_s: float, said_s: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rig, asked = rig_of(), Questions()
        now = time.monotonic()
        object.__setattr__(rig.around, "stop_at", now + left_s)
        monkeypatch.setattr(work_module.time, "monotonic", lambda: now)
        PandaWork(rig.driver, asked, SERVER, ONE_CORE, WorkTerms(None, 0.0)).poll(now)
        assert asked.all[0].remaining_time_s == said_s


class Questions(Fetcher):
    """A fetcher that only keeps what it is asked."""

    def __init__(self) -> None:
        self.all: list[Wanted] = []

    def ask(self, wanted: Wanted) -> None:
        self.all.append(wanted)


class TestNoWork:
    def test_a_single_empty_answer_is_not_the_end(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda(NOTHING, [job_entry(7)])
        rig = rig_of(obedient, None, panda)
        work = work_of(rig, panda)
        to_the_end(rig, work)
        assert panda.states(7)[-1] == "finished"
        assert len(panda.asked) >= 2 + EMPTY_ANSWERS

    def test_two_in_a_row_are(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda()
        rig = rig_of(obedient, None, panda)
        work = work_of(rig, panda)
        to_the_end(rig, work)
        assert len(panda.asked) == EMPTY_ANSWERS
        assert (work.fetched, work.error) == (0, None)

    def test_with_wait_s_asking_goes_on_until_it_is_over(self, rig_of: RigOf, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock(monkeypatch)
        asked, answers = Questions(), 0
        work = PandaWork(rig_of().driver, asked, SERVER, ONE_CORE, WorkTerms(None, 10.0))
        while clock.now < 10.0:
            assert not work.over
            wait_s = work.poll(clock.now)
            if asked.all:
                asked.all.clear()
                work.heard(())
                answers += 1
            else:
                clock.now = min(10.0, clock.now + wait_s)
        assert work.over
        assert answers > EMPTY_ANSWERS

    def test_work_that_comes_begins_the_wait_anew(self, rig_of: RigOf, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock(monkeypatch)
        panda = ScriptedPanda()
        rig = rig_of(obedient, None, panda)
        work = PandaWork(rig.driver, Questions(), SERVER, ONE_CORE, WorkTerms(None, 10.0))
        clock.now = 9.0
        work.heard(parse_jobs([job_entry(7)]))
        work.heard(())
        work.heard(())
        clock.now = 18.9
        assert not work.over
        clock.now = 19.0
        assert work.over
        rig.until_over()

    @pytest.mark.parametrize("wait_s", [0.0, 40.0, 4000.0])
    def test_pauses_double_up_to_a_bound_and_are_spread(
        self, rig_of: RigOf, monkeypatch: pytest.MonkeyPatch, wait_s: float
    ) -> None:
        clock = Clock(monkeypatch)
        work = PandaWork(rig_of().driver, Questions(), SERVER, ONE_CORE, WorkTerms(None, wait_s))
        pauses = []
        for _ in range(12):
            work.heard(())
            pauses.append(work._next_at - clock.now)
        longest = min(LAST_PAUSE_S, max(wait_s / 4, FIRST_PAUSE_S))
        for number, pause in enumerate(pauses):
            bound = min(FIRST_PAUSE_S * 2**number, longest)
            assert bound / 2 <= pause <= bound
        assert len(set(pauses)) == len(pauses)

    def test_in_a_pause_nothing_is_asked(self, rig_of: RigOf, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock(monkeypatch)
        asked = Questions()
        work = PandaWork(rig_of().driver, asked, SERVER, ONE_CORE, WorkTerms(None, 100.0))
        work.heard(())
        left = work.poll(clock.now)
        assert 0 < left <= FIRST_PAUSE_S
        assert asked.all == []
        work.poll(clock.now + left)
        assert len(asked.all) == 1


class Clock:
    """PandaWork's time, which passes when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(work_module, "time", self)

    def monotonic(self) -> float:
        return self.now


def _wanted() -> Wanted:
    from pilotwrap.panda.client import Wanted as Question

    return Question(panda_queue="TEST_QUEUE", memory_mib=1, disk_mib=1, remaining_time_s=1)


class TestEnd:
    def test_closed_means_no_further_question_but_what_is_on_its_way_is_taken(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda([job_entry(7)], [job_entry(8)])
        rig = rig_of(obedient, None, panda)
        work = work_of(rig, panda)
        work.poll(time.monotonic())
        work.close()
        assert not work.over
        to_the_end(rig, work)
        assert panda.states(7)[-1] == "finished"
        assert len(panda.asked) == 1

    def test_a_broken_node_takes_no_further_job(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda([job_entry(7)], [job_entry(8)])
        rig = rig_of(lambda order: [failed(order["id"], "ENOMEM", "fork")], head(cores=1), panda)
        work = work_of(rig, panda)
        to_the_end(rig, work)
        assert len(panda.asked) == 1
        assert rig.driver.reports[0].reason == "node-unusable"

    def test_an_error_after_some_jobs_ends_the_asking_and_not_the_jobs(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda([job_entry(7)], reply(message="it is broken", success=False))
        rig = rig_of(patient, None, panda)
        work = work_of(rig, panda)
        until(rig, work, lambda: work.error and rig.driver.counts() == {"running": 1})
        assert work.over
        assert isinstance(work.error, ServerError)
        rig.starter.say(exited("7-1/0"))
        rig.until_over()
        assert rig.driver.reports[0].told

    def test_a_job_that_can_never_fit_stops_no_worker(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda([job_entry(7, coreCount=64, jobPars=shaped(cpus_per_rank=64))], [job_entry(8)])
        rig = rig_of(obedient, None, panda)
        work = work_of(rig, panda, worker=WORKER)
        to_the_end(rig, work)
        assert (panda.states(7)[-1], panda.states(8)[-1]) == ("failed", "finished")
        refused = next(update for update in panda.updates if update.get("pilot_error_diag"))
        assert "ranks of 64 cores; there are 1 nodes of 4 cores" in refused["pilot_error_diag"]

    def test_when_the_run_stops_a_jobs_end_is_told_in_a_short_call(self, rig_of: RigOf) -> None:
        panda = ScriptedPanda(many(1, 3))
        rig = rig_of(patient, None, panda)
        work = work_of(rig, panda)
        until(rig, work, lambda: rig.driver.counts() == {"running": 3})
        work.close()
        began = time.monotonic()
        rig.driver.stop("cancelled", 5.0)
        assert rig.driver.teller is not None
        assert rig.driver.teller.urgent
        rig.until_over()
        assert time.monotonic() - began < PATIENCE_S
        assert [report.told for report in rig.driver.reports] == [True] * 3
        assert {panda.states(panda_id)[-1] for panda_id in (1, 2, 3)} == {"failed"}
