"""The benchmarks can be started, and what they measure with measures right; their times nobody asserts."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
PARTS = {"batch.py", "fscalls.py", "turns.py"}
PROGRAMS = sorted({path.name for path in FOLDER.glob("*.py")} - PARTS)


def said(*words: str) -> str:
    """Return what a Python in the benchmarks' folder prints."""
    return subprocess.run(
        [sys.executable, *words], cwd=FOLDER, capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_benchmark_knows_its_options_and_the_page_of_all_knows_it(program: str) -> None:
    assert "--help" in said(program, "--help")
    assert f"python benchmarks/{program}" in (FOLDER / "README.md").read_text()


MOST = """
from shapes import Rank, most
print(most([Rank(*rank) for rank in {ranks}]))
"""


@pytest.mark.parametrize(
    ("ranks", "cores"),
    [
        ([(0, 2, "a", 1), (1, 3, "a", 1), (2, 4, "a", 1)], 2),
        ([(0, 2, "a", 1), (2, 4, "a", 2)], 2),
        ([(0, 9, "a", 1), (1, 2, "a", 1), (3, 5, "a", 2)], 3),
        ([(0, 2, "a", 2), (0, 2, "b", 2)], 2),
    ],
    ids=["in turns", "one after the other", "beside a long one", "two nodes"],
)
def test_cores_that_are_held_at_once_on_one_node_are_counted(ranks: object, cores: int) -> None:
    assert said("-c", MOST.format(ranks=ranks)) == f"{cores}\n"


TURNS = """
from turns import took
order = []
def call(name, took):
    def one():
        order.append(name)
        return took.pop(0)
    return one
both = took(3, {"a": call("a", [0, 1, 5, 3]), "b": call("b", [0, 2, 2, 9])})
print(*both["a"], *both["b"], "".join(order))
"""


def test_calls_take_turns_and_the_first_round_is_left_out() -> None:
    assert said("-c", TURNS) == "3 1 2 2 abababab\n"
