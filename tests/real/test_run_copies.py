"""Copies of a program over two nodes of a real Slurm."""

from collections.abc import Mapping
from typing import Any

from real.worker import Worker, lab, worker

__all__ = ["lab", "worker"]

FAILS_ON_RANK_3 = '[ "$PILOTWRAP_RANK" != 3 ] || exit 7; sleep 1; echo "rank $PILOTWRAP_RANK on $SLURMD_NODENAME"'


def ranks(worker: Worker) -> dict[str, Mapping[str, Any]]:
    """Return what the RunReport says of ranks, by reason."""
    return {counted["reason"]: counted for counted in worker.report()["ranks"]}


def test_a_failing_copy_does_not_end_the_others(worker: Worker) -> None:
    panda_id = worker.put(["sh", "-c", FAILS_ON_RANK_3], mode="copies", nodes=2, ranks_per_node=2)
    worker.start(lasting=True)
    worker.done()
    first, second = worker.slurm.nodes
    printed = [f"rank 0 on {first}", f"rank 1 on {first}", f"rank 2 on {second}"]
    assert sorted(worker.printed(panda_id)) == printed, worker.log
    job = worker.verdict(panda_id)
    assert (job["state"], job["reports"], job["trans_exit_code"]) == ("failed", 1, 7), job
    assert f"rank 3 on {second}" in job["pilot_error_diag"], job
    failed = ranks(worker)["payload-exit"]
    assert (failed["exit_code"], failed["count"], failed["examples"]) == (7, 1, [f"{second}:3"])


def test_a_rank_without_its_promised_binding_does_not_run(worker: Worker) -> None:
    """The launcher starts three ranks on the first node where two were planned."""
    options = ["--ntasks=5", "--ntasks-per-node=3"]
    panda_id = worker.put(
        ["sh", "-c", "echo rank $PILOTWRAP_RANK"], nodes=2, ranks_per_node=2, cpus_per_rank=1, launcher_options=options
    )
    worker.start(lasting=True)
    worker.done()
    job = worker.verdict(panda_id)
    assert (job["state"], job["reports"]) == ("failed", 1), job
    report = worker.report()["jobs"][0]
    assert report["reason"] == "binding", report
    assert f"rank 2 on {worker.slurm.nodes[0]}" in report["detail"], report
    assert len(worker.printed(panda_id)) == 4
    assert (worker.home / "code").read_text() == "3\n"


def test_a_daemon_left_behind_on_either_node_is_ended(worker: Worker) -> None:
    line = "setsid sh -c 'trap \"\" TERM; sleep 500 & wait' < /dev/null > /dev/null 2>&1 & sleep 0.3; echo done"
    panda_id = worker.put(["sh", "-c", line], nodes=2, ranks_per_node=1)
    worker.start(lasting=True)
    worker.done()
    worker.nothing_left(1)
    assert worker.printed(panda_id) == ["done", "done"]
    assert worker.verdict(panda_id)["state"] == "finished"
