"""The run's end from outside, over two nodes: by TERM, by scancel, by the time limit; told within 5 s, nothing left."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from real.slurm import Slurm
from real.worker import IN_A_STEP, Worker, lab, until, worker

from pilotwrap.lab.process import LabProcess

__all__ = ["lab", "worker"]

TOLD_S = 5.0
STOPPED = "the run was stopped while it ran"
ENDING_S = 30
"""Slurm looks at its jobs' limits twice a minute (PERIODIC_TIMEOUT of its controller)."""


@dataclass
class Timed:
    """Two workers whose jobs outlive their allocations: one knows its limit, the other's was lowered meanwhile."""

    planned: Worker
    surprised: Worker
    planned_id: int
    surprised_id: int
    begun_at: float


def _waiting(worker: Worker, program: Path, minutes: int) -> int:
    panda_id = worker.put([str(program), "600"], mode="mpi", nodes=2, ranks_per_node=1)
    worker.start("--jobs", "1", minutes=minutes, tasks_per_node=2)
    return panda_id


@pytest.fixture(scope="module", autouse=True)
def timed(
    slurm: Slurm, lab: LabProcess, mpi_program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Timed]:
    """Start both before all other tests, for their minute is long."""
    planned, surprised = (Worker(slurm, lab, tmp_path_factory.mktemp(name)) for name in ("planned", "surprised"))
    begun_at = time.monotonic()
    planned_id, surprised_id = _waiting(planned, mpi_program, 1), _waiting(surprised, mpi_program, 5)
    surprised.running(surprised_id, lines=2)
    slurm.run(["scontrol", "update", f"JobId={surprised.job_id}", "TimeLimit=1"])
    yield Timed(planned, surprised, planned_id, surprised_id, begun_at)
    planned.end()
    surprised.end()


def term(worker: Worker) -> None:
    worker.term()


def scancel(worker: Worker) -> None:
    worker.slurm.cancel(worker.job_id)


@pytest.mark.parametrize("within", [(), IN_A_STEP], ids=["batch script", "inside of a step"])
@pytest.mark.parametrize("stop", [term, scancel])
def test_a_stop_is_told_within_five_seconds(
    worker: Worker, mpi_program: Path, stop: Callable[[Worker], None], within: Sequence[str]
) -> None:
    panda_id = worker.put([str(mpi_program), "600"], mode="mpi", nodes=2, ranks_per_node=2)
    worker.start("--jobs", "1", within=within, tasks_per_node=2)
    worker.running(panda_id, lines=4)
    stop(worker)
    until(lambda: worker.told(panda_id), f"told; {worker.log}", TOLD_S)
    worker.nothing_left()
    job = worker.listed(panda_id)
    assert (job["state"], job["reports"]) == ("failed", 1), (job, worker.log)
    assert STOPPED in job["pilot_error_diag"], job
    assert worker.flush()["told"] == 0


def test_the_end_of_the_step_around_it_is_told_by_flush(worker: Worker, mpi_program: Path) -> None:
    """TERM to srun is KILL to all that it started (measured): nobody of ours has a word."""
    panda_id = worker.put([str(mpi_program), "600"], mode="mpi", nodes=2, ranks_per_node=2)
    worker.start("--jobs", "1", within=IN_A_STEP, tasks_per_node=2, lasting=True)
    worker.running(panda_id, lines=4)
    os.kill(worker.one("srun "), signal.SIGTERM)
    worker.nothing_left(25)
    worker.flush()
    assert worker.verdict(panda_id)["reports"] == 1
    assert worker.flush()["told"] == 0


def test_before_its_time_limit_a_run_ends_by_itself(timed: Timed) -> None:
    worker, panda_id = timed.planned, timed.planned_id
    until(lambda: worker.told(panda_id), f"told; {worker.log}", 90)
    assert time.monotonic() - timed.begun_at < 60
    worker.nothing_left()
    job = worker.listed(panda_id)
    assert (job["state"], job["reports"]) == ("failed", 1), (job, worker.log)
    assert worker.report()["reason"] == "walltime"
    assert worker.slurm.wait(worker.job_id) == "FAILED"


def test_slurm_s_own_end_of_a_job_is_told_within_its_grace(timed: Timed) -> None:
    worker, panda_id = timed.surprised, timed.surprised_id
    worker.slurm.reach(worker.job_id, frozenset({"COMPLETING", "TIMEOUT", "FAILED"}), timeout_s=60 + ENDING_S)
    until(lambda: worker.told(panda_id), f"told; {worker.log}", TOLD_S)
    worker.nothing_left()
    job = worker.listed(panda_id)
    assert (job["state"], job["reports"]) == ("failed", 1), (job, worker.log)
    assert worker.slurm.wait(worker.job_id) == "TIMEOUT"
    assert worker.flush()["told"] == 0
