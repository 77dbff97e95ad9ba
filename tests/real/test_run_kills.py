"""Whoever is killed in the middle of an MPI job over two nodes: nothing is left, and the server hears it once."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from real.worker import Worker, lab, until, worker

__all__ = ["lab", "worker"]


def begun(worker: Worker, mpi_program: Path) -> int:
    """Start a worker with a job of 8 ranks that all wait at a barrier, and return its panda_id."""
    panda_id = worker.put([str(mpi_program), "600"], mode="mpi", nodes=2, ranks_per_node=4)
    worker.start("--jobs", "1", lasting=True)
    worker.running(panda_id, lines=8)
    return panda_id


def told_once(worker: Worker, panda_id: int, reason: str) -> None:
    job = worker.listed(panda_id)
    assert (job["state"], job["reports"]) == ("failed", 1), (job, worker.log)
    assert reason in job["pilot_error_diag"], job


def test_the_controller_killed_leaves_nothing_and_flush_tells(worker: Worker, mpi_program: Path) -> None:
    panda_id = begun(worker, mpi_program)
    os.kill(worker.controller, signal.SIGKILL)
    worker.nothing_left()
    assert (worker.home / "code").read_text() == "70\n", worker.log
    assert "pilotwrap flush" in worker.log
    assert not worker.told(panda_id)
    flushed = worker.flush()
    assert (flushed["told"], flushed["left"]) == (1, [])
    until(lambda: worker.told(panda_id), "told")
    told_once(worker, panda_id, "")
    assert worker.flush()["told"] == 0


def test_the_starter_killed_leaves_nothing_and_is_told(worker: Worker, mpi_program: Path) -> None:
    panda_id = begun(worker, mpi_program)
    os.kill(worker.starter, signal.SIGKILL)
    worker.nothing_left()
    worker.flush()
    until(lambda: worker.told(panda_id), "told")
    told_once(worker, panda_id, "")
    assert worker.flush()["told"] == 0


def kill_srun(worker: Worker) -> None:
    os.kill(worker.one("/usr/bin/srun "), signal.SIGKILL)


def kill_srun_and_its_helper(worker: Worker) -> None:
    for pid in [pid for pid, line in worker.processes().items() if line.startswith("/usr/bin/srun ")]:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("kill", "within_s"), [(kill_srun, 5), (kill_srun_and_its_helper, 20)])
def test_srun_killed_is_the_jobs_failure_and_leaves_nothing(
    worker: Worker, mpi_program: Path, kill: Callable[[Worker], None], within_s: float
) -> None:
    """Its ranks hear nothing of a KILL of both: then they miss the keeper's beats (15 s)."""
    panda_id = begun(worker, mpi_program)
    kill(worker)
    worker.nothing_left(within_s)
    until(lambda: worker.told(panda_id), "told")
    told_once(worker, panda_id, "signal 9")
