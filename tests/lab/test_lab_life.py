"""Laws of a job's life in the lab, whatever is said of it and in whatever order."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pilotwrap.lab.adder import Reported, verdict
from pilotwrap.lab.calls import CALLS, answered
from pilotwrap.lab.daemon import give_up, settle
from pilotwrap.lab.desk import Desk
from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.rules import PILOT_STATES
from pilotwrap.lab.store import Store
from pilotwrap.lab.timeouts import Limits
from pilotwrap.lab.tokens import Caller

from .client import report

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ROBOT = Caller("Lab Robot", "production")
FINAL = {"finished", "failed", "cancelled", "closed"}
LIMITS = Limits(sent_s=100.0, running_s=200.0)
COUNT = 3
IDS = st.integers(1, COUNT)
REPORTS = st.sampled_from(["", "{}", "no", "full"])


class Life(RuleBasedStateMachine):
    """Three jobs, and all that pilots, operators and the clock can do to them."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.path = self.folder / "lab.sqlite"
        for left in self.folder.glob("lab.sqlite*"):
            left.unlink()
        self.store = Store(self.path)
        self.now = 1000.0
        self.given: dict[int, dict[str, Any]] = {}
        self.ended: dict[int, dict[str, Any]] = {}
        self.terminals: dict[int, int] = dict.fromkeys(range(1, COUNT + 1), 0)

    @initialize()
    def put(self) -> None:
        put_jobs(self.store, [panda_job({"transformation": "x", "outFiles": "a"}, "law") for _ in range(COUNT)], "Q")

    def ask(self, name: str, **arguments: Any) -> Any:  # noqa: ANN401
        module, method = name.split("/")
        call = CALLS[module, method]
        return answered(call, Desk(self.store, ROBOT, self.now), call.method, arguments)

    @rule(count=st.integers(1, COUNT))
    def acquire(self, count: int) -> None:
        data = self.ask("pilot/acquire_jobs", site_name="Q", n_jobs=count).data
        for job in data["jobs"] if data else []:
            assert job["PandaID"] not in self.given, "given out twice"
            self.given[job["PandaID"]] = job

    @rule(panda_id=IDS, state=st.sampled_from(PILOT_STATES), attempt_nr=st.sampled_from([None, 1, 1, 2]), said=REPORTS)
    def update(self, panda_id: int, state: str, attempt_nr: int | None, said: str) -> None:
        before = self.jobs()[panda_id]
        job = self.given.get(panda_id)
        files = report(job) if said == "full" and job else said.replace("full", "{}")
        envelope = self.ask(
            "pilot/update_job",
            job_id=panda_id,
            job_status=state,
            attempt_nr=attempt_nr,
            job_output_report=files,
            trans_exit_code=len(before["history"]) + (before["trans_exit_code"] or 0),
        )
        command = envelope.data["command"]
        after = self.jobs()[panda_id]
        if panda_id in self.ended or attempt_nr == 2:
            assert command == "tobekilled"
            assert after == before, "an archived job or another attempt's has changed"
        elif before["reports"]:
            assert after == before, "a job that has reported has changed"
            assert ("alreadydone" in command) is (state in {"finished", "failed"})
        if after["reports"] > before["reports"]:
            self.terminals[panda_id] += 1
            assert state in {"finished", "failed"}
            assert after["state"] == "holding"

    @rule(panda_id=IDS, code=st.sampled_from([None, 9]))
    def kill(self, panda_id: int, code: int | None) -> None:
        (told,) = self.ask("job/kill", job_ids=[panda_id], code=code).data
        assert told is (panda_id not in self.ended)

    @rule(panda_id=IDS, mode=st.booleans())
    def debug(self, panda_id: int, *, mode: bool) -> None:
        self.ask("job/set_debug_mode", job_id=panda_id, mode=mode)

    @rule(seconds=st.floats(0, 350))
    def watch(self, seconds: float) -> None:
        self.now += seconds
        reported = {one for one, job in self.jobs().items() if job["reports"] and one not in self.ended}
        give_up(self.store, LIMITS, self.now)
        assert all(self.jobs()[one]["state"] == "holding" for one in reported), "given up although it has reported"

    @rule()
    def add(self) -> None:
        due = [one for one, job in self.jobs().items() if job["reports"] and one not in self.ended]
        assert settle(self.store, self.now) == len(due)
        assert all(self.jobs()[one]["state"] in FINAL for one in due)

    @rule()
    def restart(self) -> None:
        before = self.jobs()
        self.store.close()
        self.store = Store(self.path)
        assert self.jobs() == before

    def jobs(self) -> dict[int, dict[str, Any]]:
        return {int(str(job["panda_id"])): dict(job) for job in listed_jobs(self.store)}

    @invariant()
    def at_most_one_end(self) -> None:
        for panda_id, job in self.jobs().items():
            history = [entry["state"] for entry in job["history"]]
            ends = [state for state in history if state in FINAL]
            assert len(ends) <= 1
            assert history[-1] == job["state"]
            assert history[0] == "activated"
            assert job["reports"] == self.terminals[panda_id] <= 1
            if ends:
                self.ended.setdefault(panda_id, job)
                assert job == self.ended[panda_id], "an archived job has changed"
            if job["state"] == "finished":
                assert "a" in job["files"]

    def teardown(self) -> None:
        """Show that every job comes to an end: what has a pilot by its report or its silence, the rest by a kill."""
        self.ask("job/kill", job_ids=list(range(1, COUNT + 1)))
        settle(self.store, self.now)
        give_up(self.store, LIMITS, self.now + 1000.0)
        settle(self.store, self.now)
        self.at_most_one_end()
        assert set(self.ended) in ({*range(1, COUNT + 1)}, set())
        assert all(job["state"] in FINAL for job in self.jobs().values())
        self.store.close()


def test_no_order_of_events_breaks_a_jobs_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Life, "folder", tmp_path, raising=False)
    machine = Life.TestCase
    machine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
    machine("runTest").runTest()


NAMES = st.sampled_from(["a", "b", "c", "log", "in", "odd"])
ENTRY = {"guid": "g", "fsize": 1, "adler32": "00000001"}


@given(st.sets(NAMES), st.sets(NAMES), st.sampled_from(["finished", "failed"]))
def test_a_verdict_of_finished_is_exactly_all_of_ours_and_nothing_else(
    outputs: set[str], reported: set[str], state: str
) -> None:
    job = Reported(
        state=state,
        report=json.dumps(dict.fromkeys(sorted(reported), ENTRY)),
        log="log",
        outputs=tuple(sorted(outputs - {"log", "in"})),
        inputs=("in",),
    )
    wanted = (outputs - {"in"}) | {"log"}
    good = state == "finished" and wanted <= reported <= wanted | {"in"}
    found = verdict(job)
    assert (found.state == "finished") is good
    assert found.state in {"finished", "failed"}
    assert set(found.files) == reported
    if state == "failed":
        assert bool(found.ddm_error_code) is ("log" not in reported)
    else:
        assert bool(found.ddm_error_code) is not good


def test_a_reopened_database_knows_every_job(tmp_path: Path) -> None:
    path = tmp_path / "lab.sqlite"
    with closing(Store(path)) as store:
        put_jobs(store, [panda_job({"command": ["true"]}, "x")], "Q")
        before = listed_jobs(store)
    with closing(Store(path)) as store:
        assert listed_jobs(store) == before
        assert put_jobs(store, [panda_job({"command": ["true"]}, "x")], "Q")[0]["panda_id"] == 2
