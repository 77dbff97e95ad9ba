"""A job's way in and out: its directory, plan, shim file, program, inputs; its outputs and its log."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilotwrap.model.errors import BadInputError, PilotwrapError, SiteEnvironmentError, StageInError
from pilotwrap.model.job import JobSpec
from pilotwrap.model.outcome import Outcome, RankOutcome, Usage
from pilotwrap.model.plan import Plan
from pilotwrap.panda.job import PandaJob, parse_job
from pilotwrap.plan.ledger import ledger_of, lend
from pilotwrap.run.collection import collect
from pilotwrap.run.events import StagedOut, StageOutFailed
from pilotwrap.run.job import OWN_NAMES, USAGE_NAME, Job
from pilotwrap.run.preparation import hand_over, payload_of, prepare, worker_shape
from pilotwrap.run.state import State
from pilotwrap.run.storage import StorageMap

from .panda import job_entry, shaped
from .rig import head, panda_surroundings, surroundings

if TYPE_CHECKING:
    from pilotwrap.run.rundir import RunDirectory
    from pilotwrap.run.surroundings import Surroundings

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user: run the tests as root")


def spec_job(around: Surroundings, **spec: object) -> Job:
    wanted = JobSpec.model_validate({"command": ["true"], **spec})
    _, allotment = lend(ledger_of(around.allocation), wanted)
    assert allotment is not None
    return Job("spec-0", wanted, around.run.job("spec-0"), State(phase="staging-in"), allotment=allotment)


def fetched_job(around: Surroundings, **entry: object) -> Job:
    fetched = parse_job(job_entry(7, 3, **entry))
    assert isinstance(fetched, PandaJob), fetched
    spec = worker_shape(JobSpec(command=("/bin/sh",)), fetched)
    _, allotment = lend(ledger_of(around.allocation), spec)
    return Job("7-3", spec, around.run.job("7-3"), State(phase="staging-in"), fetched, allotment)


def files_of(run: RunDirectory, folder: str) -> list[str]:
    return sorted(path.name for path in (run.path / folder).iterdir())


class TestPlans:
    def test_a_specs_plan_is_written_as_it_is_done(self, run_directory: RunDirectory) -> None:
        around = surroundings(run_directory)
        made = prepare(spec_job(around, ranks_per_node=2), around)
        assert Plan.model_validate_json((run_directory.path / "plans" / "spec-0.json").read_bytes()) == made
        assert files_of(run_directory, "plans") == ["spec-0.json"]
        assert (made.command, made.ranks, made.teller, made.agent.kind) == (("true",), 2, "caller", "none")

    def test_the_plan_takes_the_cores_that_were_lent(self, run_directory: RunDirectory) -> None:
        around = surroundings(run_directory)
        job = spec_job(around, cpus_per_rank=1)
        taken, _ = lend(ledger_of(around.allocation), job.spec)
        _, job.allotment = lend(taken, job.spec)
        made = prepare(job, around)
        assert [binding.cpus for binding in made.bindings] == ["1"]

    def test_a_plain_fetched_process_leaves_no_plan_and_several_ranks_do(self, run_directory: RunDirectory) -> None:
        around = panda_surroundings(run_directory)
        prepare(fetched_job(around), around)
        assert files_of(run_directory, "plans") == []
        several = fetched_job(around, jobPars=shaped(ranks_per_node=3))
        several.name, several.directory = "7-4", run_directory.job("7-4")
        made = prepare(several, around)
        assert files_of(run_directory, "plans") == ["7-4.json"]
        assert (made.ranks, made.teller, made.agent.kind) == (3, "panda", "direct")

    def test_a_launchers_plan_leaves_what_its_shims_read(self, run_directory: RunDirectory) -> None:
        around = surroundings(run_directory, head(hosts=("node1", "node2")))
        job = spec_job(around, mode="mpi", nodes=2, ranks_per_node=2, cpus_per_rank=1, command=["payload", "a b"])
        made = prepare(job, around)
        plans = run_directory.path / "plans"
        assert made.launch.argv[-4:] == (
            "/usr/bin/python3",
            "/starter.pyz",
            "shim",
            str(plans / "spec-0.shim.json"),
        )
        shim = json.loads((plans / "spec-0.shim.json").read_text())
        assert shim["argv"] == ["payload", "a b"]
        assert [(one["local_rank"], one["cpus"]) for one in shim["bindings"]] == [(0, "0"), (1, "1")]
        assert (shim["results"], shim["cwd"]) == (str(plans / "spec-0.ranks"), "/caller")
        assert (plans / "spec-0.ranks").is_dir()
        assert "SLURM_LOCALID" in shim["local_rank"]

    def test_a_spec_with_files_runs_in_its_own_directory_and_without_where_the_caller_stood(
        self, run_directory: RunDirectory
    ) -> None:
        around = surroundings(run_directory)
        plain, own = spec_job(around), spec_job(around, outputs=[{"lfn": "out", "path": "/out"}])
        assert payload_of(plain, around).cwd == "/caller"
        assert payload_of(own, around).cwd == str(own.directory)
        assert payload_of(plain, around).output == str(plain.directory)
        assert payload_of(fetched_job(panda_surroundings(run_directory)), around).cwd == str(run_directory.job("7-3"))


class TestWorkerShape:
    @pytest.mark.parametrize(
        ("worker", "entry", "cores", "wall_s"),
        [
            ({}, {"coreCount": 2}, 2, None),
            ({"cpus_per_rank": 3}, {"coreCount": 2}, 2, None),
            ({"cpus_per_rank": 1}, {"coreCount": 2}, 1, None),
            ({"ranks_per_node": 4}, {"coreCount": 2}, None, None),
            ({}, {"coreCount": 1, "maxWalltime": 90}, 1, 90.0),
            ({"walltime_s": 5}, {"coreCount": 1, "maxWalltime": 90}, 1, 5.0),
            ({}, {"coreCount": 8, "jobPars": shaped(ranks_per_node=2)}, None, None),
            ({"cpus_per_rank": 1}, {"coreCount": 8, "jobPars": shaped(cpus_per_rank=5)}, 5, None),
        ],
    )
    def test_the_jobs_own_shape_counts_else_the_workers_capped_by_the_jobs_cores(
        self, worker: dict[str, Any], entry: dict[str, Any], cores: int | None, wall_s: float | None
    ) -> None:
        fetched = parse_job(job_entry(7, **entry))
        assert isinstance(fetched, PandaJob)
        shape = worker_shape(JobSpec.model_validate({"command": ["/bin/sh"], **worker}), fetched)
        assert (shape.cpus_per_rank, shape.walltime_s) == (cores, wall_s)


class TestFilesIn:
    def test_inputs_are_there_before_the_payload(self, run_directory: RunDirectory, tmp_path: Path) -> None:
        (tmp_path / "source").write_text("data")
        around = surroundings(run_directory)
        job = spec_job(around, inputs=[{"lfn": "in.dat", "path": str(tmp_path / "source"), "size": 4}])
        prepare(job, around)
        assert (job.directory / "in.dat").read_text() == "data"

    def test_a_fetched_jobs_files_come_by_the_storage_map_and_its_program_with_them(
        self, run_directory: RunDirectory, tmp_path: Path
    ) -> None:
        (tmp_path / "in1.dat").write_text("data")
        (tmp_path / "program.sh").write_text("#!/bin/sh\ncat in1.dat\n")
        storage = StorageMap(prefixes={"SE": f"file://{tmp_path}/"})
        around = panda_surroundings(run_directory, storage=storage)
        job = fetched_job(
            around,
            inFiles="in1.dat",
            ddmEndPointIn="SE",
            fsize="4",
            checksum="NULL",
            GUID="NULL",
            scopeIn="test",
            transformation=f"file://{tmp_path}/program.sh",
            jobPars="a 'b c'",
        )
        made = prepare(job, around)
        assert made.command == ("./program.sh", "a", "b c")
        assert (job.directory / "in1.dat").read_text() == "data"
        assert os.access(job.directory / "program.sh", os.X_OK)

    def test_an_input_without_any_place_is_bad_input(self, run_directory: RunDirectory) -> None:
        around = surroundings(run_directory)
        with pytest.raises(BadInputError, match=r"input in\.dat has neither url nor path"):
            prepare(spec_job(around, inputs=[{"lfn": "in.dat"}]), around)

    def test_an_input_of_a_fetched_job_needs_a_storage_map(self, run_directory: RunDirectory) -> None:
        around = panda_surroundings(run_directory, storage=None)
        job = fetched_job(
            around, inFiles="in1.dat", ddmEndPointIn="SE", fsize="4", checksum="NULL", GUID="NULL", scopeIn="test"
        )
        with pytest.raises(StageInError, match="give --storage"):
            prepare(job, around)

    @pytest.mark.parametrize("name", sorted(OWN_NAMES))
    @pytest.mark.parametrize("kind", ["inputs", "outputs"])
    def test_our_own_names_are_refused_before_anything_is_made(
        self, run_directory: RunDirectory, kind: str, name: str
    ) -> None:
        around = surroundings(run_directory)
        job = spec_job(around, **{kind: [{"lfn": name, "path": "/x"}]})
        with pytest.raises(BadInputError, match=f"a file named {name}"):
            prepare(job, around)
        assert not job.directory.exists()

    def test_a_fetched_jobs_output_of_our_own_name_is_refused(self, run_directory: RunDirectory) -> None:
        around = panda_surroundings(run_directory)
        job = fetched_job(
            around, outFiles="stdout,7.log.tgz", ddmEndPointOut="SE,LOG_SE", destinationDBlockToken="NULL,NULL"
        )
        with pytest.raises(BadInputError, match="a file named stdout"):
            prepare(job, around)

    @pytest.mark.parametrize("name", ["../x", "-rf", ".hidden", "a/b", ""])
    def test_unsafe_names_never_come_as_far_as_a_spec(self, name: str) -> None:
        with pytest.raises(ValueError, match="lfn"):
            JobSpec.model_validate({"command": ["true"], "inputs": [{"lfn": name, "path": "/x"}]})

    def test_a_directory_that_cannot_be_made_is_the_environments_fault(self, run_directory: RunDirectory) -> None:
        around = surroundings(run_directory)
        job = spec_job(around)
        job.directory.write_text("in the way")
        with pytest.raises(SiteEnvironmentError, match=r"cannot be made: File exists"):
            prepare(job, around)

    def test_an_ended_job_stops_its_own_stage_in(self, run_directory: RunDirectory, tmp_path: Path) -> None:
        (tmp_path / "source").write_text("data")
        around = surroundings(run_directory)
        job = spec_job(around, inputs=[{"lfn": "in.dat", "path": str(tmp_path / "source")}])
        job.state = State(phase="staging-out")
        with pytest.raises(PilotwrapError, match="stopped on request"):
            prepare(job, around)


class TestPayloadUser:
    USER = {"uid": 65534, "gid": 65534, "groups": [65534]}

    @AS_ROOT
    def test_the_payloads_user_owns_its_directory_and_what_the_shims_need(self, run_directory: RunDirectory) -> None:
        around = surroundings(run_directory, head(hosts=("node1", "node2")), user=self.USER)
        job = spec_job(around, mode="mpi", nodes=2)
        prepare(job, around)
        plans = run_directory.path / "plans"
        owners = {
            path.name: path.stat().st_uid
            for path in (job.directory, plans / "spec-0.ranks", plans / "spec-0.shim.json", plans / "spec-0.json")
        }
        assert owners == {"spec-0": 65534, "spec-0.ranks": 65534, "spec-0.shim.json": 65534, "spec-0.json": 0}
        assert payload_of(job, around).user == self.USER

    @AS_ROOT
    def test_inputs_belong_to_the_payload_and_what_a_link_points_to_does_not(
        self, run_directory: RunDirectory, tmp_path: Path
    ) -> None:
        (tmp_path / "source").write_text("data")
        around = surroundings(run_directory, user=self.USER)
        job = spec_job(around, inputs=[{"lfn": "in.dat", "path": str(tmp_path / "source")}])
        prepare(job, around)
        assert (job.directory / "in.dat").stat().st_uid == 65534
        (job.directory / "link").symlink_to(tmp_path / "source")
        hand_over(job.directory, self.USER)
        assert (job.directory / "link").lstat().st_uid == 65534
        assert (tmp_path / "source").stat().st_uid == 0

    def test_without_a_user_nothing_changes_hands(self, run_directory: RunDirectory) -> None:
        around = surroundings(run_directory)
        job = spec_job(around)
        prepare(job, around)
        assert job.directory.stat().st_uid == os.geteuid()
        assert job.directory.stat().st_mode & 0o777 == 0o700


def ran(job: Job, **files: str) -> Job:
    """Let a job have run, leaving these files."""
    job.directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (job.directory / name.replace("_", ".")).write_text(text)
    rank = RankOutcome(rank=0, host="node1", exit_code=0, signal=None, reason="ok")
    used = Usage(wall_s=3, user_s=2, system_s=1, max_rss_kib=99)
    job.outcome = Outcome(reason="ok", exit_code=0, ranks=(rank,), usage=used)
    job.state = State(phase="staging-out")
    return job


def members(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {one.name: (archive.extractfile(one) or io.BytesIO()).read().decode() for one in archive.getmembers()}


class TestFilesOut:
    def test_outputs_go_to_their_places_with_size_and_checksum(
        self, run_directory: RunDirectory, tmp_path: Path
    ) -> None:
        around = surroundings(run_directory)
        job = ran(spec_job(around, outputs=[{"lfn": "out.dat", "path": str(tmp_path / "kept")}]), out_dat="abc")
        said = collect(job, around, outputs=True, log=True)
        assert isinstance(said, StagedOut)
        assert (tmp_path / "kept").read_text() == "abc"
        assert (said.files["out.dat"]["size"], said.files["out.dat"]["adler32"]) == (3, "024d0127")
        assert list(said.files) == ["out.dat"]

    def test_what_travelled_before_a_missing_output_is_reported(
        self, run_directory: RunDirectory, tmp_path: Path
    ) -> None:
        around = surroundings(run_directory)
        outputs = [{"lfn": name, "path": str(tmp_path / name)} for name in ("a.dat", "b.dat", "c.dat")]
        said = collect(ran(spec_job(around, outputs=outputs), a_dat="1", c_dat="3"), around, outputs=True, log=False)
        assert isinstance(said, StageOutFailed)
        assert list(said.files) == ["a.dat"]
        assert "b.dat" in said.detail
        assert not (tmp_path / "c.dat").exists()

    def test_a_failed_jobs_outputs_stay_where_they_are(self, run_directory: RunDirectory, tmp_path: Path) -> None:
        around = surroundings(run_directory)
        job = ran(spec_job(around, outputs=[{"lfn": "out.dat", "path": str(tmp_path / "kept")}]), out_dat="abc")
        said = collect(job, around, outputs=False, log=True)
        assert (type(said), said.files) == (StagedOut, {})
        assert not (tmp_path / "kept").exists()

    def test_the_log_bears_the_servers_guid_and_holds_the_use_of_resources(
        self, run_directory: RunDirectory, tmp_path: Path
    ) -> None:
        storage = StorageMap(prefixes={"LOG_SE": f"file://{tmp_path}/"})
        around = panda_surroundings(run_directory, storage=storage)
        job = ran(fetched_job(around), stdout="hello\n")
        said = collect(job, around, outputs=True, log=True)
        assert isinstance(said, StagedOut)
        assert said.files["7.log.tgz"]["guid"] == "64daaf67-7fa2-4cca-9346-3e286bc6c98f"
        found = members(tmp_path / "7.log.tgz")
        assert found["stdout"] == "hello\n"
        assert json.loads(found[USAGE_NAME])["Max"] == {"rss": 99, "stime": 1, "utime": 2, "wtime": 3}

    @pytest.mark.parametrize("storage", [None, StorageMap(), StorageMap(prefixes={"OTHER": "file:///nowhere/"})])
    def test_a_log_without_a_place_is_reported_and_stays(
        self, run_directory: RunDirectory, storage: StorageMap | None
    ) -> None:
        around = panda_surroundings(run_directory, storage=storage)
        job = ran(fetched_job(around), stdout="hello\n")
        said = collect(job, around, outputs=True, log=True)
        assert isinstance(said, StagedOut)
        size = (job.directory / "7.log.tgz").stat().st_size
        assert (said.files["7.log.tgz"]["size"], said.files["7.log.tgz"]["url"]) == (size, None)

    def test_data_is_no_log(self, run_directory: RunDirectory, tmp_path: Path) -> None:
        storage = StorageMap(prefixes={"": f"file://{tmp_path}/"})
        around = panda_surroundings(run_directory, storage=storage)
        job = fetched_job(
            around, outFiles="out.dat,7.log.tgz", ddmEndPointOut="SE,LOG_SE", destinationDBlockToken="NULL,NULL"
        )
        said = collect(ran(job, stdout="hello", out_dat="data"), around, outputs=True, log=True)
        assert sorted(said.files) == ["7.log.tgz", "out.dat"]
        assert set(members(tmp_path / "7.log.tgz")) == {"stdout", USAGE_NAME}

    def test_a_missing_output_does_not_cost_the_log(self, run_directory: RunDirectory, tmp_path: Path) -> None:
        storage = StorageMap(prefixes={"": f"file://{tmp_path}/"})
        around = panda_surroundings(run_directory, storage=storage)
        job = fetched_job(
            around, outFiles="out.dat,7.log.tgz", ddmEndPointOut="SE,LOG_SE", destinationDBlockToken="NULL,NULL"
        )
        said = collect(ran(job, stdout="hello"), around, outputs=True, log=True)
        assert isinstance(said, StageOutFailed)
        assert list(said.files) == ["7.log.tgz"]
        assert "out.dat" in said.detail

    def test_an_output_needs_a_storage_map_and_says_so(self, run_directory: RunDirectory) -> None:
        around = panda_surroundings(run_directory, storage=None)
        job = fetched_job(
            around, outFiles="out.dat,7.log.tgz", ddmEndPointOut="SE,LOG_SE", destinationDBlockToken="NULL,NULL"
        )
        said = collect(ran(job, out_dat="x"), around, outputs=True, log=False)
        assert isinstance(said, StageOutFailed)
        assert "no place is known for output out.dat" in said.detail

    def test_our_file_never_goes_through_what_the_payload_put_there(
        self, run_directory: RunDirectory, tmp_path: Path
    ) -> None:
        around = panda_surroundings(run_directory)
        job = ran(fetched_job(around), stdout="hello")
        (tmp_path / "victim").write_text("mine")
        (job.directory / USAGE_NAME).symlink_to(tmp_path / "victim")
        assert isinstance(collect(job, around, outputs=True, log=True), StagedOut)
        assert (tmp_path / "victim").read_text() == "mine"
        assert USAGE_NAME not in members(job.directory / "7.log.tgz")

    def test_a_job_without_a_directory_has_no_log(self, run_directory: RunDirectory) -> None:
        around = panda_surroundings(run_directory)
        said = collect(fetched_job(around), around, outputs=False, log=True)
        assert (type(said), said.files) == (StagedOut, {})
