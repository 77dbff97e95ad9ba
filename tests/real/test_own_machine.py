"""One's own machine file on every node of a real Slurm: no rank gets the cores that it keeps, whoever fetches."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from real.worker import IN_A_STEP, Worker, lab, worker

from pilotwrap.cli.inspect import snapshot_here
from pilotwrap.detect.node import node_facts
from pilotwrap.site.machines.draft import draft

__all__ = ["lab", "worker"]

CPUS = sorted(os.sched_getaffinity(0))
SHOWS = [sys.executable, "-c", "import os; print(os.environ['SLURMD_NODENAME'], sorted(os.sched_getaffinity(0)))"]

pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="one core cannot be kept while another works: needs two CPUs")


@pytest.fixture
def mine(worker: Worker) -> Path:
    """Give a drafted machine file whose first CPU is kept for the system."""
    snapshot = snapshot_here()
    text = draft(node_facts(snapshot), snapshot)
    text, count = re.subn('reserved_cpus = ""', f'reserved_cpus = "{CPUS[0]}"', text)
    assert count == 1
    path = worker.home / "mine.toml"
    path.write_text(text)
    return path


def shown(worker: Worker, panda_ids: Sequence[int]) -> list[str]:
    for panda_id in panda_ids:
        job = worker.verdict(panda_id)
        assert (job["state"], job["reports"]) == ("finished", 1), (job, worker.log)
    return sorted(line for panda_id in panda_ids for line in worker.printed(panda_id))


def test_every_node_s_controller_obeys_it(worker: Worker, mine: Path) -> None:
    panda_ids = [worker.put(SHOWS, cpus_per_rank=1) for _ in range(4)]
    worker.start("--machine", str(mine), "--controllers", "node", "--jobs", "4")
    assert worker.ended() == "COMPLETED", worker.log
    assert shown(worker, panda_ids) == [f"{node} [{CPUS[1]}]" for node in worker.slurm.nodes for _ in range(2)]


@pytest.mark.parametrize("within", [(), IN_A_STEP], ids=["in the batch shell", "in a step"])
def test_a_job_of_all_nodes_obeys_it_on_each(worker: Worker, mine: Path, within: Sequence[str]) -> None:
    panda_ids = [worker.put(SHOWS, mode="copies", nodes=2, ranks_per_node=1, cpus_per_rank=1)]
    worker.start("--machine", str(mine), "--jobs", "1", within=within)
    assert worker.ended() == "COMPLETED", worker.log
    assert shown(worker, panda_ids) == [f"{node} [{CPUS[1]}]" for node in worker.slurm.nodes]


def test_it_reaches_every_node_s_image_that_does_not_see_it(worker: Worker, mine: Path) -> None:
    configuration = worker.home / "config/pilotwrap/machines"
    configuration.mkdir(parents=True)
    mine.rename(configuration / "mine.toml")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    image = shlex.join(["env", "XDG_CONFIG_HOME=/nowhere", "HOME=/nowhere", f"PATH={path}"])
    panda_ids = [worker.put(SHOWS, cpus_per_rank=1) for _ in range(2)]
    words = ("--enter", image, "--controllers", "node", "--jobs", "2")
    worker.start(*words, within=("env", f"XDG_CONFIG_HOME={worker.home}/config"))
    assert worker.ended() == "COMPLETED", worker.log
    assert shown(worker, panda_ids) == [f"{node} [{CPUS[1]}]" for node in worker.slurm.nodes]
