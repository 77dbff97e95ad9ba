from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.errors import ServerError
from pilotwrap.model.job import Shape
from pilotwrap.panda.job import InputFile, LogFile, OutputFile, PandaJob, UnrunnableJob, parse_job

from .recorded import JOB


def parsed(**changes: Any) -> PandaJob:  # noqa: ANN401
    job = parse_job({**JOB, **changes})
    assert isinstance(job, PandaJob), job
    return job


def refused(**changes: Any) -> str:  # noqa: ANN401
    job = parse_job({**JOB, **changes})
    assert isinstance(job, UnrunnableJob), job
    assert job.panda_id == 25
    assert job.reason == "bad-input"
    return job.why


def test_the_recorded_job_is_read() -> None:
    job = parsed()
    assert (job.panda_id, job.attempt_nr, job.core_count, job.max_walltime_s) == (25, 1, 1, 3600)
    assert job.parameters == "--hello world"
    assert job.shape is None
    assert job.inputs[0] == InputFile(
        lfn="in1.dat",
        guid="621711ef-4290-460f-9a60-d70d38e9b931",
        size=1024,
        adler32="04000001",
        md5=None,
        scope="test",
        endpoint="TEST_SE",
    )
    assert [file.size for file in job.inputs] == [1024, 2048]


def test_the_log_is_taken_out_of_the_outputs() -> None:
    job = parsed()
    assert job.outputs == (OutputFile(lfn="out.1a650539.dat", scope="panda", endpoint="TEST_SE"),)
    assert job.log == LogFile(
        lfn="log.1a650539.job.log.tgz",
        scope="panda",
        endpoint="LOG_SE",
        guid="64daaf67-7fa2-4cca-9346-3e286bc6c98f",
    )


def test_the_log_need_not_be_the_last_output() -> None:
    job = parsed(outFiles="log.1a650539.job.log.tgz,out.1a650539.dat", ddmEndPointOut="LOG_SE,TEST_SE")
    assert job.outputs[0].endpoint == "TEST_SE"
    assert job.log is not None
    assert job.log.endpoint == "LOG_SE"


def test_a_job_with_only_a_log_and_one_without_any_file() -> None:
    only_log = parsed(outFiles=JOB["logFile"], scopeOut="", ddmEndPointOut="LOG_SE")
    assert only_log.outputs == ()
    nothing = parsed(
        inFiles="", GUID="", checksum="", fsize="", scopeIn="", ddmEndPointIn="",
        outFiles="", scopeOut="", ddmEndPointOut="", logFile="NULL", logGUID="NULL",
    )  # fmt: skip
    assert (nothing.inputs, nothing.outputs, nothing.log) == ((), (), None)


def test_a_queue_without_endpoints_gives_empty_items() -> None:
    job = parsed(ddmEndPointOut=",", ddmEndPointIn=",")
    assert job.outputs[0].endpoint is None
    assert job.inputs[0].endpoint is None


def test_null_is_nothing() -> None:
    job = parsed(
        resource_type="NULL", container_name="NULL", checksum="NULL,NULL", fsize="NULL,", GUID="NULL", coreCount="NULL"
    )
    assert (job.resource_type, job.container_name, job.core_count) == (None, None, 1)
    assert (job.inputs[0].adler32, job.inputs[0].size, job.inputs[0].guid) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "adler32", "md5"),
    [
        ("ad:4000001", "04000001", None),
        ("ad:DEADBEEF", "deadbeef", None),
        ("md:" + "A" * 32, None, "a" * 32),
        ("md5:" + "0" * 32, None, "0" * 32),
        ("0" * 32, None, "0" * 32),
    ],
)
def test_checksums_of_both_kinds_are_read(text: str, adler32: str | None, md5: str | None) -> None:
    first = parsed(checksum=f"{text},").inputs[0]
    assert (first.adler32, first.md5) == (adler32, md5)


def test_a_size_of_nothing_counts_only_with_its_checksum() -> None:
    assert parsed(fsize="0,0", checksum="ad:00000001,").inputs[0].size == 0
    assert parsed(fsize="0,0", checksum="ad:00000001,").inputs[1].size is None


def test_the_same_input_twice_is_one_file() -> None:
    twice = parsed(inFiles="a,a", GUID="g,g", fsize="1,1", checksum="ad:1,ad:1")
    assert [file.lfn for file in twice.inputs] == ["a"]
    assert "twice" in refused(inFiles="a,a")


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/etc/passwd", "-rf", ".hidden", "..", "nul\0", "a b", "", "x" * 256, "a\nb", "$(id)", "é"]
)
@pytest.mark.parametrize("key", ["inFiles", "outFiles", "logFile"])
def test_a_file_name_that_leads_elsewhere_is_refused(key: str, name: str) -> None:
    other = "" if key == "logFile" else "," + JOB[key].split(",")[1]
    if name or other:  # an empty logFile is no name but no log
        assert refused(**{key: name + other})


