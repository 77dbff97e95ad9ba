"""What holds for every binding, whatever the node and the job; and the refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan.facts import allocation, cores, device, devices, job, node, request, shapes

from pilotwrap.model.cpulist import cpus_of
from pilotwrap.model.errors import BadInputError
from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import Accelerator
from pilotwrap.model.plan import Binding
from pilotwrap.plan.binding import bindings, closest
from pilotwrap.site.accelerators.vendors import MASKS


def bound(spec: JobSpec, cores: tuple[str, ...], devices: list[Accelerator]) -> tuple[Binding, ...] | None:
    try:
        return bindings(request(spec, node(cores, devices)))[0]
    except BadInputError:
        return None


def cpus(found: tuple[Binding, ...]) -> list[tuple[int, ...]]:
    return [cpus_of(one.cpus) for one in found if one.cpus is not None]


@given(shapes(), cores(), devices())
def test_there_is_a_binding_for_each_local_rank(
    spec: JobSpec, cores: tuple[str, ...], devices: list[Accelerator]
) -> None:
    found = bound(spec, cores, devices)
    if found is not None:
        assert [one.local_rank for one in found] == list(range(spec.ranks_per_node))


@given(shapes(), cores(), devices())
def test_no_cpu_is_given_twice_and_none_that_is_not_granted(
    spec: JobSpec, cores: tuple[str, ...], devices: list[Accelerator]
) -> None:
    given_out = [cpu for own in cpus(bound(spec, cores, devices) or ()) for cpu in own]
    assert len(given_out) == len(set(given_out))
    assert set(given_out) <= {cpu for core in cores for cpu in cpus_of(core)}


@given(shapes(), cores(), devices())
def test_each_rank_gets_as_many_threads_as_asked(
    spec: JobSpec, cores: tuple[str, ...], devices: list[Accelerator]
) -> None:
    each = spec.cpus_per_rank or len(cores) // spec.ranks_per_node
    for own in cpus(bound(spec, cores, devices) or ()):
        assert len(own) == each * spec.smt


@given(shapes(), cores(), devices())
def test_no_device_is_given_twice_unless_shared_and_each_rank_gets_as_many_as_asked(
    spec: JobSpec, cores: tuple[str, ...], devices: list[Accelerator]
) -> None:
    found = bound(spec, cores, devices) or ()
    names = [name for one in found for name in one.accelerators]
    assert all(len(set(one.accelerators)) == spec.gpus_per_rank for one in found)
    assert spec.gpu_sharing or len(names) == len(set(names))
    well = {one.uuid or one.pci_address for one in devices if one.health == "ok"}
    assert set(names) <= well


@given(shapes(), cores(), devices())
def test_a_rank_sees_devices_of_the_one_vendor_that_was_asked(
    spec: JobSpec, cores: tuple[str, ...], devices: list[Accelerator]
) -> None:
    for one in bound(spec, cores, devices) or ():
        masks = [name for name in MASKS.values() if name in one.env]
        assert len(masks) == (1 if spec.gpus_per_rank else 0)
        if masks and spec.gpu_vendor != "any":
            assert masks == [MASKS[spec.gpu_vendor]]
        if masks:
            assert len(set(one.env[masks[0]].split(","))) == spec.gpus_per_rank


@given(shapes(), cores(), devices())
def test_the_same_question_has_the_same_answer(
    spec: JobSpec, cores: tuple[str, ...], devices: list[Accelerator]
) -> None:
    assert bound(spec, cores, devices) == bound(spec, cores, devices)


def test_only_the_lent_cores_are_used() -> None:
    asked = request(job(ranks_per_node=2), node(("0", "1", "2", "3"))).model_copy(update={"cores": ("2", "3")})
    assert [one.cpus for one in bindings(asked)[0]] == ["2", "3"]


def test_only_the_lent_devices_are_used_and_no_other_can_be_named() -> None:
    facts = node(devices=[device(1), device(2), device(3)])
    lent = {"devices": ("0000:02:00.0",)}
    asked = request(job(gpus_per_rank=1), facts).model_copy(update=lent)
    assert [one.accelerators for one in bindings(asked)[0]] == [("GPU-2",)]
    with pytest.raises(BadInputError, match="1 usable"):
        bindings(request(job(gpus_per_rank=2), facts).model_copy(update=lent))
    own = job(binding=[{"cpus": "0", "devices": ["GPU-1"]}])
    with pytest.raises(BadInputError, match="another job holds it"):
        bindings(request(own, facts).model_copy(update=lent))


@given(cores(), st.integers(0, 12), st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_the_closest_cores_are_near_ones_first_and_those_of_others_last(
    cores: tuple[str, ...], count: int, near: set[int], others: set[int]
) -> None:
    found = closest(cores, count, near, others - near)
    assert len(found) == min(count, len(cores))
    assert list(found) == [core for core in cores if core in found]
    left = {cpus_of(core)[0] for core in set(cores) - set(found)}
    for core in found:
        first = cpus_of(core)[0]
        assert first in near or not left & near
        assert first not in others - near or left <= others | near


def test_ranks_sit_next_to_their_devices_unless_bound_otherwise() -> None:
    seen = [device(n).model_copy(update={"numa_node": 1 - n}) for n in range(2)]
    facts = node(devices=seen)
    facts = facts.model_copy(update={"cpus": facts.cpus.model_copy(update={"numa": {0: "0-1", 1: "2-3"}})})
    bound_so = {
        how: [(one.accelerators, one.cpus) for one in bindings(request(asked, facts))[0]]
        for how in ("closest", "reversed")
        for asked in [job(ranks_per_node=2, gpus_per_rank=1, binding=how)]
    }
    assert bound_so == {
        "closest": [(("GPU-0",), "2-3"), (("GPU-1",), "0-1")],
        "reversed": [(("GPU-1",), "0-1"), (("GPU-0",), "2-3")],
    }


def test_reversed_gives_the_last_device_to_the_first_rank() -> None:
    found = bound(job(ranks_per_node=2, gpus_per_rank=1, binding="reversed"), ("0", "1"), [device(1), device(2)])
    assert found is not None
    assert [one.accelerators for one in found] == [("GPU-2",), ("GPU-1",)]


def test_more_ranks_than_cores_share_them_all_and_the_plan_says_so() -> None:
    found, why = bindings(request(job(ranks_per_node=5), node()))
    assert {one.cpus for one in found} == {None}
    assert why.reason == "5 ranks share 4 cores"


def test_devices_without_a_uuid_are_numbered_among_those_granted() -> None:
    refused = device(1, "intel").model_copy(update={"health": "unusable", "reason": "not-granted"})
    found = bound(job(gpus_per_rank=1), ("0",), [refused, device(2, "intel", well=False), device(3, "intel")])
    assert found is not None
    assert found[0].env["ZE_AFFINITY_MASK"] == "1"
    assert found[0].env["ZE_ENABLE_PCI_ID_DEVICE_ORDER"] == "1"


OWN = {
    "not granted": [{"cpus": "7"}],
    "no list": [{"cpus": "zero"}],
    "no CPU": [{"cpus": ""}],
    "unknown device": [{"cpus": "0", "devices": ["GPU-9"]}],
    "ill device": [{"cpus": "0", "devices": ["GPU-2"]}],
    "two vendors": [{"cpus": "0", "devices": ["GPU-1", "0000:03:00.0"]}],
    "given twice": [{"cpus": "0", "devices": ["GPU-1"]}, {"cpus": "1", "devices": ["GPU-1"]}],
}


@pytest.mark.parametrize("what", OWN)
def test_a_binding_of_the_user_s_own_is_refused_where_it_cannot_be(what: str) -> None:
    seen = [device(1), device(2, well=False), device(3, "amd")]
    with pytest.raises(BadInputError, match="binding"):
        bindings(request(job(ranks_per_node=len(OWN[what]), binding=OWN[what]), node(devices=seen)))


def test_a_binding_of_the_user_s_own_is_done_as_listed() -> None:
    own = [{"cpus": "2-3", "devices": ["0000:01:00.0"]}, {"cpus": "0", "devices": ["GPU-1"]}]
    asked = job(ranks_per_node=2, binding=own, gpu_sharing=True)
    found = bindings(request(asked, node(devices=[device(1)])))[0]
    assert [(one.cpus, one.accelerators, one.env["CUDA_VISIBLE_DEVICES"]) for one in found] == [
        ("2-3", ("GPU-1",), "GPU-1"),
        ("0", ("GPU-1",), "GPU-1"),
    ]


@pytest.mark.parametrize(
    "shape",
    [{"ranks_per_node": 5, "cpus_per_rank": 1}, {"cpus_per_rank": 5}, {"smt": 2}, {"gpus_per_rank": 1}],
)
def test_more_than_a_node_has_is_refused_with_what_it_has(shape: dict[str, int]) -> None:
    with pytest.raises(BadInputError) as refusal:
        bindings(request(job(**shape), node(given=allocation(["node1", "node2"]))))
    assert refusal.value.why
    assert refusal.value.remedy
