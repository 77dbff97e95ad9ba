"""Who fetches where an allocation has several nodes: the head for all, or each node for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plan.facts import alike

from pilotwrap.model.errors import BadInputError, UsageError
from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import NodeFacts
from pilotwrap.run.controller import _own_node
from pilotwrap.run.fanout import Share, share_in, spreads
from pilotwrap.run.options import PilotOptions, RunOptions
from pilotwrap.run.rundir import write_file
from pilotwrap.site.machines.choice import Choice
from pilotwrap.site.machines.listing import machines

from .rig import head

TWO = ("node1", "node2")
ONE_NODE, TWO_NODES = JobSpec(command=("true",)), JobSpec(command=("true",), nodes=2)


def told(**given: Any) -> RunOptions:  # noqa: ANN401 - of RunOptions
    return RunOptions(**{"run_dir": Path("runs"), "worker": ONE_NODE, **given})


def in_a_step(size: int) -> NodeFacts:
    facts = head(hosts=TWO)
    inside = facts.allocation.model_copy(update={"inside_step": True})
    launcher = facts.launcher.model_copy(update={"size": size})
    return facts.model_copy(update={"allocation": inside, "launcher": launcher})


@pytest.mark.parametrize(
    ("facts", "given", "wanted"),
    [
        (head(hosts=TWO), {}, True),
        (head(hosts=TWO), {"controllers": "node"}, True),
        (head(hosts=TWO), {"controllers": "head"}, False),
        (head(hosts=TWO), {"worker": None}, False),
        (head(hosts=TWO), {"worker": TWO_NODES}, False),
        (head(hosts=TWO), {"specs": (ONE_NODE,)}, False),
        (head(hosts=TWO), {"part": Path("nodes")}, False),
        (head(), {"controllers": "node"}, False),
        (in_a_step(1), {}, True),
        (in_a_step(2), {}, False),
        (head(hosts=TWO), {"pilot": PilotOptions()}, True),
    ],
)
def test_each_node_fetches_where_that_can_be(facts: NodeFacts, given: dict[str, Any], wanted: object) -> None:
    assert spreads(told(**given), alike(facts)) is wanted


@pytest.mark.parametrize("given", [{"controllers": "node"}, {"pilot": PilotOptions()}])
@pytest.mark.parametrize("more", [{"worker": TWO_NODES}, {"specs": (ONE_NODE,)}])
def test_jobs_that_no_node_alone_can_run_are_refused_there(given: dict[str, Any], more: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match="no controller of one node can do that"):
        spreads(told(**given, **more), alike(head(hosts=TWO)))


@pytest.mark.parametrize(("host", "wanted"), [("node1", False), ("node2", True)])
def test_a_pilot_s_last_fit_node_is_reached_where_we_are_not_on_it(host: str, *, wanted: bool) -> None:
    facts = head(hosts=TWO)
    fit = alike(facts)
    one = fit.model_copy(update={"groups": (fit.groups[0].model_copy(update={"hosts": (host,)}),)})
    assert spreads(told(pilot=PilotOptions()), one) is wanted
    assert spreads(told(), one) is False


def test_a_pilot_stays_on_its_own_node_unless_each_gets_a_controller() -> None:
    pilot = told(pilot=PilotOptions())
    assert _own_node(pilot, head(hosts=TWO)) is None
    for own in (_own_node(pilot, head()), _own_node(pilot, in_a_step(2))):
        assert own is not None
        assert own.allocation.nodes == ("node1",)
    with pytest.raises(UsageError, match="runs on one node, and here are 2"):
        _own_node(told(pilot=PilotOptions(), controllers="head"), head(hosts=TWO))


def test_what_the_user_says_of_the_machine_reaches_each_node(tmp_path: Path) -> None:
    choice = Choice(named=machines()[0], own=machines())
    write_file(tmp_path / "share.json", Share(choice=choice).to_json())
    assert share_in(tmp_path).choice == choice


def test_words_of_the_head_that_cannot_be_read_are_no_share(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no share of the head's work"):
        share_in(tmp_path)
