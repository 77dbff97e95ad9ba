import pytest
from plan.facts import allocation, device, node

from pilotwrap.detect.survey import allocation_facts, as_heard, both
from pilotwrap.model.node import NodeFacts
from pilotwrap.model.snapshot import ProbeSaid, Snapshot

HOSTS = ("node1", "node2", "node3")
HEAD = node(devices=[device(1), device(2)], given=allocation(HOSTS))


def changed(**what: object) -> NodeFacts:
    return HEAD.model_copy(update=what)


def test_equal_nodes_are_one_group_whatever_their_serial_numbers() -> None:
    other = changed(accelerators=tuple(one.model_copy(update={"uuid": f"{one.uuid}b"}) for one in HEAD.accelerators))
    found = allocation_facts(HEAD, {"node1": HEAD, "node2": other, "node3": HEAD})
    assert [group.hosts for group in found.groups] == [HOSTS]
    assert (found.hosts, found.unfit) == (HOSTS, ())


ILL = {
    "no answer": (None, "node-lost", "did not answer"),
    "no CPU": (node(cores=(), devices=HEAD.accelerators), "node-unusable", "no CPU"),
    "a device less": (node(devices=[device(1)]), "node-unusable", "shows 1 accelerators, its peers 2"),
    "a dead device": (
        node(devices=[device(1), device(2, well=False)]),
        "node-unusable",
        "0000:02:00.0 is unusable: lost",
    ),
}


@pytest.mark.parametrize("what", ILL)
def test_an_unfit_node_is_set_aside_with_its_reason_and_the_others_stay(what: str) -> None:
    facts, reason, detail = ILL[what]
    found = allocation_facts(HEAD, {"node1": HEAD, "node2": facts, "node3": HEAD})
    assert [(node.host, node.reason) for node in found.unfit] == [("node2", reason)]
    assert detail in found.unfit[0].detail
    assert found.hosts == ("node1", "node3")


def test_a_device_that_is_not_ours_spoils_no_node() -> None:
    refused = device(2).model_copy(update={"health": "unusable", "reason": "not-granted"})
    shared = changed(accelerators=(device(1), refused))
    assert allocation_facts(HEAD, dict.fromkeys(HOSTS, shared)).unfit == ()


def test_unlike_nodes_are_groups_of_their_own() -> None:
    found = allocation_facts(HEAD, {"node1": HEAD, "node2": node(("0",), HEAD.accelerators), "node3": HEAD})
    assert [group.hosts for group in found.groups] == [("node1", "node3"), ("node2",)]


def test_what_only_the_head_was_told_of_its_own_node_counts() -> None:
    """It has asked NVML; its node's answer to the survey is from files alone."""
    asked = changed(accelerators=(device(1), device(2, well=False)))
    found = allocation_facts(asked, dict.fromkeys(HOSTS, HEAD))
    ((host, detail),) = [(node.host, node.detail) for node in found.unfit]
    assert (host, found.hosts) == ("node1", HOSTS[1:])
    assert "0000:02:00.0 is unusable: lost" in detail


@pytest.mark.parametrize("reason", ["masked", "not-granted", "library-missing"])
def test_what_ails_the_head_s_own_step_or_image_spoils_no_node(reason: str) -> None:
    hidden = device(2).model_copy(update={"health": "unusable", "reason": reason})
    assert allocation_facts(changed(accelerators=(device(1), hidden)), dict.fromkeys(HOSTS, HEAD)).unfit == ()


def test_a_node_whose_driver_is_not_loaded_is_set_aside_and_none_where_no_node_has_one() -> None:
    driven = changed(accelerators=[one.model_copy(update={"driver": "550.54.15"}) for one in HEAD.accelerators])
    found = allocation_facts(driven, {"node1": driven, "node2": HEAD, "node3": driven})
    assert [(node.host, node.detail) for node in found.unfit] == [
        ("node2", "nvidia A100 at 0000:01:00.0 has no driver, its peers have one")
    ]
    assert allocation_facts(HEAD, dict.fromkeys(HOSTS, HEAD)).unfit == ()


OWN = (True, False, False)
"""Which of three answers is the head's own node's."""


def probed(reason: str | None = None, *, entered: bool = True) -> Snapshot:
    """Return the answer of a node whose probe said so; no reason: that all is well."""
    error = {"kind": "error", "reason": reason, "detail": "so", **({} if entered else {"entered": False})}
    return Snapshot(probes=(ProbeSaid(probe="nvml", records=(error,) if reason else ({"kind": "end"},)),))


WELL, MISSING, HUNG = probed(), probed("library-missing"), probed("timeout")
CLOSED, NO_WAY = probed("timeout", entered=False), probed("unknown", entered=False)


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ((WELL, WELL, HUNG), "yyy"),
        ((HUNG, HUNG, HUNG), "yyy"),
        ((WELL, WELL, MISSING), "yyy"),
        ((MISSING, WELL, WELL), "yyy"),
        ((MISSING, MISSING, MISSING), "nnn"),
        ((MISSING, MISSING, HUNG), "yyy"),
        ((WELL, WELL, NO_WAY), "yyy"),
        ((WELL, WELL, CLOSED), "yyy"),
        ((WELL, NO_WAY, NO_WAY), "nnn"),
        ((HUNG, CLOSED, NO_WAY), "nnn"),
        ((NO_WAY, NO_WAY, NO_WAY), "nnn"),
        ((NO_WAY, WELL, WELL), "yyy"),
        ((MISSING, MISSING, NO_WAY), "nny"),
        ((WELL, Snapshot(), NO_WAY), "nnn"),
    ],
)
def test_a_probe_that_tells_of_the_image_alone_is_not_heard(said: tuple[Snapshot, ...], heard: str) -> None:
    found = as_heard(said, OWN)
    assert [
        one if word == "y" else one.model_copy(update={"probes": ()}) for one, word in zip(said, heard, strict=True)
    ] == found


def test_what_files_and_nvml_say_of_a_node_both_count() -> None:
    ill = device(2, well=False).model_copy(update={"reason": "ecc"})
    heard = both(changed(accelerators=(device(1, well=False), device(2))), changed(accelerators=(device(1), ill)))
    assert [one.reason for one in heard.accelerators] == ["lost", "ecc"]
    refused = device(2).model_copy(update={"health": "unusable", "reason": "not-granted"})
    heard = both(changed(accelerators=(device(1), refused)), changed(accelerators=(device(1), device(2))))
    assert [one.reason for one in heard.accelerators] == [None, None], "NVML may be asked about what is not ours"


def test_a_gpu_cut_into_instances_counts_as_one_among_its_peers() -> None:
    cut = changed(accelerators=tuple(device(1).model_copy(update={"kind": "mig", "part": part}) for part in range(7)))
    whole = changed(accelerators=(device(1),))
    assert allocation_facts(whole, {"node1": whole, "node2": cut, "node3": whole}).unfit == ()
