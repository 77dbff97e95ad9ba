import subprocess
import time
from pathlib import Path

import pytest
from real import processes
from real.slurm import Slurm, started, why_not


def test_a_batch_job_runs_over_both_nodes_and_ends(slurm: Slurm) -> None:
    job = slurm.sbatch("#!/bin/sh\nsrun -N2 --ntasks-per-node=1 printenv SLURMD_NODENAME\n", "-N2", "-t", "5")
    assert slurm.wait(job) == "COMPLETED"
    assert sorted(slurm.output(job).split()) == list(slurm.nodes)


def test_a_cancelled_job_is_cancelled(slurm: Slurm) -> None:
    job = slurm.sbatch("#!/bin/sh\nexec sleep 600\n", "-t", "5")
    slurm.reach(job, frozenset({"RUNNING"}))
    slurm.cancel(job)
    assert slurm.wait(job) == "CANCELLED"


def test_a_failing_job_has_failed(slurm: Slurm) -> None:
    assert slurm.wait(slurm.sbatch("#!/bin/sh\nexit 3\n", "-t", "5")) == "FAILED"


def test_ranks_of_an_mpi_program_know_of_each_other(slurm: Slurm, mpi_program: Path) -> None:
    argv = ["srun", "-N2", "--ntasks-per-node=4", "--mpi=pmi2", str(mpi_program)]
    lines = slurm.run(argv).stdout.splitlines()
    assert sorted(lines) == sorted(f"rank {r} of 8 on {slurm.nodes[r // 4]}" for r in range(8))


def test_the_end_of_srun_s_stdin_reaches_every_rank_at_once(slurm: Slurm) -> None:
    argv = ["srun", "-N2", "--ntasks-per-node=1", "cat"]
    with subprocess.Popen(argv, env=slurm.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as srun:
        assert srun.stdin is not None
        assert srun.stdout is not None
        srun.stdin.write(b"here\n")
        srun.stdin.flush()
        assert [srun.stdout.readline(), srun.stdout.readline()] == [b"here\n", b"here\n"]
        closed = time.monotonic()
        srun.stdin.close()
        assert srun.wait(10) == 0
        assert time.monotonic() - closed < 5


def test_marked_processes_are_found_and_ended() -> None:
    mark = f"PILOTWRAP_TEST_MARK={time.monotonic_ns()}"
    name, value = mark.split("=")
    with subprocess.Popen(["sleep", "600"], env={name: value, "PATH": "/usr/bin:/bin"}) as child:
        assert processes.end(mark) == [child.pid]
        child.wait(10)
        assert processes.marked(mark) == []


def test_nothing_of_a_slurm_is_left_at_its_end() -> None:
    if reason := why_not():
        pytest.skip(reason)
    with started(1) as short_lived:
        job = short_lived.sbatch("#!/bin/sh\nsetsid sleep 600 &\necho away\nexec sleep 600\n", "-t", "5")
        short_lived.reach(job, frozenset({"RUNNING"}))
        assert processes.marked(f"SLURM_CONF={short_lived.home}") != []
    assert processes.marked(f"SLURM_CONF={short_lived.home}") == []
    assert not short_lived.home.exists()


def test_a_slurm_has_as_many_nodes_as_asked_for() -> None:
    if reason := why_not():
        pytest.skip(reason)
    with started(3) as wide:
        names = wide.run(["srun", "-N3", "--ntasks-per-node=1", "printenv", "SLURMD_NODENAME"]).stdout.split()
        assert sorted(names) == ["node1", "node2", "node3"]
