"""What several ranks print: in one file as ever, or in files of their own where the spec says so."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .rig import PROGRAM

needs_mpich = pytest.mark.skipif(shutil.which("mpiexec.hydra") is None, reason="no MPICH: apt-get install mpich")
WORDS = 'echo "out $PILOTWRAP_RANK"; echo "err $PILOTWRAP_RANK" >&2'


def outputs(folder: Path, code: int = 0, **shape: object) -> dict[str, str]:
    """Run a spec and return what stands in its job's directory."""
    spec = {"command": ["sh", "-c", WORDS], "binding": "none", "cpus_per_rank": 1, **shape}
    (folder / "job.json").write_text(json.dumps(spec))
    words = ["run", "--spec", str(folder / "job.json"), "--run-dir", str(folder / "runs"), "--json"]
    done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False, cwd=folder)
    assert done.returncode == code, done
    files = {job: job.rglob("*") for job in folder.glob("runs/??/*/jobs/*")}
    return {str(path.relative_to(job)): path.read_text() for job in files for path in files[job] if path.is_file()}


def two() -> dict[str, object]:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("only one CPU here")
    return {"ranks_per_node": 2}


OWN = {f"ranks/{rank}.{end}": f"{word} {rank}\n" for rank in (0, 1) for end, word in (("out", "out"), ("err", "err"))}


@needs_mpich
def test_ranks_of_a_launcher_write_to_files_of_their_own(tmp_path: Path) -> None:
    found = outputs(tmp_path, mode="mpi", rank_output="per-rank", **two())
    assert found == {"stdout": "", "stderr": "", **OWN}


def test_copies_write_to_the_same_files(tmp_path: Path) -> None:
    assert outputs(tmp_path, rank_output="per-rank", **two()) == OWN


@needs_mpich
def test_without_the_word_all_ranks_share_one_file(tmp_path: Path) -> None:
    found = outputs(tmp_path, mode="mpi", **two())
    assert {name: sorted(text.splitlines()) for name, text in found.items()} == {
        "stdout": ["out 0", "out 1"],
        "stderr": ["err 0", "err 1"],
    }


def test_a_single_rank_writes_where_it_always_does(tmp_path: Path) -> None:
    assert outputs(tmp_path, rank_output="per-rank") == {"stdout": "out 0\n", "stderr": "err 0\n"}


def test_a_file_that_would_be_taken_for_the_folder_is_refused(tmp_path: Path) -> None:
    given = [{"lfn": "ranks", "path": str(tmp_path / "job.json")}]
    assert outputs(tmp_path, code=2, rank_output="per-rank", inputs=given, **two()) == {}
    assert len(outputs(tmp_path, inputs=given)) == 3, "and only then"
