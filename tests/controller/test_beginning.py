"""A launcher that queues what cannot begin: it is waited for, but not for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from .rig import Rig, head
from .starter import Message, exited, patient, started

TWO = {"nodes": 2, "mode": "mpi"}
SHORT_S = 0.05

RigOf = Callable[..., Rig]


def rig_with(rig_of: RigOf, launcher: str = "flux", hosts: Iterable[str] = ("node1", "node2")) -> Rig:
    rig: Rig = rig_of(patient, head(hosts=list(hosts), launcher=launcher))
    rig.driver.beginnings.limit_s = SHORT_S
    return rig


def mark(rig: Rig, name: str) -> Path:
    return rig.run.path / "plans" / f"{name}.ranks" / "begun"


def runs(rig: Rig, name: str) -> None:
    rig.until(lambda: f"{name}/launch" in rig.starter.spawned() and rig.driver.jobs[name].started)


def told_to_end(rig: Rig) -> list[str]:
    return [order["id"] for order in rig.starter.orders if order["do"] == "signal"]


@pytest.mark.parametrize("launcher", ["flux", "jsrun"])
def test_ranks_that_never_begin_end_the_launch_with_what_was_asked(rig_of: RigOf, launcher: str) -> None:
    rig = rig_with(rig_of, launcher)
    rig.take("spec-0", ranks_per_node=2, **TWO)
    rig.until_over()
    (report,) = rig.driver.reports
    assert (report.state, report.reason) == ("failed", "launcher")
    assert f"{launcher} was asked for 4 ranks on 2 nodes and has begun none" in report.detail
    assert told_to_end(rig) == ["spec-0/launch"]


def test_a_launch_whose_first_rank_has_begun_is_left_alone(rig_of: RigOf) -> None:
    rig = rig_with(rig_of)
    rig.driver.beginnings.limit_s = 3600  # until the mark is there
    rig.take("spec-0", **TWO)
    runs(rig, "spec-0")
    mark(rig, "spec-0").touch()
    job = rig.driver.jobs["spec-0"]
    assert rig.driver.beginnings.overdue(job.state.at + 3700) == []
    assert list(rig.driver.beginnings.due) == [], "nobody looks twice"
    rig.starter.say(exited("spec-0/launch"))
    rig.until_over()
    assert rig.ends() == {"0": ("finished", "ok")}
    assert told_to_end(rig) == []


def test_a_launch_may_wait_for_what_another_one_of_this_run_holds(rig_of: RigOf) -> None:
    rig = rig_with(rig_of)
    first = rig.take("spec-0", cpus_per_rank=1, **TWO)
    runs(rig, "spec-0")
    mark(rig, "spec-0").touch()
    rig.until(lambda: not list(rig.driver.beginnings.due))
    rig.take("spec-1", cpus_per_rank=1, **TWO)
    runs(rig, "spec-1")
    timer = threading.Timer(10 * SHORT_S, lambda: rig.starter.say(exited("spec-0/launch")))
    timer.start()
    rig.until_over()
    timer.join()
    assert first.state.phase == "done"
    assert rig.ends() == {"0": ("finished", "ok"), "1": ("failed", "launcher")}
    assert told_to_end(rig) == ["spec-1/launch"], "and only after the other one's end"


@pytest.mark.parametrize("launcher", ["srun", "mpiexec", "aprun"])
def test_other_launchers_are_not_watched(rig_of: RigOf, launcher: str) -> None:
    rig = rig_with(rig_of, launcher, ("nid00001", "nid00002"))
    rig.take("spec-0", **TWO)
    runs(rig, "spec-0")
    assert list(rig.driver.beginnings.due) == []
    rig.starter.say(exited("spec-0/launch"))
    rig.until_over()


def test_an_end_of_its_own_before_the_time_is_over_means_what_it_says(rig_of: RigOf) -> None:
    def refusing(order: Message) -> Iterable[Message]:
        return [started(order["id"]), exited(order["id"], 1)]

    rig = rig_of(refusing, head(hosts=["node1", "node2"], launcher="flux"))
    rig.take("spec-0", **TWO)
    rig.until_over()
    assert [report.reason for report in rig.driver.reports] == ["payload-exit"]
