from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.outcome import Usage
from pilotwrap.model.reasons import REASONS
from pilotwrap.model.report import FileReport, JobReport, JobState
from pilotwrap.panda.update import ERROR_CODES, LIMITS, Beat, beat_update, cleaned, probe_update, terminal_update, utc

if TYPE_CHECKING:
    from pilotwrap.panda.answers import Json

LOG = FileReport(guid="64daaf67-7fa2-4cca-9346-3e286bc6c98f", size=1234, adler32="0a0b0c0d", url="file:///se/log")
REPORT = JobReport(
    panda_id=25,
    attempt_nr=1,
    state="finished",
    reason="ok",
    exit_code=0,
    node="slot1@node1",
    batch_id="4711",
    core_count=8,
    started_at=1_700_000_000.9,
    ended_at=1_700_000_060.0,
    usage=Usage(wall_s=60, user_s=30.5, system_s=1.6, max_rss_kib=2048),
    files={"out.dat": LOG.model_copy(update={"url": None}), "log.tgz": LOG},
)


def test_a_finished_job_is_told_with_all_its_files() -> None:
    said = terminal_update(REPORT).arguments()
    assert json.loads(str(said.pop("job_output_report"))) == {
        "out.dat": {"guid": LOG.guid, "fsize": 1234, "adler32": "0a0b0c0d"},
        "log.tgz": {"guid": LOG.guid, "fsize": 1234, "adler32": "0a0b0c0d", "surl": "file:///se/log"},
    }
    assert str(said.pop("pilot_id")).startswith("pilotwrap|4711|")
    assert said == {
        "job_id": 25,
        "job_status": "finished",
        "attempt_nr": 1,
        "node": "slot1@node1",
        "trans_exit_code": 0,
        "pilot_error_code": 0,
        "batch_id": "4711",
        "core_count": 8,
        "start_time": "2023-11-14 22:13:20",
        "end_time": "2023-11-14 22:14:20",
        "cpu_consumption_time": 32,
        "cpu_consumption_unit": "s",
        "max_rss": 2048,
    }


def test_a_cancelled_job_is_told_as_the_server_wants_it() -> None:
    report = REPORT.model_copy(update={"state": "cancelled", "reason": "cancelled", "detail": "by its owner"})
    said = terminal_update(report).arguments()
    assert said["job_status"] == "failed"
    assert said["pilot_error_code"] == 1144
    assert said["job_sub_status"] == "cancelled"
    assert said["pilot_error_diag"] == "by its owner"


def test_a_failed_job_keeps_the_payloads_exit_code() -> None:
    report = REPORT.model_copy(update={"state": "failed", "reason": "payload-exit", "exit_code": 3, "files": {}})
    said = terminal_update(report).arguments()
    assert (said["trans_exit_code"], said["pilot_error_code"]) == (3, 1305)
    assert said["job_output_report"] == "{}"
    assert said["pilot_error_diag"] == "payload-exit"


SAID: dict[str, Json] = {
    "pilot_error_code": 1368,
    "pilot_error_diag": "Remote file open timed out",
    "exe_error_code": 2,
    "exe_error_diag": "it said no",
    "trans_exit_code": 3,
    "cpu_consumption_time": 7,
    "cpu_consumption_unit": "s+CPU",
    "cpu_conversion_factor": 1,
    "max_rss": 4096,
    "avg_pss": 100,
    "rate_wbytes": 5,
    "pilot_timing": "0|0|2|0|0|0",
    "pilot_log": "one\ntwo",
    "meta_data": '{"files": {}}',
    "job_metrics": "nGPU=1",
    "mean_core_count": 2,
    "core_count": 2,
    "pilot_id": "log|PR|3.11.5.1",
    "start_time": "2026-11-21 06:07:48",
}
"""What a pilot says of a failed job, as the bridge reads it."""

TAKEN = {
    "job_id": 99,
    "job_status": "running",
    "attempt_nr": 9,
    "batch_id": "another",
    "node": "elsewhere",
    "job_sub_status": "pilot_closed",
    "job_output_report": "{}",
}
"""What a pilot cannot change."""


