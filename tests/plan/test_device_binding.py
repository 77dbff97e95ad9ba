"""How a rank is told its devices: each vendor's variable, tiles and instances, and what the shim is to look for."""

import pytest
from plan.facts import SHIM, alike, allocation, device, job, node, request

from pilotwrap.model.allocation import AllocationFacts, NodeGroup
from pilotwrap.model.errors import BadInputError
from pilotwrap.model.node import Accelerator, Vendor
from pilotwrap.model.plan import Binding
from pilotwrap.plan.binding import bindings
from pilotwrap.plan.ledger import ledger_of, lend
from pilotwrap.plan.plan import plan
from pilotwrap.plan.request import PlanRequest
from pilotwrap.site.accelerators.vendors import ALL_MASKS


def tiles(cards: int) -> list[Accelerator]:
    made = [device(card, "intel") for card in range(cards)]
    return [card.model_copy(update={"kind": "tile", "part": tile}) for card in made for tile in range(2)]


def instances(number: int, count: int) -> list[Accelerator]:
    card = device(number)
    told = [{"kind": "mig", "part": part, "uuid": f"MIG-{number}-{part}"} for part in range(count)]
    return [card.model_copy(update=update) for update in told]


def lent(number: int, *, to_us: bool) -> Accelerator:
    card = device(number)
    return card if to_us else card.model_copy(update={"health": "unusable", "reason": "not-granted"})


def bound(devices: list[Accelerator], cores: int = 8, **shape: object) -> tuple[Binding, ...]:
    return bindings(request(job(**shape), node([str(core) for core in range(cores)], devices)))[0]


def test_tiles_are_named_within_their_card_and_two_may_be_one_rank_s() -> None:
    found = bound(tiles(2), ranks_per_node=4, gpus_per_rank=1)
    assert [one.env["ZE_AFFINITY_MASK"] for one in found] == ["0.0", "0.1", "1.0", "1.1"]
    assert {one.env["ZE_FLAT_DEVICE_HIERARCHY"] for one in found} == {"COMPOSITE"}
    assert [one.accelerators for one in found][:2] == [("0000:00:00.0",), ("0000:00:00.0/1",)]
    whole = bound(tiles(2), ranks_per_node=2, gpus_per_rank=2)
    assert [(one.env["ZE_AFFINITY_MASK"], one.devices) for one in whole] == [
        ("0.0,0.1", ("0000:00:00.0",)),
        ("1.0,1.1", ("0000:01:00.0",)),
    ]


def test_a_tile_is_named_by_its_place_in_a_binding_of_the_user_s_own() -> None:
    own = [{"cpus": "0", "devices": ["0000:01:00.0/1"]}, {"cpus": "1", "devices": ["0000:01:00.0"]}]
    found = bound(tiles(2), ranks_per_node=2, binding=own)
    assert [one.env["ZE_AFFINITY_MASK"] for one in found] == ["1.1", "1.0"]


@pytest.mark.parametrize("vendor", ["nvidia", "amd", "intel"])
def test_exactly_one_vendor_s_mask_is_set(vendor: Vendor) -> None:
    found = bound([device(n, vendor) for n in range(2)], ranks_per_node=2, gpus_per_rank=1)
    masks = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "ROCR_VISIBLE_DEVICES", "intel": "ZE_AFFINITY_MASK"}
    for one in found:
        assert [name for name in ALL_MASKS if name in one.env] == [masks[vendor]]


@pytest.mark.parametrize("name", ["HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"])
def test_another_of_amd_s_variables_is_set_where_the_job_asks_for_it(name: str) -> None:
    found = bound([device(n, "amd") for n in range(2)], ranks_per_node=2, gpus_per_rank=1, gpu_variable=name)
    assert [one.env for one in found] == [{name: "0"}, {name: "1"}]
    with pytest.raises(BadInputError, match="gpu_variable"):
        bound([device(0)], gpus_per_rank=1, gpu_variable=name)


def test_a_rank_of_several_devices_gets_no_mig_instances() -> None:
    mixed = [*instances(1, 3), device(2), device(3)]
    assert [one.accelerators for one in bound(mixed, gpus_per_rank=2)] == [("GPU-2", "GPU-3")]
    assert [one.accelerators for one in bound(mixed, ranks_per_node=5, gpus_per_rank=1)][:2] == [
        ("MIG-1-0",),
        ("MIG-1-1",),
    ]
    with pytest.raises(BadInputError, match="2 devices"):
        bound(instances(1, 3), gpus_per_rank=2)
    alone = ledger_of(alike(node([str(core) for core in range(8)], instances(1, 3))))
    assert lend(alone, job(gpus_per_rank=2))[1] is None


