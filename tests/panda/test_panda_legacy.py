from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.errors import BadInputError
from pilotwrap.panda import legacy
from pilotwrap.panda.legacy import (
    STATES,
    UPDATE_NAMES,
    LegacyCall,
    asked_ids,
    encoded,
    file_report_of,
    job_reply,
    pilot_update,
    read_call,
    status_reply,
)
from pilotwrap.panda.legacytransport import LegacyTransport
from pilotwrap.panda.transport import Replied, Reply, Request
from pilotwrap.panda.update import LIMITS, JobUpdate

RECORDED = Path(__file__).parents[1] / "contract" / "exchanges-0.8.1.jsonl"
"""Recorded on a panda-server 0.8.1; where and how stands in the README beside it."""

EXCHANGES = [
    each
    for each in map(json.loads, RECORDED.read_text().splitlines())
    if each["path"].startswith("/server/panda/") and each["status"] == 200 and each["method"] == "POST"
]
UPDATES = [each for each in EXCHANGES if each["path"].endswith("/updateJob")]
JOBS = [each for each in EXCHANGES if each["path"].endswith("/getJob") and "PandaID=" in str(each["reply"])]
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def call_of(each: dict[str, Any]) -> LegacyCall:
    """Send it as it was sent: pilots' JSON was gzipped, which no header said."""
    said = each["body"] or {}
    is_json = each["headers"].get("Content-Type") == "application/json"
    body = gzip.compress(json.dumps(said).encode()) if is_json else urlencode(said).encode()
    return read_call(each["path"].rpartition("/")[2], each["headers"], body)


def update(**arguments: Any) -> legacy.PilotUpdate:  # noqa: ANN401
    return pilot_update(LegacyCall("updateJob", {"jobId": "34", "state": "running", **arguments}))


def named(each: dict[str, Any]) -> str:
    return f"{each['n']}-{each['scenario'][:30]}"


def test_the_recordings_hold_every_call() -> None:
    assert {each["path"].rpartition("/")[2] for each in EXCHANGES} >= {
        *("getJob", "updateJob", "getStatus", "updateWorkerPilotStatus")
    }
    assert len(UPDATES) > 20
    assert len(JOBS) > 3


@pytest.mark.parametrize("each", UPDATES, ids=named)
def test_a_recorded_update_becomes_one_that_the_current_api_takes(each: dict[str, Any]) -> None:
    found = pilot_update(call_of(each))
    assert (found.panda_id, found.state, found.ignored) == (int(each["body"]["jobId"]), each["body"]["state"], ())
    assert found.attempt_nr == 1
    JobUpdate.model_validate({"job_id": 1, "job_status": "running", **found.arguments}, strict=True)
    sent = {UPDATE_NAMES[name] for name, value in each["body"].items() if name in UPDATE_NAMES and value != ""}
    assert found.arguments.keys() == sent


def test_a_pilots_final_update_keeps_all_that_it_says() -> None:
    each = next(each for each in UPDATES if each["body"]["state"] == "failed" and "pilotTiming" in each["body"])
    said, found = each["body"], pilot_update(call_of(each)).arguments
    assert found["pilot_error_code"] == said["pilotErrorCode"]
    assert found["pilot_timing"] == said["pilotTiming"]
    assert re.fullmatch(r"2026-11-21 0\d:\d\d:\d\d", str(found["start_time"]))
    assert type(found["mean_core_count"]) is int
    assert str(found["pilot_log"]).count("\n") == said["pilotLog"][:4000].count("\n")


@pytest.mark.parametrize("each", JOBS, ids=named)
def test_a_job_is_handed_out_as_the_real_server_does(each: dict[str, Any]) -> None:
    entry = dict(parse_qsl(each["reply"], keep_blank_values=True))
    kind, body = encoded(job_reply(call_of(each), entry), wants_json=False)
    assert (kind, body.decode()) == ("text/plain", each["reply"])


@pytest.mark.parametrize("each", [each for each in EXCHANGES if str(each["reply"]).startswith("{")], ids=named)
def test_the_dialect_of_the_reply_is_the_recorded_one(each: dict[str, Any]) -> None:
    assert call_of(each).wants_json


@pytest.mark.parametrize(
    ("headers", "kind", "body"),
    [
        ({}, "text/plain", b"StatusCode=20"),
        (
            {"Accept": "application/json"},
            "application/json",
            b'{"StatusCode": 20, "errorDialog": "no jobs in PanDA"}',
        ),
    ],
)
def test_no_job_is_said_in_both_dialects(headers: dict[str, str], kind: str, body: bytes) -> None:
    call = read_call("getJob", {**FORM, **headers}, b"siteName=Q")
    assert encoded(job_reply(call, None), wants_json=call.wants_json) == (kind, body)


def test_a_number_of_jobs_is_answered_with_a_list() -> None:
    call = read_call("getJob", FORM, b"siteName=Q&nJobs=1")
    assert job_reply(call, {"PandaID": 5}) == {"StatusCode": 0, "jobs": [{"StatusCode": 0, "PandaID": 5}]}
    assert encoded(job_reply(call, {"PandaID": 5}), wants_json=False)[1].startswith(b"StatusCode=0&jobs=%5B%7B")


