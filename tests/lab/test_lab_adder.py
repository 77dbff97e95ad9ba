from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.lab.adder import UNREADABLE, Reported, verdict

ENTRY = {"guid": "g", "fsize": 1, "adler32": "00000001"}
JOB = Reported("finished", "", log="log.tgz", outputs=("a.dat", "b.dat"), inputs=("in.dat",))


def with_files(job: Reported, *lfns: str) -> Reported:
    return replace(job, report=json.dumps(dict.fromkeys(lfns, ENTRY)))


def test_finished_with_all_its_files_is_finished() -> None:
    found = verdict(with_files(JOB, "a.dat", "b.dat", "log.tgz"))
    assert (found.state, found.ddm_error_code) == ("finished", 0)
    assert found.files["a.dat"] == ENTRY


@given(st.sets(st.sampled_from(["a.dat", "b.dat", "log.tgz"]), max_size=2))
def test_finished_without_one_of_its_files_becomes_failed(lfns: set[str]) -> None:
    found = verdict(with_files(JOB, *lfns))
    assert (found.state, found.ddm_error_code) == ("failed", 200)
    assert found.ddm_error_diag.startswith("expected output ")
    assert found.ddm_error_diag.endswith(" is missing in pilot JSON")


@pytest.mark.parametrize("text", ["", "no", "[]", "3", '{"a.dat": 1}', '{"log.tgz": {"guid": "g", "fsize": 1}}'])
def test_a_report_that_cannot_be_read_fails_the_job(text: str) -> None:
    found = verdict(replace(JOB, report=text))
    assert (found.state, found.ddm_error_code, found.ddm_error_diag) == ("failed", 200, UNREADABLE)


@given(st.text())
def test_no_text_of_a_report_breaks_the_adder(text: str) -> None:
    assert verdict(replace(JOB, report=text)).state == "failed"


def test_a_foreign_file_fails_the_job() -> None:
    found = verdict(with_files(JOB, "a.dat", "b.dat", "log.tgz", "extra.dat"))
    assert found.ddm_error_diag == "pilot produced extra.dat inconsistently with jobdef"


def test_an_input_in_the_report_is_not_foreign() -> None:
    assert verdict(with_files(JOB, "a.dat", "b.dat", "log.tgz", "in.dat")).state == "finished"


def test_numbered_and_patterned_outputs_belong_to_the_job() -> None:
    job = replace(JOB, outputs=("a.dat", r"regex|hist\d+\.root"))
    assert verdict(with_files(job, "a.dat", "a.dat._001", "hist7.root", "log.tgz")).state == "finished"


def test_an_output_that_may_be_missing_may_be() -> None:
    assert verdict(with_files(replace(JOB, optional=("b.dat",)), "a.dat", "log.tgz")).state == "finished"


def test_a_failed_job_needs_only_its_log() -> None:
    failed = replace(JOB, state="failed")
    assert verdict(with_files(failed, "log.tgz")).ddm_error_code == 0
    without = verdict(with_files(failed))
    assert (without.state, without.ddm_error_code) == ("failed", 200)


def test_a_killed_job_that_failed_is_cancelled_and_a_closed_one_closed() -> None:
    failed = with_files(replace(JOB, state="failed"), "log.tgz")
    assert verdict(replace(failed, command="tobekilled")).state == "cancelled"
    assert verdict(replace(failed, sub_status="pilot_closed")).state == "closed"


def test_values_are_not_verified() -> None:
    odd = {"guid": "not-a-guid", "fsize": -5, "adler32": "zz"}
    found = verdict(replace(JOB, report=json.dumps(dict.fromkeys(("a.dat", "b.dat", "log.tgz"), odd))))
    assert found.state == "finished"
