"""Any shape on every known machine: a plan that keeps what plans keep, or one line that says what to change."""

import pytest
from fuzz.planning import REFUSALS, answer, kept
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pilotwrap.detect.node import node_facts
from pilotwrap.model.cpulist import cpus_of
from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import NodeFacts
from pilotwrap.model.plan import Plan
from pilotwrap.site.machines.listing import machine_named, machines
from pilotwrap.site.machines.synthetic import machine_snapshot

MACHINES = [machine.name for machine in machines()]


def facts_of(name: str, nodes: int = 1) -> NodeFacts:
    machine = machine_named(name)
    return node_facts(machine_snapshot(machine, nodes), machine)


def job(**shape: object) -> JobSpec:
    return JobSpec.model_validate({"command": ["true"], **shape})


SHAPES = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["copies", "mpi"]),
        "nodes": st.integers(1, 4),
        "ranks_per_node": st.integers(1, 16) | st.sampled_from([56, 64, 104, 128, 300, 16_384]),
        "gpus_per_rank": st.integers(0, 3),
        "gpu_sharing": st.booleans(),
        "gpu_vendor": st.sampled_from(["any", "nvidia", "amd", "intel"]),
        "smt": st.integers(1, 4),
        "binding": st.sampled_from(["closest", "reversed", "none"]),
    },
    optional={"cpus_per_rank": st.integers(1, 70), "memory_mib_per_rank": st.integers(1, 2**50)},
)


@settings(max_examples=300, deadline=5000)
@given(st.sampled_from(MACHINES), SHAPES)
def test_any_shape_on_any_machine_is_a_plan_or_one_line(name: str, shape: dict[str, object]) -> None:
    facts, asked = facts_of(name, 4), job(**shape)
    made = answer(asked, facts)
    if not isinstance(made, Plan):
        assert made.exit_code in REFUSALS
        assert str(made).isprintable()
        assert made.remedy
        return
    kept(made, asked, facts)
    assert len(made.nodes) == asked.nodes
    assert [one.local_rank for one in made.bindings] == list(range(asked.ranks_per_node))
    for one in made.bindings:
        assert one.cpus is None or len(cpus_of(one.cpus)) % asked.smt == 0


@settings(max_examples=100, deadline=5000)
@given(st.sampled_from(MACHINES), st.integers(1, 8), st.integers(1, 16))
def test_a_rank_never_has_far_cores_while_near_ones_are_free(name: str, ranks: int, cpus: int) -> None:
    facts = facts_of(name)
    made = answer(job(ranks_per_node=ranks, cpus_per_rank=cpus, gpus_per_rank=1), facts)
    assume(isinstance(made, Plan))
    assert isinstance(made, Plan)
    by_name = {one.uuid or one.pci_address: one for one in facts.accelerators}
    used = {cpu for one in made.bindings for cpu in cpus_of(one.cpus or "")}
    firsts = {cpus_of(core)[0] for core in facts.cpus.cores}
    for one in made.bindings:
        device = next(found for name, found in by_name.items() if one.accelerators[0].split("/")[0] == name)
        near = set(cpus_of(device.near_cpus or "")) & firsts
        own = set(cpus_of(one.cpus or ""))
        assert not (near - used) or own <= near


@pytest.mark.parametrize("name", MACHINES)
def test_as_many_ranks_as_devices_get_each_its_own_with_a_fair_share_of_cores(name: str) -> None:
    facts = facts_of(name)
    devices = [one for one in facts.accelerators if one.health == "ok"]
    ranks = len(devices) or 1
    made = answer(job(ranks_per_node=ranks, gpus_per_rank=min(1, len(devices))), facts)
    assert isinstance(made, Plan)
    kept(made, job(ranks_per_node=ranks, gpus_per_rank=min(1, len(devices))), facts)
    assert {len(cpus_of(one.cpus or "")) for one in made.bindings} == {len(facts.cpus.cores) // ranks}
