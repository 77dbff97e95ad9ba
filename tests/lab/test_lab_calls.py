from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotwrap.lab.calls import CALLS, answered
from pilotwrap.lab.daemon import give_up, settle
from pilotwrap.lab.desk import Desk
from pilotwrap.lab.envelope import Envelope, PlainFailure
from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.timeouts import Limits
from pilotwrap.lab.tokens import Caller, Grant, caller_of, make_token, write_token

from .client import report

if TYPE_CHECKING:
    from pathlib import Path

    from pilotwrap.lab.store import Store

ROBOT = Caller("Lab Robot", "production")
QUEUE = "Q"
OK: dict[str, Any] = {"StatusCode": 0, "command": "NULL"}

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["running", "Q", "\ud800", 2**70]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["workerID", "job_id"]), inner),
    max_leaves=4,
)


def ask(store: Store, name: str, **arguments: Any) -> Envelope:  # noqa: ANN401
    module, method = name.split("/")
    call = CALLS[module, method]
    return answered(call, Desk(store, ROBOT, time.time()), call.method, arguments)


def given_out(store: Store, count: int = 1, **keys: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    put_jobs(store, [panda_job({"transformation": "x", **keys}, "test") for _ in range(count)], QUEUE)
    data: Any = ask(store, "pilot/acquire_jobs", site_name=QUEUE, n_jobs=count).data
    return list(data["jobs"])


def job(store: Store, panda_id: int) -> dict[str, Any]:
    return next(dict(each) for each in listed_jobs(store) if each["panda_id"] == panda_id)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(sorted(CALLS)))
def test_any_arguments_of_any_call_end_in_an_answer(store: Store, data: st.DataObject, name: tuple[str, str]) -> None:
    call = CALLS[name]
    required = {each.name: VALUES for each in call.arguments if each.required}
    optional = {each.name: VALUES for each in call.arguments if not each.required}
    arguments = data.draw(st.fixed_dictionaries(required, optional=optional))
    try:
        envelope = answered(call, Desk(store, ROBOT, 1.0), call.method, arguments)
    except PlainFailure:
        return
    assert json.loads(envelope.text(as_json=True)).keys() == {"success", "message", "data"}


@pytest.mark.parametrize("value", ["\ud800", 2**70])
def test_what_no_database_holds_is_a_500_and_stores_nothing(store: Store, value: str | int) -> None:
    name, argument = (
        ("harvester/heartbeat", "harvester_id") if isinstance(value, str) else ("job/set_command", "job_id")
    )
    others = {"data": {}} if isinstance(value, str) else {"command": "x"}
    with pytest.raises(PlainFailure) as failure:
        ask(store, name, **{argument: value}, **others)
    assert failure.value.status == 500
    assert store.rows("SELECT * FROM harvesters") == []


@pytest.mark.parametrize("name", sorted(CALLS))
def test_only_is_alive_is_for_anybody(store: Store, name: tuple[str, str]) -> None:
    envelope = answered(CALLS[name], Desk(store, None, 1.0), CALLS[name].method, {})
    assert envelope.success is (name == ("system", "is_alive"))


@pytest.mark.parametrize("name", sorted(name for name, call in CALLS.items() if call.access == "production"))
@pytest.mark.parametrize("role", ["", "pilot"])
def test_a_report_needs_the_production_role(store: Store, name: tuple[str, str], role: str) -> None:
    envelope = answered(CALLS[name], Desk(store, Caller("Ann", role), 1.0), "POST", {})
    assert envelope == Envelope(success=False, message="production or pilot role required")


def test_a_bulk_update_stores_what_comes_before_the_entry_that_breaks_it(store: Store) -> None:
    first, second = (each["PandaID"] for each in given_out(store, 2))
    broken = [{"job_id": first, "job_status": "running"}, {"job_id": second, "job_status": "running", "max_rss": "1"}]
    envelope = ask(store, "pilot/update_jobs_bulk", job_list=broken)
    assert (envelope.success, envelope.data) == (False, [])
    assert (job(store, first)["state"], job(store, second)["state"]) == ("running", "sent")


def test_a_bulk_update_answers_each_entry_in_its_order(store: Store) -> None:
    (one,) = given_out(store)
    entries = [
        {"job_id": one["PandaID"], "job_status": "finished", "job_output_report": report(one)},
        {"job_id": 77, "job_status": "running"},
        {"job_id": one["PandaID"], "job_status": "stagein"},
        {"job_id": one["PandaID"], "job_status": "failed", "meta_data": {"a": 1}},
    ]
    data: Any = ask(store, "pilot/update_jobs_bulk", job_list=entries).data
    commands = [each["data"] for each in data]
    assert commands == [OK, {**OK, "command": "tobekilled"}, {"StatusCode": 50}, {**OK, "command": "alreadydone"}]


