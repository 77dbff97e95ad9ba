"""The health gate: a broken node is set aside by name before any job is taken, and jobs run on the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilotwrap.model.errors import AllocationError, BadInputError
from pilotwrap.model.job import JobSpec
from pilotwrap.run.options import RunOptions
from pilotwrap.run.supply import _shape
from pilotwrap.run.survey import STEP, surveyed
from pilotwrap.site.schedulers.nodelist import nodes_of

from .rig import Rig, head, surroundings
from .starter import Message, Script, ScriptedStarter, exited, obedient, started

if TYPE_CHECKING:
    from pilotwrap.model.allocation import AllocationFacts
    from pilotwrap.run.rundir import RunDirectory

StarterOf = Callable[[Script], ScriptedStarter]
SNAPSHOTS = Path(__file__).parents[1] / "snapshots"
NODES = ("node1", "node2", "node3", "node4")
ANSWER_MOST = 16 * 1024
"""Bytes of one node's answer: a thousand of them are read in one go."""


def answer(folder: str, host: str, snapshot: str) -> int:
    """Write what a node says, as a starter on it does, and return how many bytes that are."""
    said = json.loads((SNAPSHOTS / f"{snapshot}.json").read_text())
    said["host"] = host
    said["variables"] |= {"SLURM_JOB_ID": "1", "SLURMD_NODENAME": host, "SLURM_JOB_NODELIST": host}
    text = json.dumps(said)
    (Path(folder) / f"{host}-1.json").write_text(text)
    return len(text)


def survey(starter_of: StarterOf, run: RunDirectory, snapshots: dict[str, str]) -> AllocationFacts:
    def script(order: Message) -> Iterable[Message]:
        assert order["id"] == STEP
        for host, snapshot in snapshots.items():
            assert answer(order["argv"][-1], host, snapshot) < ANSWER_MOST
        return [started(STEP), exited(STEP)]

    starter = starter_of(script)
    found = surveyed(head(hosts=tuple(snapshots)), starter.link, run, ("python3", "starter.pyz"))
    assert len(starter.orders) == 1, "all nodes are asked by one step"
    return found


@pytest.fixture
def three_of_four(starter_of: StarterOf, run_directory: RunDirectory) -> AllocationFacts:
    well = dict.fromkeys(NODES, "nvidia-healthy")
    return survey(starter_of, run_directory, {**well, "node2": "nvidia-lost"})


def rig_on(run: RunDirectory, starter_of: StarterOf, allocation: AllocationFacts, *, accept_fewer: bool = False) -> Rig:
    around = surroundings(run, allocation=allocation, accept_fewer=accept_fewer)
    return Rig(around, starter_of(obedient))


def hosts_of(rig: Rig) -> Sequence[str]:
    (order,) = [order for order in rig.starter.orders if order["do"] == "spawn"]
    (word,) = [word for word in order["argv"] if word.startswith("--nodelist=")]
    return list(nodes_of(str(word).removeprefix("--nodelist=")))


def test_a_dead_device_is_named_with_its_node_and_reason(three_of_four: AllocationFacts) -> None:
    ((host, reason, detail),) = [(node.host, node.reason, node.detail) for node in three_of_four.unfit]
    assert (host, reason) == ("node2", "node-unusable")
    assert ": lost" in detail
    assert "0000:" in detail
    assert three_of_four.hosts == ("node1", "node3", "node4")


def test_the_job_runs_on_the_others(
    run_directory: RunDirectory, starter_of: StarterOf, three_of_four: AllocationFacts
) -> None:
    rig = rig_on(run_directory, starter_of, three_of_four)
    rig.take("spec-0", nodes=3)
    rig.until_over()
    assert hosts_of(rig) == ["node1", "node3", "node4"]
    assert rig.driver.reports[0].state == "finished"


def test_a_job_that_needs_all_of_them_hears_who_is_missing_and_why(
    run_directory: RunDirectory, starter_of: StarterOf, three_of_four: AllocationFacts
) -> None:
    rig = rig_on(run_directory, starter_of, three_of_four)
    rig.take("spec-0", nodes=4)
    rig.until_over()
    (report,) = rig.driver.reports
    assert report.reason == "allocation"
    assert "node2: " in report.detail
    assert "lost" in report.detail
    assert rig.starter.spawned() == []


def test_with_accept_fewer_it_runs_on_those_that_are_left(
    run_directory: RunDirectory, starter_of: StarterOf, three_of_four: AllocationFacts
) -> None:
    rig = rig_on(run_directory, starter_of, three_of_four, accept_fewer=True)
    rig.take("spec-0", nodes=4)
    rig.until_over()
    assert hosts_of(rig) == ["node1", "node3", "node4"]


def test_a_worker_that_lacks_nodes_fetches_nothing(
    run_directory: RunDirectory, starter_of: StarterOf, three_of_four: AllocationFacts
) -> None:
    rig = rig_on(run_directory, starter_of, three_of_four)
    with pytest.raises(AllocationError, match=r"set aside: node2: .* lost"):
        _shape(rig.driver, JobSpec(command=("/bin/sh",), nodes=4))
    with pytest.raises(BadInputError, match="ask for less"):
        _shape(rig.driver, JobSpec(command=("/bin/sh",), nodes=5))


def test_a_worker_that_accepts_fewer_gets_those_that_are_left(
    run_directory: RunDirectory, starter_of: StarterOf, three_of_four: AllocationFacts
) -> None:
    rig = rig_on(run_directory, starter_of, three_of_four, accept_fewer=True)
    assert _shape(rig.driver, JobSpec(command=("/bin/sh",), nodes=4)).nodes == 3


def test_it_is_not_accepted_without_being_said(tmp_path: Path) -> None:
    assert not RunOptions(run_dir=tmp_path).accept_fewer


def test_a_thousand_answers_are_one_step_and_few_groups(starter_of: StarterOf, run_directory: RunDirectory) -> None:
    snapshots = dict.fromkeys((f"node{number}" for number in range(1000)), "nvidia-healthy")
    found = survey(starter_of, run_directory, {**snapshots, "node317": "nvidia-lost"})
    assert (len(found.hosts), len(found.groups), [node.host for node in found.unfit]) == (999, 1, ["node317"])
