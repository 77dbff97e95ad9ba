"""The table of reasons is whole, and of several exit codes the contract's worst counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model import errors
from pilotwrap.model.errors import PilotwrapError
from pilotwrap.model.reasons import EXIT_CODES, NODE_REASONS, REASONS, exit_code_of

CONTRACT = {
    0: {"ok"},
    1: {"payload-exit", "payload-signal", "out-of-memory", "stage-in", "stage-out", "walltime"},
    2: {"bad-input", "usage"},
    3: {
        *("node-unusable", "node-lost", "allocation", "launcher", "binding", "image"),
        *("environment", "credential", "endpoint", "pilot", "panda-queue"),
    },
    4: {"server"},
    5: {"no-work"},
    124: {"preempted"},
    143: {"cancelled"},
    70: {"internal"},
}
ERRORS = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, PilotwrapError) and kind is not PilotwrapError
}


def test_every_reason_has_the_contract_s_exit_code() -> None:
    assert {code: {r for r, own in EXIT_CODES.items() if own == code} for code in EXIT_CODES.values()} == CONTRACT
    assert set(EXIT_CODES) == set(REASONS)


def test_a_fault_of_the_node_is_what_exits_with_3() -> None:
    assert CONTRACT[3] == NODE_REASONS


@given(st.lists(st.sampled_from(sorted({*EXIT_CODES.values(), 130})), min_size=1))
def test_one_of_the_codes_counts_and_order_does_not(codes: list[int]) -> None:
    found = exit_code_of(codes)
    assert found in codes
    assert found == exit_code_of(reversed(codes)) == exit_code_of(set(codes))
    assert found == 0 or any(codes)


@pytest.mark.parametrize(("codes", "worst"), [([1, 3], 3), ([0, 1], 1), ([0], 0), ([], 0), ([3, 70], 70), ([4, 1], 4)])
def test_a_broken_node_beats_a_failed_job(codes: list[int], worst: int) -> None:
    assert exit_code_of(codes) == worst


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_line_with_its_reason_s_exit_code(name: str) -> None:
    error = ERRORS[name]("it\nbroke", why="of  this", remedy="do that")
    assert str(error) == "it broke: of this; do that"
    assert error.exit_code == EXIT_CODES[error.reason]
    assert str(ERRORS[name]("alone")) == "alone"


def test_each_error_stands_in_the_drawn_tree_with_its_reason_and_code() -> None:
    drawn = {line.split()[1]: line.split()[2:4] for line in (errors.__doc__ or "").splitlines() if "── " in line}
    assert drawn == {name: [kind.reason, str(EXIT_CODES[kind.reason])] for name, kind in ERRORS.items()}
    assert len({kind.reason for kind in ERRORS.values()}) == len(ERRORS)
