from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.put import TRANSFORMATION, panda_job, put_files, put_jobs
from pilotwrap.model.errors import BadInputError
from pilotwrap.model.job import Shape

if TYPE_CHECKING:
    from pathlib import Path

    from pilotwrap.lab.store import Store

IN = {"lfn": "in.dat", "url": "file:/data/in.dat", "size": 5, "adler32": "0a0b0c0d"}


def test_a_plain_command_is_all_that_the_parameters_say() -> None:
    job = panda_job({"command": ["echo", "two words", "$HOME"]}, "spec")
    assert job["transformation"] == TRANSFORMATION
    assert shlex.split(str(job["jobPars"])) == ["echo", "two words", "$HOME"]
    assert (job["coreCount"], job["maxWalltime"], job["outFiles"]) == (1, 0, job["logFile"])


def test_every_key_of_a_shape_can_be_put() -> None:
    shape = {**Shape(gpu_variable="HIP_VISIBLE_DEVICES", rank_output="per-rank").model_dump(mode="json")}
    said = shlex.split(str(panda_job({"command": ["true"], **shape, "cpus_per_rank": 1}, "spec")["jobPars"]))
    assert Shape.model_validate_json(said[1]).rank_output == "per-rank"


def test_a_shape_of_defaults_is_not_said() -> None:
    spec = {"schema": "pilotwrap.job/1", "command": ["true"], "mode": "copies", "nodes": 1, "environment": []}
    assert panda_job(spec, "spec")["jobPars"] == "true"


def test_another_shape_precedes_the_command() -> None:
    spec = {"command": ["a", "b c"], "mode": "mpi", "nodes": 2, "ranks_per_node": 4, "cpus_per_rank": 2}
    job = panda_job({**spec, "walltime_s": 60, "memory_mib_per_rank": 100}, "spec")
    flag, shape, *command = shlex.split(str(job["jobPars"]))
    assert flag == "--pilotwrap"
    assert command == ["a", "b c"]
    del spec["command"]
    assert json.loads(shape) == {**spec, "walltime_s": 60, "memory_mib_per_rank": 100}
    assert (job["coreCount"], job["resource_type"]) == (8, "MCORE")
    assert (job["maxWalltime"], job["minRamCount"]) == (60, 400)


def test_files_become_parallel_lists_with_the_log_at_the_end() -> None:
    outputs = [{"lfn": "o1"}, {"lfn": "o2", "endpoint": "OTHER"}]
    job = panda_job({"command": ["x"], "inputs": [IN, {"lfn": "b"}], "outputs": outputs}, "spec")
    assert (job["inFiles"], job["fsize"], job["checksum"]) == ("in.dat,b", "5,NULL", "ad:0a0b0c0d,NULL")
    assert job["outFiles"] == f"o1,o2,{job['logFile']}"
    assert (job["ddmEndPointIn"], job["ddmEndPointOut"]) == ("LAB,LAB", "LAB,OTHER,LAB")
    assert job["scopeOut"] == "lab,lab"


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ({"command": []}, "command"),
        ({"command": "true"}, "command"),
        ({"command": ["x"], "bogus": 1}, "bogus"),
        ({"command": ["x"], "nodes": 1, "ranks_per_node": -1}, "ranks_per_node"),
        ({"command": ["x"], "ranks_per_node": True}, "ranks_per_node"),
        ({"command": ["x"], "walltime_s": "60"}, "walltime_s"),
        ({"command": ["x"], "inputs": {}}, "inputs"),
        ({"command": ["x"], "inputs": ["a"]}, "inputs"),
        ({"command": ["x"], "outputs": [{"lfn": "a,b"}]}, "outputs.lfn"),
        ({"command": ["x"], "inputs": [{"lfn": "a", "sha256": "0"}]}, "inputs"),
        ({"command": ["x"], "inputs": [{"lfn": "a", "bogus": "0"}]}, "bogus"),
        ({"transformation": "x", "bogus": 1}, "bogus"),
        ({"transformation": "x", "coreCount": "1"}, "coreCount"),
        ({"transformation": "x", "PandaID": "1"}, "PandaID"),
        ({"panda": {}}, "no job"),
        (3, "no job"),
    ],
)
def test_a_bad_job_is_refused_with_its_file_and_key(tmp_path: Path, spec: Any, key: str) -> None:  # noqa: ANN401
    path = tmp_path / "job.json"
    path.write_text(json.dumps(spec))
    with pytest.raises(BadInputError, match=rf"job\.json.*{key}") as refusal:
        put_files(_never(), [path])
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b""])
def test_a_file_that_is_not_json_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(text)
    with pytest.raises(BadInputError, match=r"job\.json is not JSON"):
        put_files(_never(), [path])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"none\.json cannot be read"):
        put_files(_never(), [tmp_path / "none.json"])


def test_a_file_may_hold_several_jobs_and_one_bad_one_keeps_all_out(store: Store, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps([{"command": ["a"]}, {"transformation": "b", "attemptNr": 3}]))
    bad.write_text(json.dumps([{"command": ["a"]}, {"command": []}]))
    with pytest.raises(BadInputError):
        put_files(store, [good, bad])
    assert listed_jobs(store) == []
    assert put_files(store, [good]) == [{"panda_id": 1, "attempt_nr": 1}, {"panda_id": 2, "attempt_nr": 3}]


def test_a_panda_id_is_kept_and_not_given_twice(store: Store) -> None:
    job = panda_job({"transformation": "x", "PandaID": 40}, "job")
    assert put_jobs(store, [job]) == [{"panda_id": 40, "attempt_nr": 1}]
    with pytest.raises(BadInputError, match="PandaID 40 is taken"):
        put_jobs(store, [panda_job({"transformation": "y"}, "job"), job])
    assert [job["panda_id"] for job in listed_jobs(store)] == [40]


def test_a_panda_job_that_names_its_outputs_only_gets_a_log() -> None:
    job = panda_job({"transformation": "x", "outFiles": "a,b"}, "job")
    assert job["outFiles"] == f"a,b,{job['logFile']}"
    named = panda_job({"transformation": "x", "outFiles": "a,l.tgz", "logFile": "l.tgz"}, "job")
    assert (named["outFiles"], named["scopeOut"], named["ddmEndPointOut"]) == ("a,l.tgz", "lab", "LAB,LAB")


def _never() -> Any:  # noqa: ANN401
    """A store that a refused file never reaches."""
    return None
