"""Every value is frozen, refuses what it does not know, and survives JSON."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model.examples import EXAMPLES, FULL_REPORT, OTHERS, PANDA_JOB
from pydantic import ValidationError

from pilotwrap.model.base import Reading, Value
from pilotwrap.model.job import JobFile, JobSpec, Shape
from pilotwrap.model.node import Memory
from pilotwrap.model.outcome import RankOutcome
from pilotwrap.model.reasons import REASONS
from pilotwrap.model.report import JobReport, RunReport

ALL = [*(one for examples in EXAMPLES.values() for one in examples), *OTHERS]
TEXT = st.text(max_size=30)
REPORTS = st.builds(
    JobReport,
    panda_id=st.none() | st.integers(0, 2**63),
    attempt_nr=st.none() | st.integers(0, 99),
    state=st.sampled_from(["finished", "failed", "cancelled"]),
    reason=st.sampled_from(REASONS),
    detail=TEXT,
    exit_code=st.none() | st.integers(-1, 255),
    started_at=st.none() | st.floats(0, 1e10),
)
RANKS = st.builds(
    RankOutcome,
    rank=st.none() | st.integers(0, 9999),
    host=TEXT,
    exit_code=st.none() | st.integers(0, 255),
    signal=st.none() | st.integers(1, 64),
    reason=st.sampled_from(REASONS),
    detail=TEXT,
)


@pytest.mark.parametrize("value", ALL, ids=lambda value: type(value).__name__)
def test_a_value_survives_json_in_one_line_with_the_contract_s_keys(value: Value) -> None:
    text = value.to_json()
    assert type(value).model_validate_json(text) == value
    assert "\n" not in text
    assert "schema_" not in text


@pytest.mark.parametrize("value", ALL, ids=lambda value: type(value).__name__)
def test_a_value_is_frozen_and_refuses_unknown_keys_unless_it_is_read_from_others(value: Value) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(value, next(iter(type(value).model_fields)), None)
    said = {**value.model_dump(by_alias=True), "colour": 1}
    if isinstance(value, Reading):
        assert type(value).model_validate(said) == value
    else:
        with pytest.raises(ValidationError, match="colour"):
            type(value).model_validate(said)


@given(REPORTS, RANKS)
def test_any_report_survives_json(report: JobReport, rank: RankOutcome) -> None:
    assert JobReport.model_validate_json(report.to_json()) == report
    assert RankOutcome.model_validate_json(rank.to_json()) == rank
    run = RunReport(version="0", state="failed", reason=report.reason, jobs=(report,))
    assert RunReport.model_validate_json(run.to_json()) == run


BAD_JOBS = {
    "neither command nor panda": {},
    "both": {"command": ["a"], "panda": {"server": "s", "panda_queue": "q"}},
    "no word": {"command": []},
    "empty program": {"command": [""]},
    "NUL": {"command": ["a", "b\0"]},
    "a line for a shell": {"command": "ls -l"},
    "ranks of one-per-node": {"command": ["a"], "mode": "one-per-node", "ranks_per_node": 2},
    "bindings of fewer ranks": {"command": ["a"], "ranks_per_node": 2, "binding": [{"cpus": "0"}]},
    "negative count": {"command": ["a"], "nodes": -1},
    "no time": {"command": ["a"], "walltime_s": 0},
}


@pytest.mark.parametrize("what", BAD_JOBS)
def test_a_job_that_makes_no_sense_is_refused(what: str) -> None:
    with pytest.raises(ValidationError):
        JobSpec.model_validate(BAD_JOBS[what])


@pytest.mark.parametrize("lfn", ["../a", "a/b", ".a", "-a", "", "a" * 256, "a\n", "a b", "a\0"])
def test_a_file_name_that_could_leave_its_folder_or_be_an_option_is_refused(lfn: str) -> None:
    with pytest.raises(ValidationError):
        JobFile(lfn=lfn)


@pytest.mark.parametrize("lfn", ["EVNT.1_01.pool.root.1", "_a", "a-b+c=d:e@f%g,h"])
def test_a_file_name_of_panda_s_is_taken(lfn: str) -> None:
    assert JobFile(lfn=lfn).lfn == lfn


def test_a_shape_is_the_job_without_its_source() -> None:
    assert type(PANDA_JOB.shape) is Shape
    assert PANDA_JOB.shape == Shape()
    assert JobSpec(command=("a",), nodes=2, ranks_per_node=3).shape.ranks == 6


@pytest.mark.parametrize(("limit", "usable"), [(None, 100), (50, 50), (200, 100)])
def test_the_tighter_of_memory_and_limit_is_usable(limit: int | None, usable: int) -> None:
    assert Memory(total_mib=100, limit_mib=limit, available_mib=1).usable_mib == usable


def test_a_report_not_told_says_so() -> None:
    assert JobReport(state="finished", reason="ok").told is False
    assert FULL_REPORT.told is True