@pytest.mark.parametrize("status", ["failed", "finished", "cancelled", "missed"])
def test_a_dead_worker_takes_its_job_with_it(store: Store, status: str) -> None:
    ask(store, "harvester/heartbeat", harvester_id="h", data={"startTime": "x"})
    put_jobs(store, [panda_job({"transformation": "x"}, "test")], QUEUE)
    ask(store, "pilot/acquire_jobs", site_name=QUEUE, harvester_id="h", worker_id=7)
    ask(store, "pilot/update_job", job_id=1, job_status="running")
    worker = {"workerID": 7, "status": status}
    ask(store, "harvester/update_workers", harvester_id="h", workers=[worker])
    assert settle(store) == 0
    ask(store, "harvester/update_workers", harvester_id="h", workers=[{**worker, "syncLevel": 1}])
    assert job(store, 1)["state"] == "running"
    assert settle(store) == 1
    found = job(store, 1)
    assert (found["state"], found["task_buffer_error_code"], found["reports"]) == ("failed", 300, 0)


def test_long_texts_are_cut_or_lose_the_update(store: Store) -> None:
    given_out(store)
    kept = ask(store, "pilot/update_job", job_id=1, job_status="running", pilot_error_diag="x" * 600, batch_id="1" * 90)
    assert kept.data == OK
    assert (len(job(store, 1)["pilot_error_diag"]), len(job(store, 1)["batch_id"])) == (500, 80)
    for name, width in {"cpu_consumption_unit": 128, "pilot_timing": 100, "scheduler_id": 128}.items():
        assert ask(store, "pilot/update_job", job_id=1, job_status="running", **{name: "x" * width}).data == OK
        lost = ask(store, "pilot/update_job", job_id=1, job_status="starting", **{name: "x" * (width + 1)})
        assert (lost.success, lost.message, lost.data) == (True, "Database error", {"StatusCode": 30})


@pytest.mark.parametrize("name", ["trans_exit_code", "pilot_error_code", "exe_error_code"])
def test_an_exit_code_has_32_bits(store: Store, name: str) -> None:
    given_out(store)
    assert ask(store, "pilot/update_job", job_id=1, job_status="running", **{name: 2**31 - 1}).data == OK
    assert ask(store, "pilot/update_job", job_id=1, job_status="running", **{name: 2**31}).data == {"StatusCode": 30}
    assert ask(store, "pilot/update_job", job_id=1, job_status="running", max_rss=2**40).data == OK


def test_every_stored_update_is_a_sign_of_life_and_an_ignored_one_is_not(store: Store) -> None:
    given_out(store)
    call, limits = CALLS["pilot", "update_job"], Limits(running_s=100.0)
    desk = Desk(store, ROBOT, time.time())
    for age_s, state in [(0, "running"), (90, "running"), (180, "transferring"), (270, "running")]:
        answered(call, replace(desk, now=desk.now + age_s), "POST", {"job_id": 1, "job_status": state})
        assert give_up(store, limits, desk.now + age_s) == 0
    assert give_up(store, limits, desk.now + 281) == 1
    assert job(store, 1)["job_dispatcher_error_code"] == 104


def test_a_waiting_job_that_is_killed_is_given_to_nobody(store: Store) -> None:
    put_jobs(store, [panda_job({"transformation": "x"}, "test")], QUEUE)
    assert ask(store, "job/kill", job_ids=[1, 2]).data == [True, False]
    assert ask(store, "pilot/acquire_jobs", site_name=QUEUE).message == "No jobs in PanDA"
    assert job(store, 1)["state"] == "cancelled"


@given(st.text() | st.text().map("Bearer {}".format), st.none() | st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_header_makes_a_stranger_known(store: Store, authorization: str, origin: str | None) -> None:
    try:
        assert caller_of(store, authorization, origin, 1.0) is None
    except PlainFailure:
        return
    assert not authorization.startswith("Bearer ")


def test_a_token_gives_the_role_that_the_origin_asks_for(store: Store) -> None:
    token = make_token(store, Grant("Ann", "atlas", ("production", "pilot")), 0.0)
    roles = {
        origin: caller_of(store, f"Bearer {token}\n", origin, 1.0)
        for origin in ("atlas.production", "atlas:production", "atlas.pilot", "atlas")
    }
    assert [caller.role if caller else None for caller in roles.values()] == ["production", "production", "pilot", ""]
    assert [caller.is_production if caller else None for caller in roles.values()] == [True, True, False, False]


def test_a_token_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "token"
    for token in ("first", "second"):
        write_token(token, path)
        assert path.read_text() == token + "\n"
    assert [each.name for each in path.parent.iterdir()] == ["token"]
