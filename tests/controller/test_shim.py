"""The rank shim of a run: compiled while its nodes are surveyed, and started as it stands until it is."""

from collections.abc import Callable
from pathlib import Path

from pilotwrap.host import compiled
from pilotwrap.model.node import NodeFacts
from pilotwrap.run.rundir import RunDirectory
from pilotwrap.run.shim import COMPILED, begin_to_compile, shim_argv

from .rig import head
from .starter import Message, Script, ScriptedStarter, silent

StarterOf = Callable[[Script], ScriptedStarter]

HOST = ("/usr/bin/python3", "-I", "-S", "/starter.pyz")


def test_both_sides_call_it_the_same() -> None:
    assert compiled.PROGRAM == COMPILED


def orders(starter: ScriptedStarter, facts: NodeFacts, run: RunDirectory) -> list[Message]:
    begin_to_compile(facts, starter.link, run, HOST)
    starter.link.send({"do": "last"})
    return list(iter(starter.next_order, {"do": "last"}))


def test_it_is_compiled_by_the_python_that_runs_it(starter_of: StarterOf, run_directory: RunDirectory) -> None:
    (order,) = orders(starter_of(silent), head(hosts=("node1", "node2")), run_directory)
    assert order["argv"] == [*HOST, "compile", str(run_directory.path / "plans")]
    assert order.get("user") is None


def test_one_node_compiles_nothing(starter_of: StarterOf, run_directory: RunDirectory) -> None:
    assert orders(starter_of(silent), head(), run_directory) == []


def test_a_rank_is_started_as_it_stands_until_there_is_a_compiled_one(run_directory: RunDirectory) -> None:
    order = Path("/run/order.json")
    assert shim_argv(run_directory, HOST, order) == (*HOST, "shim", str(order))
    program = run_directory.path / "plans" / COMPILED
    program.touch()
    assert shim_argv(run_directory, HOST, order) == (*HOST[:3], str(program), str(order))
