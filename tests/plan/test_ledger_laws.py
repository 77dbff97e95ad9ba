"""Nothing is lent twice, all of it comes back, and what is possible is lent when everything is free."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan.facts import SHIM, alike, allocation, cores, device, devices, job, node, shapes

from pilotwrap.model.allocation import AllocationFacts, NodeGroup
from pilotwrap.model.cpulist import cpus_of
from pilotwrap.model.errors import BadInputError
from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import Accelerator
from pilotwrap.model.plan import Binding
from pilotwrap.plan.binding import bindings
from pilotwrap.plan.ledger import Allotment, Ledger, give_back, ledger_of, lend, needs, possible, slots
from pilotwrap.plan.request import PlanRequest
from pilotwrap.site.accelerators.vendors import MASKS


@st.composite
def placed(draw: st.DrawFn) -> list[Accelerator]:
    """Give devices next to some CPUs, some of them in two slices."""
    found = []
    for one in draw(devices()):
        near = draw(st.sampled_from([None, "0-3", "4-7", "0-11", "no list"]))
        found.append(one.model_copy(update={"near_cpus": near}))
        if one.vendor == "nvidia" and draw(st.booleans()):
            slices = {"kind": "mig", "near_cpus": near}
            found[-1] = one.model_copy(update={**slices, "uuid": f"MIG-{one.uuid}-0"})
            found.append(one.model_copy(update={**slices, "uuid": f"MIG-{one.uuid}-1"}))
    return found


@st.composite
def allocations(draw: st.DrawFn) -> AllocationFacts:
    hosts = draw(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, unique=True))
    given_to, cut = allocation(hosts), draw(st.integers(0, len(hosts)))
    groups = [
        NodeGroup(
            hosts=tuple(part),
            facts=node(draw(cores()), draw(placed()), memory_mib=draw(st.integers(0, 9000)), given=given_to),
        )
        for part in (hosts[:cut], hosts[cut:])
        if part
    ]
    return AllocationFacts(head=groups[0].facts, groups=tuple(groups))


def ledgers() -> st.SearchStrategy[Ledger]:
    return allocations().map(ledger_of)


def fits(ledger: Ledger, lent: list[Allotment]) -> None:
    for host, every in ledger.all_cores.items():
        here = [one for one in lent if host in one.hosts]
        held = [core for one in here for core in one.cores]
        assert len(held) == len(set(held))
        assert sorted((*held, *ledger.free[host])) == sorted(every)
        memory = sum(one.memory_mib for one in here)
        assert ledger.memory_mib[host] == ledger.all_memory_mib[host] - memory >= 0
        taken = [name for one in here if not one.shared for name in one.devices]
        free = [device.name for device in ledger.devices[host]]
        assert sorted((*taken, *free)) == sorted({device.name for device in ledger.all_devices[host]})


@given(ledgers(), st.lists(st.tuples(shapes(), st.booleans()), max_size=8))
def test_nothing_is_lent_twice_and_everything_comes_back(ledger: Ledger, steps: list[tuple[JobSpec, bool]]) -> None:
    whole, lent = ledger, []
    for shape, back in steps:
        before = ledger
        ledger, allotment = lend(ledger, shape)
        if allotment is not None:
            lent.append(allotment)
            assert give_back(ledger, allotment) == before
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
        assert (len(allotment.cores), allotment.memory_mib) in {needs(ledger, shape, host) for host in allotment.hosts}
        assert len(set(allotment.hosts)) == shape.nodes
        assert len(allotment.cores) >= shape.ranks_per_node * (shape.cpus_per_rank or 0)
        asked = shape.ranks_per_node * shape.gpus_per_rank
        assert len(set(allotment.devices)) == len(allotment.devices) <= asked
        assert len(allotment.devices) >= (shape.gpus_per_rank if shape.gpu_sharing else asked)


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
    assert possible(lend(ledger, job(gpus_per_rank=1))[0], shape) == possible(ledger, shape)


@given(ledgers(), shapes())
def test_sharing_takes_no_device_away(ledger: Ledger, shape: JobSpec) -> None:
    shape = shape.model_copy(update={"gpu_sharing": True})
    assert lend(ledger, shape)[0].devices == ledger.devices


def asked(spec: JobSpec, allotment: Allotment, facts: AllocationFacts) -> PlanRequest:
    return PlanRequest(
        job=spec,
        allocation=facts,
        shim=SHIM,
        hosts=allotment.hosts,
        cores=allotment.cores,
        devices=allotment.devices,
    )


def shown(request: PlanRequest, bound: tuple[Binding, ...]) -> set[Accelerator]:
    """Return the devices that a runtime would show to any rank, found by what the mask says."""
    found = set()
    for one in bound:
        for vendor, name in MASKS.items():
            granted = [own for own in request.node.accelerators if own.vendor == vendor]
            for word in filter(None, one.env.get(name, "").split(",")):
                if word.isdigit():
                    assert all(own.kind != "mig" for own in granted)
                    found.add(granted[int(word)])
                else:
                    assert (
                        request.hosts == next(g for g in request.allocation.groups if g.facts is request.node).hosts[:1]
                    )
                    found.add(next(own for own in granted if own.uuid == word))
    return found


@given(allocations(), st.lists(shapes(), min_size=1, max_size=5))
def test_a_plan_uses_only_what_was_lent_and_never_another_jobs_device(
    facts: AllocationFacts, specs: list[JobSpec]
) -> None:
    ledger, held = ledger_of(facts), dict[str, set[Accelerator]]()
    for spec in specs:
        spec = spec.model_copy(update={"smt": 1})  # noqa: PLW2901 - threads are not lent
        ledger, allotment = lend(ledger, spec)
        if allotment is None:
            continue
        request = asked(spec, allotment, facts)
        bound = bindings(request)[0]
        cpus = {cpu for core in allotment.cores for cpu in cpus_of(core)}
        assert all(cpus.issuperset(cpus_of(one.cpus)) for one in bound if one.cpus is not None)
        own = shown(request, bound)
        assert len(own) == len(allotment.devices)
        assert {one.pci_address for one in own} == {name.split("/")[0] for name in allotment.devices}
        assert all(one.health == "ok" for one in own)
        for host in allotment.hosts:
            assert not own & held.setdefault(host, set())
            if not spec.gpu_sharing:
                held[host] |= own


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
        ({"gpus_per_rank": 1}, 2),
        ({"gpus_per_rank": 2}, 1),
        ({"gpus_per_rank": 3}, 0),
        ({"gpus_per_rank": 1, "ranks_per_node": 2}, 1),
        ({"gpus_per_rank": 1, "gpu_vendor": "amd"}, 0),
        ({"cpus_per_rank": 1, "gpus_per_rank": 1}, 2),
        ({"cpus_per_rank": 3, "gpus_per_rank": 1}, 1),
        ({"cpus_per_rank": 1, "gpus_per_rank": 1, "gpu_sharing": True}, 4),
        ({"cpus_per_rank": 1, "gpus_per_rank": 3, "gpu_sharing": True}, 0),
        ({"gpus_per_rank": 1, "memory_mib_per_rank": 5000}, 1),
        ({"binding": [{"cpus": "0"}], "cpus_per_rank": 1}, 1),
        ({"cpus_per_rank": 5}, 0),
        ({"nodes": 2}, 0),
    ],
)
def test_as_many_jobs_fit_as_cores_memory_and_devices_allow(shape: dict[str, int], fit: int) -> None:
    seen = [device(1), device(2, well=False), device(3)]
    assert slots(ledger_of(alike(node(devices=seen))), job(**shape)) == fit


FOUR = [device(n).model_copy(update={"near_cpus": near}) for n, near in enumerate(["6-7", "4-5", "2-3", "0-1"])]
EIGHT = tuple(map(str, range(8)))


def test_four_gpus_are_four_jobs_each_with_its_own_and_the_cores_next_to_it() -> None:
    facts = alike(node(EIGHT, FOUR, memory_mib=8000))
    ledger, seen = ledger_of(facts), []
    for _ in range(slots(ledger, job(gpus_per_rank=1))):
        ledger, allotment = lend(ledger, job(gpus_per_rank=1))
        assert allotment is not None
        bound = bindings(asked(job(gpus_per_rank=1), allotment, facts))[0][0]
        seen.append((bound.env["CUDA_VISIBLE_DEVICES"], bound.cpus, allotment.memory_mib))
    assert seen == [("GPU-0", "6-7", 2000), ("GPU-1", "4-5", 2000), ("GPU-2", "2-3", 2000), ("GPU-3", "0-1", 2000)]


def test_one_job_of_four_ranks_takes_all_and_each_rank_sits_next_to_its_own() -> None:
    facts, spec = alike(node(EIGHT, FOUR)), job(ranks_per_node=4, gpus_per_rank=1)
    ledger, allotment = lend(ledger_of(facts), spec)
    assert allotment is not None
    assert (allotment.cores, len(allotment.devices)) == (EIGHT, 4)
    assert [one.cpus for one in bindings(asked(spec, allotment, facts))[0]] == ["6-7", "4-5", "2-3", "0-1"]
    assert lend(ledger, job(cpus_per_rank=1))[1] is None


def test_a_job_for_itself_keeps_sharers_off_its_device_until_it_ends() -> None:
    sharer = job(cpus_per_rank=1, gpus_per_rank=1, gpu_sharing=True)
    ledger, held = lend(ledger_of(alike(node(devices=[device(1)]))), job(cpus_per_rank=1, gpus_per_rank=1))
    assert held is not None
    assert (slots(ledger, sharer), possible(ledger, sharer), slots(give_back(ledger, held), sharer)) == (0, True, 4)


def test_a_device_on_a_node_whose_serial_numbers_nobody_asked_for_is_shown_by_its_number() -> None:
    facts = alike(node(devices=[device(1), device(2)], given=allocation(["node1", "node2"])))
    ledger, shown = ledger_of(facts), []
    for _ in range(4):
        ledger, allotment = lend(ledger, job(gpus_per_rank=1))
        assert allotment is not None
        shown.append((*allotment.hosts, bindings(asked(job(gpus_per_rank=1), allotment, facts))[0][0].env))
    by_number = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert shown == [
        ("node1", {"CUDA_VISIBLE_DEVICES": "GPU-1"}),
        ("node1", {"CUDA_VISIBLE_DEVICES": "GPU-2"}),
        ("node2", {"CUDA_VISIBLE_DEVICES": "0", **by_number}),
        ("node2", {"CUDA_VISIBLE_DEVICES": "1", **by_number}),
    ]


def test_slices_are_lent_one_by_one_where_they_have_names() -> None:
    slices = [device(1).model_copy(update={"kind": "mig", "uuid": f"MIG-{n}"}) for n in range(3)]
    facts = alike(node(devices=slices, given=allocation(["node1", "node2"])))
    assert slots(ledger_of(facts), job(gpus_per_rank=1)) == len(slices)
    elsewhere = Allotment(hosts=("node2",), cores=("0",), memory_mib=0, devices=("0000:01:00.0",))
    with pytest.raises(BadInputError, match="MIG"):
        bindings(asked(job(gpus_per_rank=1), elsewhere, facts))


def test_a_device_is_one_of_the_node_that_lends_it() -> None:
    given_to = allocation(["node1", "node2"])
    parts = [node(given=given_to), node(devices=[device(7)], given=given_to)]
    groups = tuple(NodeGroup(hosts=(f"node{n}",), facts=facts) for n, facts in enumerate(parts, 1))
    facts = AllocationFacts(head=parts[0], groups=groups)
    allotment = lend(ledger_of(facts), job(gpus_per_rank=1))[1]
    assert allotment is not None
    assert allotment.hosts == ("node2",)
    assert bindings(asked(job(gpus_per_rank=1), allotment, facts))[0][0].accelerators == ("GPU-7",)


def test_a_job_that_names_its_cpus_has_the_node_for_itself() -> None:
    spec = job(binding=[{"cpus": "3"}], cpus_per_rank=1)
    ledger, allotment = lend(ledger_of(alike(node())), spec)
    assert allotment is not None
    assert (allotment.cores, slots(ledger, job(cpus_per_rank=1))) == (("0", "1", "2", "3"), 0)


class Counting(dict[str, int]):
    """A mapping that counts how often it is asked."""

    asked = 0

    def __getitem__(self, host: str) -> int:
        self.asked += 1
        return super().__getitem__(host)


@pytest.mark.parametrize(("nodes", "is_lent"), [(100, True), (101, False), (200, False)])
def test_alike_nodes_are_not_each_asked_for_all_others(nodes: int, *, is_lent: bool) -> None:
    """On the square of a thousand nodes one look would take a second."""
    hosts = [f"n{number}" for number in range(200)]
    ledger, _ = lend(ledger_of(alike(node(given=allocation(hosts)))), job(nodes=100))
    counting = Counting(ledger.memory_mib)
    _, allotment = lend(ledger.model_copy(update={"memory_mib": counting}), job(nodes=nodes))
    assert (allotment is not None, 0 < counting.asked <= 2 * len(hosts)) == (is_lent, True)
