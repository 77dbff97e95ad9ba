"""The legacy calls where no recorded exchange shows them, and what each of the three kinds of server has."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotwrap.lab.api import Api
from pilotwrap.lab.daemon import settle
from pilotwrap.lab.desk import Desk
from pilotwrap.lab.envelope import PlainFailure
from pilotwrap.lab.legacycalls import LEGACY_CALLS, legacy_answered
from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.tokens import Caller

from .client import report

if TYPE_CHECKING:
    from pathlib import Path

    from pilotwrap.lab.store import Store

ROBOT = Caller("Lab Robot", "production")
QUEUE = "Q"
VALUES = (
    st.none()
    | st.integers()
    | st.floats()
    | st.sampled_from(
        ["running", "finished", QUEUE, "", "1", "2e400", "nan", "\ud800", 2**70, "started", ["x"], {"a": 1}]
    )
)


def desk(store: Store, caller: Caller | None = ROBOT) -> Desk:
    return Desk(store, caller, time.time())


def ask(store: Store, method: str, caller: Caller | None = ROBOT, **arguments: object) -> dict[str, Any]:
    text, kind = legacy_answered(method, desk(store, caller), cast("dict[str, Any]", arguments)).encoded(as_json=True)
    assert kind == "application/json", text
    return dict(json.loads(text))


def waiting(store: Store, count: int = 1) -> None:
    put_jobs(store, [panda_job({"command": ["true"]}, "test") for _ in range(count)], QUEUE)


def test_a_job_is_fetched_updated_and_ended_once_by_legacy_calls(store: Store) -> None:
    waiting(store)
    job = ask(store, "getJob", siteName=QUEUE, mem="1000.5", diskSpace="2.0")
    told = {"jobId": str(job["PandaID"]), "attemptNr": "1", "node": "n1"}
    running = {**told, "state": "running", "meanCoreCount": "1.5", "maxRSS": "77", "startTime": "1795241268.2"}
    assert ask(store, "updateJob", **running) == {"StatusCode": 0, "command": "NULL"}
    ended = {**told, "state": "finished", "xml": report(job), "pilotErrorCode": "0", "endTime": "2026-11-21 10:00:00"}
    assert ask(store, "updateJob", **ended)["command"] == "NULL"
    assert ask(store, "updateJob", **ended)["command"] == "alreadydone"
    settle(store)
    (listed,) = listed_jobs(store)
    assert (listed["state"], listed["reports"], listed["max_rss"]) == ("finished", 1, 77)
    fields = json.loads(store.rows("SELECT fields FROM jobs")[0]["fields"])
    assert (fields["mean_core_count"], fields["end_time"]) == (1, "2026-11-21 10:00:00")
    assert "start_time" not in fields
    assert ask(store, "updateJob", **ended)["command"] == "tobekilled"


def test_a_bulk_of_jobs_without_json_is_json_text_in_one_field(store: Store) -> None:
    waiting(store, 3)
    text, kind = legacy_answered("getJob", desk(store), {"siteName": QUEUE, "nJobs": "2"}).encoded(as_json=False)
    assert kind == "text/plain"
    assert [job["PandaID"] for job in json.loads(parse_qs(text)["jobs"][0])] == [1, 2]


def test_a_limit_in_megabytes_that_is_no_whole_number_holds(store: Store) -> None:
    put_jobs(store, [panda_job({"transformation": "t", "minRamCount": 2000}, "test")], QUEUE)
    assert ask(store, "getJob", siteName=QUEUE, mem=1999.9)["StatusCode"] == 20
    assert ask(store, "getJob", siteName=QUEUE, mem=2000.1)["PandaID"] == 1


def test_what_no_column_holds_is_failure_30(store: Store) -> None:
    waiting(store)
    panda_id = ask(store, "getJob", siteName=QUEUE)["PandaID"]
    assert ask(store, "updateJob", jobId=panda_id, state="running", pilotTiming="1" * 101) == {"StatusCode": 30}
    assert ask(store, "updateJob", jobId=panda_id, state="running", transExitCode=str(2**31)) == {"StatusCode": 30}
    assert listed_jobs(store)[0]["state"] == "sent"


@pytest.mark.parametrize("caller", [None, Caller("Some User", "")])
def test_only_the_production_role_may_report(store: Store, caller: Caller | None) -> None:
    assert ask(store, "updateJob", caller, jobId=1, state="running")["StatusCode"] == 60
    worker = {"site": QUEUE, "workerID": 1, "harvesterID": "h", "status": "started"}
    text = legacy_answered("updateWorkerPilotStatus", desk(store, caller), worker).text
    assert text == ("production or pilot role is required" if caller else "failed to retrieve DN")


def test_a_user_fetches_own_jobs_only(store: Store) -> None:
    mine = {"transformation": "t", "prodSourceLabel": "user", "prodUserID": "Ann"}
    put_jobs(store, [panda_job({**mine, "prodUserID": "Bob"}, "test"), panda_job(mine, "test")], QUEUE)
    ann = Caller("Ann", "")
    assert ask(store, "getJob", ann, siteName=QUEUE, prodSourceLabel="user")["PandaID"] == 2
    assert ask(store, "getJob", ann, siteName=QUEUE, prodSourceLabel="user")["StatusCode"] == 20


def test_missing_arguments_are_listed_as_python_lists_them(store: Store) -> None:
    with pytest.raises(PlainFailure, match="missing 2 required positional arguments: 'jobId' and 'state'"):
        ask(store, "updateJob")
    with pytest.raises(PlainFailure, match=r"missing 3 required .*: 'site', 'workerID', and 'status'"):
        ask(store, "updateWorkerPilotStatus", harvesterID="h")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.sampled_from(sorted(LEGACY_CALLS)), st.data())
def test_any_arguments_end_in_a_reply_or_a_plain_failure(store: Store, method: str, data: st.DataObject) -> None:
    call = LEGACY_CALLS[method]
    names = st.sampled_from([*call.demanded, *sorted(call.known), "bogus"])
    arguments: dict[str, Any] = {name: data.draw(VALUES) for name in call.demanded}
    arguments |= data.draw(st.dictionaries(names, VALUES, max_size=3))
    try:
        said = legacy_answered(method, desk(store), arguments).encoded(as_json=data.draw(st.booleans()))[0]
    except PlainFailure as failure:
        said = f"500 {failure.text}" if failure.status == 500 else ""
    assert said


def call(lab: LabProcess, path: str, body: bytes | dict[str, str] | None = None, kind: str = "") -> requests.Response:
    token = lab.address.token_path.read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "Origin": lab.address.origin}
    if kind:
        headers["Content-Type"] = kind
    return requests.post(lab.address.url + path, data=body, headers=headers, timeout=30)


@pytest.mark.parametrize(
    ("api", "legacy", "current"), [("current", 403, 200), ("legacy", 200, 404), ("both", 200, 200)]
)
def test_a_lab_has_the_calls_that_it_was_told_to_have(tmp_path: Path, api: Api, legacy: int, current: int) -> None:
    with LabProcess(tmp_path / "lab.sqlite", (), api) as lab:
        answer = call(lab, "/server/panda/getJob", {"siteName": lab.address.panda_queue})
        assert answer.status_code == legacy
        assert answer.text == ("ERROR : method getJob is forbidden" if legacy == 403 else "StatusCode=20")
        assert call(lab, "/api/v1/pilot/get_job_status").status_code == current
        assert call(lab, "/server/panda/killJobs").status_code == 403


def test_a_json_body_is_read_gzipped_only(tmp_path: Path) -> None:
    with LabProcess(tmp_path / "lab.sqlite", (), "legacy") as lab:
        asked = json.dumps({"siteName": lab.address.panda_queue, "allowOtherCountry": False}).encode()
        bodies = [gzip.compress(asked), asked, gzip.compress(b"[1]")]
        answers = [call(lab, "/server/panda/getJob", body, "application/json") for body in bodies]
        assert [answer.status_code for answer in answers] == [200, 500, 500]
        assert (answers[0].text, "Not a gzipped file" in answers[1].text) == ("StatusCode=20", True)