@pytest.mark.parametrize("scope", ["..", "a/b", ".hidden", "-x"])
def test_a_scope_that_leads_elsewhere_is_refused(scope: str) -> None:
    assert "scope" in refused(scopeIn=f"{scope},test")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"GUID": "one"}, "GUID has 1 items: 2 files"),
        ({"fsize": "1,2,3"}, "fsize has 3 items"),
        ({"scopeOut": "a,b"}, "scopeOut has 2 items"),
        ({"ddmEndPointOut": "X"}, "ddmEndPointOut has 1 items"),
        ({"fsize": "-1,2"}, "no number of bytes"),
        ({"fsize": "many,2"}, "no number of bytes"),
        ({"checksum": "sha:1,ad:2"}, "neither adler32 nor md5"),
        ({"inFiles": ["a", "b"]}, "inFiles is list"),
        ({"transformation": {"x": 1}}, "transformation is dict"),
        ({"transformation": ""}, "no transformation"),
        ({"transformation": "http://x/\0"}, "control character"),
        ({"jobPars": "a\0b"}, "jobPars holds a control character"),
        ({"attemptNr": None}, "no attemptNr"),
        ({"attemptNr": -1}, "attemptNr is -1"),
        ({"coreCount": "many"}, "coreCount is 'many'"),
        ({"coreCount": True}, "coreCount is True"),
        ({"maxWalltime": 1.5}, "maxWalltime is 1.5"),
        ({"maxWalltime": float("nan")}, "maxWalltime is nan"),
        ({"eventService": "True"}, "event service"),
        ({"isHPO": "True"}, "hyper-parameter"),
        ({"preprocess": "x"}, "several steps"),
        ({"outFiles": "in1.dat," + JOB["logFile"]}, "in1.dat twice"),
        ({"outFiles": "a,a"}, "a twice"),
    ],
)
def test_what_cannot_be_run_says_why(changes: dict[str, Any], text: str) -> None:
    assert text in refused(**changes)


@pytest.mark.parametrize("panda_id", [None, 0, -1, True, 1.5, "x", "", [], 2**63, "9" * 30, "²"])
def test_a_job_without_an_id_is_the_servers_fault(panda_id: object) -> None:
    with pytest.raises(ServerError, match="without a usable PandaID"):
        parse_job({**JOB, "PandaID": panda_id})


def test_an_id_as_text_is_an_id() -> None:
    assert parsed(PandaID="25").panda_id == 25


class TestShape:
    def test_it_leads_the_parameters_and_leaves_the_rest_as_it_was(self) -> None:
        rest = "echo 'two  blanks' \"$HOME\" # no comment\n next"
        job = parsed(jobPars=f'--pilotwrap \'{{"mode":"mpi","nodes":2,"ranks_per_node":4}}\' {rest}')
        assert job.shape == Shape(mode="mpi", nodes=2, ranks_per_node=4)
        assert job.parameters == rest

    def test_it_may_be_alone(self) -> None:
        assert parsed(jobPars="--pilotwrap '{}'").shape == Shape()
        assert parsed(jobPars="--pilotwrap '{}'").parameters == ""

    @pytest.mark.parametrize("text", ["run --pilotwrap '{}'", "--pilotwrapper x", "", "--hello", "  x  'y"])
    def test_other_parameters_are_left_alone(self, text: str) -> None:
        job = parsed(jobPars=text)
        assert job.shape is None
        assert job.parameters == text

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("--pilotwrap", "the shape"),
            ("--pilotwrap x", "the shape"),
            ("--pilotwrap '{", "No closing quotation"),
            ("--pilotwrap '{\"nodes\":0}'", "nodes"),
            ("--pilotwrap '{\"nodes\":-2}'", "nodes"),
            ("--pilotwrap '{\"unknown\":1}'", "unknown"),
            ("--pilotwrap '[]'", "the shape"),
            ('--pilotwrap \'{"mode":"one-per-node","ranks_per_node":2}\'', "ranks_per_node 1"),
        ],
    )
    def test_a_bad_one_is_refused(self, text: str, why: str) -> None:
        assert why in refused(jobPars=text)

    @given(
        st.integers(1, 99),
        st.text(alphabet=st.characters(categories=["L", "N", "P", "S"]), max_size=20),
        st.text(alphabet="ab '\"\\$#\n\t;&|", max_size=20),
    )
    def test_any_shape_comes_back_and_so_does_the_rest(self, nodes: int, image: str, rest: str) -> None:
        import shlex

        shape = Shape(nodes=nodes, image=image)
        job = parsed(jobPars=f"--pilotwrap {shlex.quote(shape.to_json())} {rest}")
        assert job.shape == shape
        assert job.parameters == rest.lstrip()


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["", "NULL", ",", "a,b", "a,a", "../x,y", "ad:1,ad:2", "1,2", "--pilotwrap '{}' x"])
    | st.lists(st.text(max_size=3), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)


@given(st.dictionaries(st.sampled_from(sorted(JOB)), VALUES, max_size=6), st.sets(st.sampled_from(sorted(JOB))))
def test_any_job_is_run_refused_or_the_servers_fault(changes: dict[str, Any], gone: set[str]) -> None:
    data = {key: value for key, value in {**JOB, **changes}.items() if key not in gone}
    try:
        job = parse_job(data)
    except ServerError:
        assert (
            not isinstance(data.get("PandaID"), int)
            or data["PandaID"] <= 0
            or data["PandaID"] >= 2**63
            or (isinstance(data["PandaID"], bool))
        )
        return
    assert json.loads(job.to_json())["panda_id"] == int(data["PandaID"])
    if isinstance(job, PandaJob):
        names = [file.lfn for file in (*job.inputs, *job.outputs)]
        assert len(set(names)) == len(names)
        assert not any("/" in name or name.startswith((".", "-")) for name in names)
    else:
        assert job.why.isprintable()
