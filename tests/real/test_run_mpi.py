"""An MPI job over two nodes of a real Slurm, from the server and back."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from real.worker import Worker, lab, worker

__all__ = ["lab", "worker"]

IN_A_STEP = ("srun", "--nodes=1", "--ntasks=1", "--overlap")


@pytest.mark.parametrize("within", [(), IN_A_STEP], ids=["batch script", "inside of a step"])
def test_an_mpi_job_runs_over_both_nodes_and_is_told_once(
    worker: Worker, mpi_program: Path, within: Sequence[str]
) -> None:
    line = f'{mpi_program} 0 && {{ [ "$PILOTWRAP_RANK" != 0 ] || echo done > out.txt; }}'
    panda_id = worker.put(["sh", "-c", line], mode="mpi", nodes=2, ranks_per_node=4, outputs=[{"lfn": "out.txt"}])
    worker.start(within=within)
    assert worker.ended() == "COMPLETED", worker.log
    job = worker.listed(panda_id)
    assert (job["state"], job["reports"]) == ("finished", 1), worker.log
    nodes = worker.slurm.nodes
    assert sorted(worker.printed(panda_id)) == [f"rank {r} of 8 on {nodes[r // 4]}" for r in range(8)]
