"""What the demo calls good."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from run.rig import until

from pilotwrap.lab import demo as lab_demo
from pilotwrap.lab.demo import DemoJob, demo_jobs, demo_rows, mpi_library, still_running
from pilotwrap.lab.put import panda_job

if TYPE_CHECKING:
    from pathlib import Path

JOB = DemoJob("title", {"command": ["true"]}, "failed", "walltime")
LISTED = {"panda_id": 7, "state": "failed", "reports": 1}


def test_a_job_at_its_end_is_as_expected() -> None:
    (row,) = demo_rows({7: JOB}, [LISTED], {7: ("walltime", 1.5)})
    assert (row.as_expected, row.panda_id, row.title, row.seconds) == (True, 7, "title", 1.5)


@pytest.mark.parametrize(
    ("changed", "reported"),
    [
        ({"state": "finished"}, {7: ("walltime", 1.5)}),
        ({"reports": 0}, {7: ("walltime", 1.5)}),
        ({"reports": 2}, {7: ("walltime", 1.5)}),
        ({"panda_id": 8}, {7: ("walltime", 1.5)}),
        ({}, {7: ("payload-exit", 1.5)}),
        ({}, {8: ("walltime", 1.5)}),
        ({}, {}),
    ],
)
def test_anything_else_is_not(changed: dict[str, int | str], reported: dict[int, tuple[str, float]]) -> None:
    (row,) = demo_rows({7: JOB}, [{**LISTED, **changed}], reported)
    assert not row.as_expected


def test_a_job_of_which_nobody_knows_is_shown_as_such() -> None:
    (row,) = demo_rows({7: JOB}, [], {})
    assert (row.state, row.reason, row.seconds) == ("unknown", "never reported", 0.0)


def test_every_job_of_the_demo_can_be_put_in(tmp_path: Path) -> None:
    jobs = demo_jobs(tmp_path)
    put = [panda_job(job.spec, job.title) for job in jobs]
    assert put[0]["fsize"] == str((tmp_path / "storage" / "text.txt").stat().st_size)
    assert len(jobs) == (6 if mpi_library() else 5)
    assert len({job.title for job in jobs}) == len(jobs)


@pytest.mark.parametrize("launcher", ["mpiexec.hydra", "mpiexec.mpich"])
def test_a_launcher_without_its_library_is_no_mpi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    (tmp_path / launcher).write_text("#!/bin/sh\n")
    (tmp_path / launcher).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    here = mpi_library()
    monkeypatch.setattr(lab_demo, "_MPI_LIBRARIES", ("libnone.so.1",))
    assert mpi_library() is None
    monkeypatch.setattr(lab_demo, "_MPI_LIBRARIES", ("libnone.so.1", "libc.so.6"))
    assert mpi_library() == "libc.so.6"
    assert here in {None, "libmpich.so.12", "libmpich.so"}


def test_a_library_without_a_launcher_is_no_mpi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_demo, "_MPI_LIBRARIES", ("libc.so.6",))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert mpi_library() is None


def test_a_process_below_the_folder_is_seen_and_one_beside_it_is_not(tmp_path: Path) -> None:
    below, beside = tmp_path / "d" / "below", tmp_path / "db"
    below.mkdir(parents=True)
    beside.mkdir()
    wait = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with (
        subprocess.Popen(wait, cwd=below, stdin=subprocess.PIPE) as inside,
        subprocess.Popen(wait, cwd=beside, stdin=subprocess.PIPE),
    ):
        assert still_running(tmp_path / "d") == (inside.pid,)
    until(lambda: still_running(tmp_path / "d") == (), "it has ended")