def test_what_a_pilot_measured_is_told() -> None:
    report = REPORT.model_copy(update={"state": "failed", "reason": "payload-exit", "detail": "it exited with 3"})
    said = terminal_update(report, SAID).arguments()
    assert {name: said[name] for name in SAID} == SAID
    assert type(said["cpu_conversion_factor"]) is float
    assert said["job_sub_status"] == "payload-exit"
    assert said["end_time"] == "2023-11-14 22:14:20"


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_which_attempt_ended_and_how_is_not_the_pilots_to_say(state: JobState) -> None:
    report = REPORT.model_copy(update={"state": state, "reason": "ok" if state == "finished" else "walltime"})
    mine, theirs = terminal_update(report).arguments(), terminal_update(report, TAKEN).arguments()
    assert mine == theirs
    beat = Beat(panda_id=25, attempt_nr=1, state="starting", node="n")
    assert beat_update(beat, TAKEN) == beat_update(beat)


@pytest.mark.parametrize("code", [None, 0])
def test_a_pilot_without_an_error_leaves_the_word_to_us(code: int | None) -> None:
    report = REPORT.model_copy(update={"state": "failed", "reason": "walltime", "detail": "no time was left"})
    said = terminal_update(report, {"pilot_error_code": code, "pilot_error_diag": ""}).arguments()
    assert (said["pilot_error_code"], said["pilot_error_diag"]) == (1213, "no time was left")


def test_a_finished_job_has_no_error_whatever_its_pilot_said() -> None:
    said = terminal_update(REPORT, SAID).arguments()
    assert (said["job_status"], said["pilot_error_code"], said.get("pilot_error_diag")) == ("finished", 0, None)


def test_a_beat_passes_on_what_a_pilot_measured() -> None:
    beat = Beat(panda_id=25, attempt_nr=1, state="running", node="n", core_count=8)
    said = beat_update(beat, {"max_rss": 4096, "core_count": 2, "stdout": "a\nb"}).arguments()
    assert (said["max_rss"], said["core_count"], said["stdout"], said["job_status"]) == (4096, 2, "a\nb", "running")


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_rss": -1},
        {"max_rss": "12"},
        {"n_events": 2**31},
        {"n_events": 1.5},
        {"cpu_conversion_factor": float("nan")},
        {"job_metrics": {"a": 1}},
        {"meta_data": None},
        {"bogus": 1},
    ],
)
def test_one_thing_that_does_not_fit_costs_nothing_else(wrong: dict[str, Json]) -> None:
    said = terminal_update(REPORT, {**wrong, "pilot_timing": "1|2", "pilot_log": "a\0" + "x" * 5000}).arguments()
    assert said["pilot_timing"] == "1|2"
    assert len(str(said["pilot_log"])) == 4000
    assert said.get(next(iter(wrong))) in (None, 2048)
    acceptable({name: value for name, value in said.items() if name != "pilot_log"})


@pytest.mark.parametrize("reason", REASONS)
def test_every_failure_has_an_error_code(reason: str) -> None:
    said = terminal_update(REPORT.model_copy(update={"state": "failed", "reason": reason})).arguments()
    assert int(str(said["pilot_error_code"])) > 1000
    assert said["job_sub_status"] == reason


def test_every_reason_has_its_code() -> None:
    assert set(ERROR_CODES) == set(REASONS)


def test_a_report_for_somebody_else_is_not_for_panda() -> None:
    with pytest.raises(ValueError, match="not for PanDA"):
        terminal_update(REPORT.model_copy(update={"panda_id": None}))


def test_a_beat_says_where_the_job_is() -> None:
    said = beat_update(Beat(panda_id=25, attempt_nr=1, state="starting", node="n1", batch_id="a_1")).arguments()
    assert (said["job_status"], said["batch_id"], said["node"]) == ("starting", "a_1", "n1")
    assert "start_time" not in said
    assert "job_output_report" not in said


def test_one_attempt_has_one_batch_id() -> None:
    beat = Beat(panda_id=25, attempt_nr=1, state="running", batch_id="4711_3" * 40)
    report = REPORT.model_copy(update={"batch_id": "4711_3" * 40})
    assert beat_update(beat).batch_id == terminal_update(report).batch_id


