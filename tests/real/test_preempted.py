"""An allocation that a real Slurm takes back for another job: told as that, and gone on with when requeued."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from real.slurm import Slurm, Variant, started, why_not
from real.worker import IN_A_STEP, PROGRAM, Worker, lab

from pilotwrap.lab.process import LabProcess

__all__ = ["lab"]

PARTITION = "PartitionName={name} Nodes=ALL MaxTime=INFINITE State=UP PriorityTier={tier} PreemptMode={mode} {more}"
PARTITIONS = (
    PARTITION.format(name="cancelled", tier=1, mode="CANCEL", more=""),
    PARTITION.format(name="warned", tier=1, mode="CANCEL", more="GraceTime=2"),
    PARTITION.format(name="requeued", tier=1, mode="REQUEUE", more=""),
    PARTITION.format(name="urgent", tier=10, mode="OFF", more=""),
)
PREEMPTING = Variant(
    settings={"PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE"}, partitions="\n".join(PARTITIONS)
)
SLEEPS = ("sh", "-c", "echo begun; exec sleep 300")
ONE_NODE = {"command": ["/bin/sh"], "cpus_per_rank": 1}
ALL = ("--nodes=2", "--ntasks-per-node=8", "--time=5")
WAYS = pytest.mark.parametrize("within", [(), IN_A_STEP], ids=["in the batch shell", "in a step"])


@pytest.fixture(scope="module")
def preempting() -> Iterator[Slurm]:
    if reason := why_not():
        pytest.skip(reason)
    with started(2, PREEMPTING) as running:
        yield running


@pytest.fixture
def taken(preempting: Slurm, lab: LabProcess, tmp_path: Path) -> Iterator[Worker]:
    """Give a worker whose nodes will be taken."""
    made = Worker(preempting, lab, tmp_path)
    yield made
    made.end()
    preempting.cancel_all()


def begin(worker: Worker, partition: str, *options: str, within: Sequence[str] = ()) -> None:
    """Submit the run; its shell lives through Slurm's TERM, and so the exit code can be seen."""
    line = shlex.join([*within, *worker.argv("--jobs", "2", *options)]) + " > report.json 2> log; echo $? > code"
    script = f"#!/bin/sh\ncd {shlex.quote(str(worker.home))}\ntrap : TERM\necho $$ > shell\n{line}\n"
    worker.job_id = worker.slurm.sbatch(script, *ALL, f"--partition={partition}", "--requeue")
    worker.submitted.append(worker.job_id)


def on_each_node(worker: Worker) -> list[str]:
    """Return the words that have each node fetch for itself."""
    path = worker.home / "worker.json"
    path.write_text(json.dumps(ONE_NODE))
    return ["--spec", str(path)]


def urgent(worker: Worker, seconds: float = 0.1) -> int:
    """Have the nodes taken."""
    job_id = worker.slurm.sbatch(f"#!/bin/sh\nexec sleep {seconds}\n", *ALL, "--partition=urgent")
    worker.submitted.append(job_id)
    return job_id


def preempted_once(worker: Worker, ids: Sequence[int]) -> None:
    """The server has each job's one report, and PREEMPTION as the pilot's error."""
    for panda_id in ids:
        job = worker.verdict(panda_id)
        assert (job["state"], job["reports"], job["pilot_error_code"]) == ("failed", 1, 1379), (job, worker.log)


def said_so(worker: Worker) -> None:
    report = worker.report()
    assert (report["state"], report["reason"], (worker.home / "code").read_text()) == ("failed", "preempted", "124\n")
    words = [*PROGRAM, "why", str(report["run_dir"])]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "preempted: " in said.splitlines()[0]
    assert "the batch system took the allocation back for another job" in said.splitlines()[0]


@WAYS
def test_a_preempted_run_ends_its_jobs_tells_each_once_and_names_the_reason(
    taken: Worker, within: Sequence[str]
) -> None:
    both = {"mode": "copies", "nodes": 2, "ranks_per_node": 1}
    ids = [taken.put(SLEEPS, cpus_per_rank=1), taken.put(SLEEPS, cpus_per_rank=1, **both)]
    begin(taken, "cancelled", "--controllers", "head", within=within)
    for panda_id, lines in zip(ids, (1, 2), strict=True):
        taken.running(panda_id, lines)
    urgent(taken)
    taken.done()
    preempted_once(taken, ids)
    said_so(taken)
    taken.nothing_left()
    assert taken.ended() == "PREEMPTED"
    assert taken.flush()["told"] == 0


def test_where_only_the_steps_are_warned_the_run_ends_with_the_first_rank_that_is(taken: Worker) -> None:
    """At the beginning of a grace Slurm sends TERM to steps, and nothing to a batch script."""
    panda_id = taken.put(SLEEPS, mode="copies", nodes=2, ranks_per_node=1)
    begin(taken, "warned", "--controllers", "head")
    taken.running(panda_id, 2)
    urgent(taken)
    taken.done()
    preempted_once(taken, [panda_id])
    said_so(taken)
    taken.nothing_left()


def test_every_node_s_controller_says_so(taken: Worker) -> None:
    ids = [taken.put(SLEEPS) for _ in range(2)]
    begin(taken, "warned", *on_each_node(taken))
    for panda_id in ids:
        taken.running(panda_id, 1)
    urgent(taken)
    taken.done()
    preempted_once(taken, ids)
    said_so(taken)
    taken.nothing_left()


@WAYS
def test_a_requeued_run_is_told_as_preempted_and_its_second_life_goes_on(taken: Worker, within: Sequence[str]) -> None:
    ids = [taken.put(SLEEPS) for _ in range(2)]
    begin(taken, "requeued", *on_each_node(taken), within=within)
    for panda_id in ids:
        taken.running(panda_id, 1)
    other = urgent(taken)
    taken.done()
    taken.slurm.wait(other)
    later = taken.put(["true"])
    taken.begun_again()
    job = taken.verdict(later)
    assert (job["state"], job["reports"]) == ("finished", 1), taken.log
    for panda_id in ids:
        job = taken.verdict(panda_id)
        assert (job["state"], job["reports"]) == ("failed", 1), (job, taken.log)
        # a step that Slurm takes from a controller's srun at once is told by the second life instead
        assert within or job["pilot_error_code"] == 1379
    taken.ended()
    taken.nothing_left()