def test_no_uuid_is_used_across_nodes() -> None:
    facts = node(devices=[device(1), device(2)], given=allocation(["node1", "node2"]))
    groups = (NodeGroup(hosts=("node1", "node2"), facts=facts),)
    asked = request(job(nodes=2, ranks_per_node=2, gpus_per_rank=1), facts)
    asked = asked.model_copy(update={"allocation": AllocationFacts(head=facts, groups=groups)})
    found = bindings(asked)[0]
    assert [one.env for one in found] == [
        {"CUDA_VISIBLE_DEVICES": number, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"} for number in "01"
    ]
    assert not any("GPU-" in name for one in found for name in one.accelerators)
    assert {one.counted for one in found} == {("0000:01:00.0", "0000:02:00.0")}


def test_numbers_skip_a_card_that_cuda_skips() -> None:
    nodes = allocation(["node1", "node2"])
    lost = device(1, well=False)
    found = bindings(request(job(nodes=2, gpus_per_rank=1), node(devices=[lost, device(2)], given=nodes)))[0]
    assert found[0].env["CUDA_VISIBLE_DEVICES"] == "0"


def test_nodes_where_one_number_means_unlike_devices_get_no_job_together() -> None:
    """Of each node another card is somebody else's, so the two that both have are 1 and 2 here, 0 and 1 there."""
    cards = [lent(n, to_us=n != 3) for n in range(4)], [lent(n, to_us=n != 0) for n in range(4)]
    hosts = ("node1", "node2")
    head = node(devices=cards[0], given=allocation(hosts))
    groups = [NodeGroup(hosts=(host,), facts=node(devices=own)) for host, own in zip(hosts, cards, strict=True)]
    ledger = ledger_of(AllocationFacts(head=head, groups=tuple(groups)))
    assert lend(ledger, job(nodes=2, ranks_per_node=2, gpus_per_rank=1))[1] is None
    assert lend(ledger, job(nodes=2))[1] is not None
    for host in hosts:
        ledger, share = lend(ledger, job(ranks_per_node=3, gpus_per_rank=1))
        assert share is not None
        assert share.hosts == (host,)


IN_A_NARROW_STEP = {
    "fewer devices": (["0", "1"], [lent(n, to_us=n != 0) for n in range(2)], "may not open 0000:00:00.0"),
    "fewer cores": (["1"], [device(0), device(1)], "lacks the CPUs 0"),
    "as much": (["0", "1"], [device(0), device(1)], ""),
}


@pytest.mark.parametrize("what", IN_A_NARROW_STEP)
def test_what_the_head_s_own_step_lacks_the_launcher_gets_on_its_node(what: str) -> None:
    cores, devices, why = IN_A_NARROW_STEP[what]
    hosts = ("node1", "node2")
    every = node(["0", "1"], [device(0), device(1)], given=allocation(hosts), launcher="srun")
    head = node(cores, devices, given=allocation(hosts), launcher="srun")
    found = AllocationFacts(head=head, groups=(NodeGroup(hosts=hosts, facts=every),))
    made = plan(PlanRequest(job=job(gpus_per_rank=1), allocation=found, shim=SHIM, hosts=("node1",)))
    assert bool(made.launch.argv) == bool(why)
    assert why in made.because[1].reason


def test_the_shim_is_told_addresses_and_by_uuid_nothing_is_counted() -> None:
    (one,) = bound([device(1), device(2)], gpus_per_rank=2)
    assert (one.devices, one.counted) == (("0000:01:00.0", "0000:02:00.0"), ())


def test_ranks_that_share_devices_take_turns() -> None:
    found = bound([device(1), device(2)], ranks_per_node=4, gpus_per_rank=1, gpu_sharing=True)
    assert [one.accelerators for one in found] == [("GPU-1",), ("GPU-2",), ("GPU-1",), ("GPU-2",)]


def test_no_mask_is_set_for_a_rank_without_devices() -> None:
    (one,) = bound([device(1)])
    assert (one.env, one.devices, one.counted) == ({}, (), ())