def test_states_are_listed_as_the_real_server_does() -> None:
    call = read_call("getStatus", FORM, b"ids=37+99999999+x")
    assert asked_ids(call) == (37, 99999999, None)
    assert encoded(status_reply(asked_ids(call), {37: "holding"}), wants_json=False)[1] == (
        b"StatusCode=0&status=holding%2Bnotfound%2Bnotfound&attemptNr=0%2B0%2B0"
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"jobId": "34", "state": "running"}',
        gzip.compress(b'{"jobId": "34", "state": "running"}', mtime=0),
    ],
)
@pytest.mark.parametrize("encoding", [{}, {"Content-Encoding": "gzip"}])
def test_json_comes_packed_or_not_whatever_the_header_says(body: bytes, encoding: dict[str, str]) -> None:
    assert pilot_update(read_call("updateJob", {**JSON, **encoding}, body)).panda_id == 34


def test_a_get_has_its_arguments_in_the_query() -> None:
    assert pilot_update(read_call("updateJob", {}, b"", "jobId=34&state=running")).panda_id == 34


def test_what_python_prints_for_nothing_is_nothing() -> None:
    found = pilot_update(read_call("updateJob", FORM, b"jobId=34&state=failed&pilotErrorDiag=None&batchID=None"))
    assert found.arguments == {}
    assert found.ignored == ()


@pytest.mark.parametrize(
    ("name", "value", "current"),
    [
        ("startTime", 1795241268.253072, ("start_time", "2026-11-21 06:07:48")),
        ("startTime", "1795241268.253072", ("start_time", "2026-11-21 06:07:48")),
        ("endTime", "2026-11-21 06:07:48", ("end_time", "2026-11-21 06:07:48")),
        ("endTime", "2026-11-21T06:07:48Z", None),
        ("endTime", -1, None),
        ("meanCoreCount", 1.6, ("mean_core_count", 2)),
        ("meanCoreCount", "2.0", ("mean_core_count", 2)),
        ("meanCoreCount", float("nan"), None),
        ("coreCount", True, None),
        ("coreCount", "8", ("core_count", 8)),
        ("transExitCode", "0", ("trans_exit_code", 0)),
        ("exeErrorCode", 2**31, ("exe_error_code", 2**31 - 1)),
        ("exeErrorCode", -(10**400), ("exe_error_code", -(2**31))),
        ("cpuConversionFactor", 1, ("cpu_conversion_factor", 1.0)),
        ("cpuConversionFactor", "1e9", None),
        ("maxRSS", -1, None),
        ("maxRSS", "2.5e6", ("max_rss", 2500000)),
        ("avgPSS", 10.7, ("avg_pss", 10)),
        ("totWBYTES", 2**70, ("tot_wbytes", 2**63 - 1)),
        ("rateRCHAR", "many", None),
        ("schedulerID", "x" * 200, ("scheduler_id", "x" * 128)),
        ("cpuConsumptionUnit", "s+\0" + "x" * 200, ("cpu_consumption_unit", "s+ " + "x" * 125)),
        ("pilotLog", "a\nb\0c\td", ("pilot_log", "a\nb c\td")),
        ("pilotErrorDiag", "a\nb", ("pilot_error_diag", "a b")),
        ("batchID", 4711, ("batch_id", "4711")),
        ("batchID", [1], None),
        ("metaData", {"files": {}}, ("meta_data", '{"files": {}}')),
        ("metaData", "x" * (legacy.MAX_JSON_TEXT + 1), None),
    ],
)
def test_a_value_is_what_the_current_api_takes_or_nothing(
    name: str, value: object, current: tuple[str, object] | None
) -> None:
    found = update(**{name: value})
    assert found.arguments == dict([current] if current else [])
    assert [type(each) for each in found.arguments.values()] == [type(current[1])] * bool(current) if current else True
    assert found.ignored == (() if current else (name,))


def test_unknown_names_are_listed_and_the_known_useless_ones_are_not() -> None:
    found = update(timestamp="now", bogus=1, **{"new\nname": 2}, xml="", metaData=None)
    assert found.ignored == ("bogus", "new name")
    assert found.arguments == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"jobId": "34"}, "updateJob() missing 1 required positional argument: 'state'"),
        ({"state": "running"}, "updateJob() missing 1 required positional argument: 'jobId'"),
        ({"jobId": "0", "state": "running"}, "usable jobId"),
        ({"jobId": "9" * 19, "state": "running"}, "usable jobId"),
        ({"jobId": "NULL", "state": "running"}, "usable jobId"),
        ({"jobId": "34", "state": 7}, "usable jobId"),
    ],
)
def test_an_update_of_nothing_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(words)):
        pilot_update(LegacyCall("updateJob", arguments))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"\0" * (legacy.MAX_BODY_BYTES + 1), mtime=0)
    with pytest.raises(BadInputError, match="unpacks to more than"):
        read_call("updateJob", JSON, bomb)
    with pytest.raises(BadInputError, match="is longer than"):
        read_call("updateJob", JSON, b" " * (legacy.MAX_BODY_BYTES + 1))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, gzip.compress(b'{"jobId": "34"}', mtime=0)[:-9]),
        (JSON, gzip.compress(b"{}", mtime=0) + b"more"),
        (JSON, b"\x1f\x8bnonsense"),
        (JSON, b"[1, 2]"),
        (JSON, b"{" * 100_000),
        (JSON, b'{"a": ' * 100_000),
        (JSON, json.dumps(dict.fromkeys(map(str, range(1001)))).encode()),
        (FORM, b"a=1&" * 1001),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(BadInputError):
        read_call("updateJob", headers, body)