def test_the_probe_names_a_job_that_is_none() -> None:
    assert probe_update().arguments() == {"job_id": -1, "job_status": "running"}


@pytest.mark.parametrize(
    ("text", "field", "kept"),
    [
        ("a\0b\x1bc\nd", "pilot_error_diag", "a b c d"),
        ("lone \ud800 half", "pilot_error_diag", "lone   half"),
        ("x" * 600, "pilot_error_diag", "x" * 500),
        ("é" * 300, "pilot_error_diag", "é" * 250),
        ("a" + "é" * 300, "pilot_error_diag", "a" + "é" * 249),
        ("x" * 2000, "surl", "x" * 2000),
        ("", "node", None),
        (None, "node", None),
    ],
)
def test_texts_are_cleaned_and_cut_to_their_columns(text: str | None, field: str, kept: str | None) -> None:
    assert cleaned(text, field) == kept


@pytest.mark.parametrize("at", [None, -1.0, float("nan"), float("inf"), 1e18])
def test_a_time_that_is_none_is_left_out(at: float | None) -> None:
    assert utc(at) is None


TYPES: dict[str, type] = {
    "job_id": int, "attempt_nr": int, "trans_exit_code": int, "pilot_error_code": int, "core_count": int,
    "cpu_consumption_time": int, "max_rss": int,
}  # fmt: skip
"""All others are text: the server tells an int from a float from a str, both ways."""

FLOATS = st.floats() | st.none()
USAGE = st.builds(Usage, wall_s=st.floats(), user_s=st.floats(), system_s=st.floats(), max_rss_kib=st.integers())
FILES = st.dictionaries(
    st.text(max_size=8),
    st.builds(FileReport, guid=st.text(max_size=8), size=st.integers(), adler32=st.text()),
    max_size=3,
)


def acceptable(said: dict[str, object]) -> None:
    for name, value in said.items():
        assert type(value) is TYPES.get(name, str), name
        if isinstance(value, int):
            assert name in {"job_id", "max_rss"} or -(2**31) <= value < 2**31
            assert -(2**63) <= value < 2**63
        else:
            assert isinstance(value, str)
            assert not any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in value)
            assert len(value.encode()) <= LIMITS.get(name, 10**9)
        if name in {"start_time", "end_time"}:
            assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", str(value))
    assert "\\u0000" not in json.dumps(said)


@given(
    st.sampled_from(get_args(JobState)),
    st.sampled_from(REASONS),
    st.text(max_size=600),
    st.integers() | st.none(),
    st.tuples(st.text(max_size=200), st.text(max_size=200) | st.none()),
    st.tuples(FLOATS, FLOATS),
    USAGE,
    FILES,
)
def test_any_report_becomes_an_update_that_the_server_takes(  # noqa: PLR0913, PLR0917 - one a field
    state: JobState,
    reason: str,
    detail: str,
    exit_code: int | None,
    texts: tuple[str, str | None],
    times: tuple[float | None, float | None],
    usage: Usage,
    files: dict[str, FileReport],
) -> None:
    report = JobReport.model_construct(
        panda_id=1, attempt_nr=1, state=state, reason=reason, detail=detail, exit_code=exit_code, node=texts[0],
        batch_id=texts[1], core_count=exit_code, started_at=times[0], ended_at=times[1], usage=usage, files=files,
    )  # fmt: skip
    said = terminal_update(report).arguments()
    acceptable(dict(said))
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    listed = json.loads(str(said["job_output_report"]))
    assert isinstance(listed, dict)
    assert "\0" not in repr(listed)


@given(st.text(max_size=200), st.text(max_size=200) | st.none(), st.integers() | st.none(), FLOATS, USAGE)
def test_any_beat_becomes_an_update_that_the_server_takes(
    node: str, batch_id: str | None, core_count: int | None, started_at: float | None, usage: Usage
) -> None:
    beat = Beat(
        panda_id=1, attempt_nr=1, state="running", node=node, batch_id=batch_id, core_count=core_count,
        started_at=started_at, usage=usage,
    )  # fmt: skip
    acceptable(dict(beat_update(beat).arguments()))
