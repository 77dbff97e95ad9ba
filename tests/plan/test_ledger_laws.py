"""Nothing is lent twice, all of it comes back, and what is possible is lent when everything is free."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan.facts import alike, allocation, cores, job, node, shapes

from pilotwrap.model.allocation import AllocationFacts, NodeGroup
from pilotwrap.model.job import JobSpec
from pilotwrap.plan.ledger import Allotment, Ledger, give_back, ledger_of, lend, needs, possible, slots


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    hosts = draw(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, unique=True))
    given_to = allocation(hosts)
    groups = [
        NodeGroup(hosts=(host,), facts=node(draw(cores()), memory_mib=draw(st.integers(0, 9000)), given=given_to))
        for host in hosts
    ]
    return ledger_of(AllocationFacts(head=groups[0].facts, groups=tuple(groups)))


def fits(ledger: Ledger, lent: list[Allotment]) -> None:
    for host, every in ledger.all_cores.items():
        held = [core for one in lent if host in one.hosts for core in one.cores]
        assert len(held) == len(set(held))
        assert sorted((*held, *ledger.free[host])) == sorted(every)
        memory = sum(one.memory_mib for one in lent if host in one.hosts)
        assert ledger.memory_mib[host] == ledger.all_memory_mib[host] - memory >= 0


@given(ledgers(), st.lists(st.tuples(shapes(), st.booleans()), max_size=8))
def test_nothing_is_lent_twice_and_everything_comes_back(ledger: Ledger, steps: list[tuple[JobSpec, bool]]) -> None:
    whole, lent = ledger, []
    for shape, back in steps:
        ledger, allotment = lend(ledger, shape)
        if allotment is not None:
            lent.append(allotment)
        fits(ledger, lent)
        assert ledger.idle == (not lent)
        if back and lent:
            ledger = give_back(ledger, lent.pop(0))
            fits(ledger, lent)
    for allotment in lent:
        ledger = give_back(ledger, allotment)
    assert (ledger, ledger.idle) == (whole, True)


@given(ledgers(), shapes())
def test_an_allotment_is_what_the_shape_needs(ledger: Ledger, shape: JobSpec) -> None:
    allotment = lend(ledger, shape)[1]
    if allotment is not None:
        assert (len(allotment.cores), allotment.memory_mib) == needs(ledger, shape)
        assert len(set(allotment.hosts)) == shape.nodes
        assert len(allotment.cores) >= shape.ranks_per_node * (shape.cpus_per_rank or 0)


@given(ledgers(), shapes())
def test_slots_are_as_many_as_can_be_lent(ledger: Ledger, shape: JobSpec) -> None:
    count, left = slots(ledger, shape), ledger
    for _ in range(count):
        left, allotment = lend(left, shape)
        assert allotment is not None
    assert lend(left, shape)[1] is None
    assert possible(ledger, shape) == (count > 0)


@given(ledgers(), shapes())
def test_what_is_possible_stays_possible_while_others_run(ledger: Ledger, shape: JobSpec) -> None:
    assert possible(lend(ledger, job(cpus_per_rank=1))[0], shape) == possible(ledger, shape)


def test_a_node_without_a_core_lends_nothing() -> None:
    ledger = ledger_of(alike(node(cores=(), memory_mib=0)))
    assert (slots(ledger, job()), slots(ledger, job(cpus_per_rank=1))) == (0, 0)


@pytest.mark.parametrize(
    ("shape", "fit"),
    [
        ({"cpus_per_rank": 1}, 4),
        ({"cpus_per_rank": 2}, 2),
        ({"cpus_per_rank": 1, "ranks_per_node": 3}, 1),
        ({}, 1),
        ({"cpus_per_rank": 1, "memory_mib_per_rank": 3000}, 2),
        ({"cpus_per_rank": 1, "gpus_per_rank": 1}, 1),
        ({"cpus_per_rank": 1, "gpus_per_rank": 1, "gpu_sharing": True}, 4),
        ({"cpus_per_rank": 5}, 0),
        ({"nodes": 2}, 0),
    ],
)
def test_as_many_jobs_fit_as_cores_memory_and_devices_allow(shape: dict[str, int], fit: int) -> None:
    assert slots(ledger_of(alike(node())), job(**shape)) == fit