@given(st.sampled_from([JSON, FORM, {}]), st.binary(max_size=300), st.booleans())
def test_any_bytes_end_in_a_value_or_in_our_error(headers: dict[str, str], body: bytes, packed: bool) -> None:  # noqa: FBT001
    try:
        found = pilot_update(read_call("updateJob", headers, gzip.compress(body, mtime=0) if packed else body))
    except BadInputError:
        return
    assert found.panda_id > 0


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["-1", "1e999", "0x10", "\u0661"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([*UPDATE_NAMES, "attemptNr", "bogus"]), VALUES, max_size=8))
def test_any_update_becomes_arguments_that_the_server_takes(said: dict[str, Any]) -> None:
    body = json.dumps({**said, "jobId": 34, "state": "finished"}).encode()
    found = pilot_update(read_call("updateJob", JSON, body))
    JobUpdate.model_validate({"job_id": 1, "job_status": "finished", **found.arguments}, strict=True)
    for name, value in found.arguments.items():
        text = str(value)
        assert not any((ord(letter) < 32 and letter not in "\n\t") or 0xD800 <= ord(letter) < 0xE000 for letter in text)
        assert len(text.encode()) <= LIMITS.get(name, 10**9)
    assert isinstance(file_report_of(found), dict)


PLAIN = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12).filter(lambda t: t != "None")
SENT: dict[str, st.SearchStrategy[Any]] = {
    "pilot_error_code": st.integers(-(2**31), 2**31 - 1),
    "mean_core_count": st.integers(0, 512),
    "max_rss": st.integers(0, 2**63 - 1),
    "rate_wbytes": st.integers(0, 2**63 - 1),
    "cpu_conversion_factor": st.floats(0, 99999),
    "start_time": st.datetimes().map(lambda at: at.strftime("%Y-%m-%d %H:%M:%S").zfill(19)),
    **dict.fromkeys(("pilot_error_diag", "pilot_log", "meta_data", "node", "grid", "job_metrics"), PLAIN),
}


class Heard:
    """The far end of the legacy transport, without a socket."""

    def __init__(self) -> None:
        self.update: legacy.PilotUpdate | None = None

    def send(self, request: Request) -> Reply:
        self.update = pilot_update(read_call(request.path, FORM, request.body))
        return Replied(200, b"StatusCode=0&command=NULL")


@given(st.fixed_dictionaries({}, optional=SENT), st.sampled_from(sorted(STATES)))
def test_what_our_client_says_in_legacy_words_is_read_back_the_same(said: dict[str, Any], state: str) -> None:
    sent = {"job_id": 7, "job_status": state, "attempt_nr": 3, **said}
    far = Heard()
    LegacyTransport(far).send(Request("POST", "pilot/update_job", body=json.dumps(sent).encode()))
    assert far.update == legacy.PilotUpdate(panda_id=7, attempt_nr=3, state=state, arguments=said)


def test_a_file_report_is_read_as_far_as_it_can_be() -> None:
    text = json.dumps(
        {
            "out.dat": {"guid": "G", "fsize": "6", "adler32": "084B021F", "surl": "file:///se/out.dat"},
            "md5.dat": {"guid": "G", "fsize": 6, "md5sum": "0" * 32},
            "no-size.dat": {"guid": "G", "adler32": "1"},
            "text.dat": "nonsense",
        }
    )
    found = file_report_of(update(xml=text))
    assert found["out.dat"].model_dump() == {
        "guid": "G",
        "size": 6,
        "adler32": "084b021f",
        "url": "file:///se/out.dat",
    }
    assert found["md5.dat"].adler32 == ""
    assert found.keys() == {"out.dat", "md5.dat"}


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "[" * 100_000, "{}"])
def test_no_file_report_is_no_files(text: str) -> None:
    assert file_report_of(update(xml=text)) == {}


def test_the_recorded_file_reports_are_read() -> None:
    reports = [file_report_of(pilot_update(call_of(each))) for each in UPDATES if each["body"].get("xml")]
    assert len(reports) > 3
    assert all(file.size > 0 and len(file.adler32) == 8 and file.guid for report in reports for file in report.values())
