"""The allocation as Slurm's variables give it, where its commands say nothing."""

import json
import sys

from real.slurm import Slurm

from pilotwrap.model.node import NodeFacts
from pilotwrap.model.snapshot import CommandSaid, Snapshot
from pilotwrap.site.schedulers import slurm


def test_the_end_time_serves_where_squeue_says_nothing() -> None:
    said = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node1", "SLURM_JOB_END_TIME": "1795249800"}
    snapshot = Snapshot(host="node1", taken_at="2026-11-21T08:00:00Z", variables=said)
    left = slurm.allocation(snapshot).time_left_s
    assert left == 1795249800 - 1795248000
    assert slurm.allocation(snapshot.model_copy(update={"taken_at": "yesterday"})).time_left_s is None
    failed = CommandSaid(argv=("squeue",), exit=1)
    assert slurm.allocation(snapshot.model_copy(update={"commands": (failed,)})).time_left_s == left


INSPECT = (sys.executable, "-m", "pilotwrap", "inspect", "--json")


def seen(slurm: Slurm, *launcher: str) -> NodeFacts:
    return NodeFacts.model_validate(json.loads(slurm.run([*launcher, *INSPECT]).stdout))


def test_the_shell_of_salloc_is_a_login_node_s_and_its_step_is_a_step(slurm: Slurm) -> None:
    shell = seen(slurm, "salloc", "--quiet", "--nodes=2", "--time=5")
    assert (shell.vantage, shell.allocation.on_node, shell.allocation.inside_step) == ("login", False, False)
    assert (shell.allocation.nodes, shell.launcher.command) == (slurm.nodes, "srun")
    assert shell.allocation.time_left_s is not None
    step = seen(slurm, "salloc", "--quiet", "--nodes=2", "--time=5", "srun", "--nodes=1", "--ntasks=1")
    assert (step.vantage, step.allocation.on_node, step.allocation.inside_step) == ("step", True, True)
    assert (step.allocation.nodes, step.launcher.rank, step.host) == (slurm.nodes, 0, slurm.nodes[0])
