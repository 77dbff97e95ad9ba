"""An MPI job over two nodes of a real Slurm, from the server and back."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from real.worker import IN_A_STEP, Worker, lab, until, worker

from pilotwrap.detect.node import node_facts
from pilotwrap.model.node import NodeFacts
from pilotwrap.model.plan import Plan
from pilotwrap.model.snapshot import Snapshot

__all__ = ["lab", "worker"]


def surveyed(worker: Worker) -> list[NodeFacts]:
    """Return what the survey found, a node each."""
    paths = (worker.run_dir / "survey").glob("*.json")
    return [node_facts(Snapshot.model_validate_json(path.read_bytes())) for path in paths]


@pytest.mark.parametrize("within", [(), IN_A_STEP], ids=["batch script", "inside of a step"])
def test_an_mpi_job_runs_over_both_nodes_and_is_told_once(
    worker: Worker, mpi_program: Path, within: Sequence[str]
) -> None:
    line = f'{mpi_program} 0 && {{ [ "$PILOTWRAP_RANK" != 0 ] || echo done > out.txt; }}'
    panda_id = worker.put(["sh", "-c", line], mode="mpi", nodes=2, ranks_per_node=4, outputs=[{"lfn": "out.txt"}])
    worker.start(within=within)
    assert worker.ended() == "COMPLETED", worker.log
    job = worker.verdict(panda_id)
    assert (job["state"], job["reports"]) == ("finished", 1), worker.log
    nodes = worker.slurm.nodes
    assert sorted(worker.printed(panda_id)) == [f"rank {r} of 8 on {nodes[r // 4]}" for r in range(8)]
    log = next(name for name in job["files"] if name.startswith("log."))
    assert {path.name for path in (worker.home / "storage").iterdir()} == {"out.txt", log}
    assert (worker.home / "storage/out.txt").read_text() == "done\n"


def test_the_facts_are_those_of_the_allocation(worker: Worker, mpi_program: Path) -> None:
    panda_id = worker.put([str(mpi_program), "0"], mode="mpi", nodes=2)
    worker.start(minutes=7)
    assert worker.ended() == "COMPLETED", worker.log
    nodes = worker.slurm.nodes
    found = surveyed(worker)
    assert sorted(facts.host for facts in found) == list(nodes)
    assert {(facts.allocation.scheduler, facts.allocation.nodes, facts.vantage) for facts in found} == {
        ("slurm", nodes, "step")
    }
    assert {facts.launcher.command for facts in found} == {"srun"}
    plan = Plan.model_validate(json.loads((worker.run_dir / "plans" / f"{panda_id}-1.json").read_text()))
    assert plan.nodes == nodes
    assert plan.limits.stop_at is not None
    assert 7 * 60 - 30 < plan.limits.stop_at < 7 * 60


def test_a_stop_during_the_survey_takes_no_job(worker: Worker, mpi_program: Path) -> None:
    """A node that does not answer: its daemon is stopped, so the survey's step waits for it."""
    panda_id = worker.put([str(mpi_program), "0"], mode="mpi", nodes=2)
    worker.start("--jobs", "1", lasting=True)
    with worker.silent("node2"):
        until(lambda: worker.answers() == 1, f"one answer; {worker.log}")
        worker.term()
        until(lambda: not worker.processes(), f"nothing left; {worker.log}", 5)
    worker.nothing_left()
    assert worker.listed(panda_id)["state"] == "activated"
    assert (worker.home / "code").read_text() == "143\n", worker.log


@pytest.mark.parametrize("mode", ["copies", "mpi"])
def test_the_wiring_of_the_step_around_us_does_not_reach_a_payload(
    worker: Worker, mpi_program: Path, mode: str
) -> None:
    """We are rank 0 of 1 of an MPI step ourselves, which the payload must not take for its own."""
    panda_id = worker.put([str(mpi_program), "0"], mode=mode, nodes=1, ranks_per_node=2)
    worker.start(within=(*IN_A_STEP, "--mpi=pmi2"))
    assert worker.ended() == "COMPLETED", worker.log
    assert worker.verdict(panda_id)["state"] == "finished", worker.listed(panda_id)
    expected = {"copies": ["rank 0 of 1 on node1"], "mpi": ["rank 0 of 2 on node1", "rank 1 of 2 on node1"]}
    printed = {line for path in worker.run_dir.glob("jobs/*/stdout*") for line in path.read_text().splitlines()}
    assert sorted(printed) == expected[mode]


ONE_FAILS = """
echo "rank $PILOTWRAP_RANK"; : > up.$PILOTWRAP_RANK
[ "$PILOTWRAP_RANK" = 3 ] || exec sleep 300
until [ -e up.0 ] && [ -e up.1 ] && [ -e up.2 ]; do sleep 0.05; done
exit 3
"""


@pytest.mark.parametrize("within", [(), IN_A_STEP], ids=["batch script", "inside of a step"])
def test_a_failing_rank_ends_all_and_its_own_code_is_told(worker: Worker, within: Sequence[str]) -> None:
    shape = {"mode": "mpi", "nodes": 2, "ranks_per_node": 2, "rank_output": "per-rank"}
    panda_id = worker.put(["sh", "-c", ONE_FAILS], **shape)
    worker.start("--jobs", "1", within=within, lasting=not within)
    if within:
        worker.ended()
    else:
        worker.done()
        worker.nothing_left()
    job = worker.verdict(panda_id)
    assert (job["state"], job["reports"], job["trans_exit_code"]) == ("failed", 1, 3), (job, worker.log)
    assert f"exited with code 3 (rank 3 on {worker.slurm.nodes[1]})" in job["pilot_error_diag"], job
    (folder,) = worker.run_dir.glob("jobs/*/ranks")
    said = {path.name: path.read_text() for path in folder.glob("*.out")}
    assert said == {f"{rank}.out": f"rank {rank}\n" for rank in range(4)}
