"""What speaks against a shape is what the allocation never had, or the nodes that were set aside, by name."""

import pytest
from plan.facts import alike, allocation, device, job, node

from pilotwrap.model.allocation import UnfitNode
from pilotwrap.model.errors import AllocationError, BadInputError, PilotwrapError
from pilotwrap.plan.ledger import Ledger, ledger_of
from pilotwrap.plan.limits import too_late
from pilotwrap.plan.shortage import lowered, shortage

DEAD = UnfitNode(host="node4", reason="node-unusable", detail="nvidia A100 at 0000:01:00.0 is unusable: lost")


def three_of_four() -> Ledger:
    return ledger_of(alike(node(devices=[device(1)], given=allocation(["node1", "node2", "node3"]))))


def said(error: PilotwrapError | None) -> str:
    assert error is not None
    return str(error)


def test_what_fits_on_the_fit_nodes_lacks_nothing() -> None:
    assert shortage(three_of_four(), job(nodes=3, gpus_per_rank=1), [DEAD]) is None


@pytest.mark.parametrize("shape", [{"nodes": 4}, {"nodes": 4, "gpus_per_rank": 1}])
def test_too_few_because_nodes_were_set_aside_is_the_allocations_fault_and_names_them(shape: dict[str, int]) -> None:
    error = shortage(three_of_four(), job(**shape), [DEAD])
    assert isinstance(error, AllocationError)
    assert error.exit_code == 3
    assert f"node4: {DEAD.detail}" in said(error)
    assert "--accept-fewer" in said(error)


@pytest.mark.parametrize("shape", [{"nodes": 5}, {"gpus_per_rank": 2}, {"nodes": 4, "cpus_per_rank": 5}])
def test_more_than_was_granted_is_bad_input(shape: dict[str, int]) -> None:
    error = shortage(three_of_four(), job(**shape), [DEAD])
    assert isinstance(error, BadInputError)
    assert error.exit_code == 2
    assert "set aside" not in said(error)


def test_a_thousand_nodes_set_aside_stay_one_short_sentence() -> None:
    unfit = [DEAD.model_copy(update={"host": f"other{number}"}) for number in range(1000)]
    text = said(shortage(three_of_four(), job(nodes=1003), unfit))
    assert "and 990 more" in text
    assert len(text) < 1500


def test_fewer_nodes_are_as_many_as_are_left() -> None:
    assert [lowered(three_of_four(), job(nodes=nodes)) for nodes in (1, 3, 4, 9)] == [1, 3, 3, 3]


def test_what_no_node_can_do_is_not_lowered() -> None:
    assert lowered(three_of_four(), job(nodes=4, cpus_per_rank=64)) == 4


@pytest.mark.parametrize(
    ("walltime_s", "left_s", "late"), [(None, 5, 0), (5, None, 0), (5, 5, 0), (5.1, 5, 1), (1, -1, 1)]
)
def test_only_a_known_wall_time_can_be_too_late(walltime_s: float | None, left_s: float | None, late: int) -> None:
    assert bool(too_late(walltime_s, left_s)) == bool(late)
