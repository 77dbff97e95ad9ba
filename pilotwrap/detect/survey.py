"""NodeFacts of every node to AllocationFacts: equal nodes grouped, unfit ones set aside with their reason."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from pilotwrap.model.allocation import AllocationFacts, NodeGroup, UnfitNode
from pilotwrap.model.base import Value
from pilotwrap.model.node import Accelerator, HealthReason, NodeFacts, Vendor
from pilotwrap.model.snapshot import Snapshot

_NOT_OURS: frozenset[HealthReason] = frozenset({"masked", "not-granted"})
_NOT_OF_THE_NODE: frozenset[HealthReason] = _NOT_OURS | {"library-missing"}
"""What ails the step or the image that the head itself is in; without the library nobody was asked."""


class _Likeness(Value):
    """What makes two nodes alike: everything but their names, addresses and serial numbers."""

    accelerators: tuple[Accelerator, ...]
    cores: tuple[str, ...]
    memory_gib: int


def allocation_of_one(head: NodeFacts) -> AllocationFacts:
    """Return the facts of a single node: it needs no survey."""
    return AllocationFacts(head=head, groups=(NodeGroup(hosts=(head.allocation.nodes[0],), facts=head),))


def allocation_facts(head: NodeFacts, nodes: Mapping[str, NodeFacts | None]) -> AllocationFacts:
    """Return the surveyed allocation; a node that gave no answer (None) or has no CPU for us is unfit.

    What the head has heard of the vendor's library about its own node counts too: the survey need not have asked it.
    """
    unfit = tuple(_unfit(head, nodes))
    bad = {node.host for node in unfit}
    groups: dict[str, list[tuple[str, NodeFacts]]] = {}
    for host, facts in nodes.items():
        if facts is not None and host not in bad:
            groups.setdefault(_likeness(facts), []).append((host, facts))
    return AllocationFacts(
        head=head,
        groups=tuple(NodeGroup(hosts=tuple(host for host, _ in alike), facts=alike[0][1]) for alike in groups.values()),
        unfit=unfit,
    )


def _unfit(head: NodeFacts, nodes: Mapping[str, NodeFacts | None]) -> Iterable[UnfitNode]:
    answered = [facts for facts in nodes.values() if facts]
    expected, driven = _most_devices(answered), _driven(answered)
    for host, facts in nodes.items():
        if facts is None:
            yield UnfitNode(host=host, reason="node-lost", detail="it did not answer the survey")
            continue
        own = head.accelerators if host == head.host else ()
        ill = _fault(facts, expected) or _undriven(facts, driven) or _dead(facts.accelerators, _NOT_OURS)
        if detail := ill or _dead(own, _NOT_OF_THE_NODE):
            yield UnfitNode(host=host, reason="node-unusable", detail=detail)


def _fault(facts: NodeFacts, expected: int) -> str:
    if not facts.cpus.cores:
        return "no CPU is granted to us there"
    here = _cards(facts)
    return f"it shows {here} accelerators, its peers {expected}" if here < expected else ""


def _driven(nodes: Sequence[NodeFacts]) -> set[Vendor]:
    return {device.vendor for facts in nodes for device in facts.accelerators if device.driver}


def _undriven(facts: NodeFacts, driven: Collection[Vendor]) -> str:
    """Return which device has no driver, where its peers on other nodes have one."""
    idle = (device for device in facts.accelerators if not device.driver and device.vendor in driven)
    return next((f"{_named(device)} has no driver, its peers have one" for device in idle), "")


def _dead(devices: Sequence[Accelerator], unless: Collection[HealthReason]) -> str:
    """Return which device is dead and why; nothing if none is, or for these reasons only."""
    for device in devices:
        if device.health == "unusable" and device.reason not in unless:
            what = f"{_named(device)} is unusable: {device.reason}"
            return f"{what}, {device.detail}" if device.detail else what
    return ""


def _named(device: Accelerator) -> str:
    return f"{device.vendor} {device.model} at {device.pci_address}"


def _most_devices(nodes: Sequence[NodeFacts]) -> int:
    return max(map(_cards, nodes), default=0)


def _cards(facts: NodeFacts) -> int:
    """Return how many devices a node shows; how a GPU is cut into MIG instances is a matter of its setting."""
    return len({(one.pci_address, None if one.kind == "mig" else one.part) for one in facts.accelerators})


def _likeness(facts: NodeFacts) -> str:
    own = {"uuid": None, "detail": ""}
    devices = tuple(device.model_copy(update=own) for device in facts.accelerators)
    return _Likeness(
        accelerators=devices, cores=facts.cpus.cores, memory_gib=round(facts.memory.usable_mib / 1024)
    ).to_json()


def allocation_of_all(head: NodeFacts) -> AllocationFacts:
    """Return the facts of an allocation that is not surveyed: all its nodes are taken to be like the head."""
    return AllocationFacts(head=head, groups=(NodeGroup(hosts=head.allocation.nodes, facts=head),))


def as_heard(said: Sequence[Snapshot], of_head: Sequence[bool]) -> list[Snapshot]:
    """Return the nodes' answers without those of their probes that tell of the image, and nothing of a node.

    Without NVML in the image nobody was asked on any node; and where the probe could be entered on no node but the
    head's own (`of_head`), the way into the image leads nowhere else, and all nodes are seen alike, by their files.
    Where others have what a node lacks, it is ill.
    """
    probed = [(one, own) for one, own in zip(said, of_head, strict=True) if one.probes]
    elsewhere = any(_entered(one) for one, own in probed if not own)
    somewhere = any(_entered(one) and "library-missing" not in _errors(one) for one, _ in probed)

    def tells(snapshot: Snapshot) -> bool:
        return elsewhere and (somewhere or "library-missing" not in _errors(snapshot))

    return [one if tells(one) else one.model_copy(update={"probes": ()}) for one in said]


def both(shown: NodeFacts, heard: NodeFacts) -> NodeFacts:
    """Return a node as its probe has heard it, but for devices that its files alone show to be dead."""
    dead = {one.pci_address: one for one in shown.accelerators if _dead([one], _NOT_OURS)}
    devices = (dead.get(one.pci_address, one) if one.health == "ok" else one for one in heard.accelerators)
    return heard.model_copy(update={"accelerators": tuple(devices)})


def _complaints(snapshot: Snapshot) -> Iterable[Mapping[str, object]]:
    return (record for probe in snapshot.probes for record in probe.records if record.get("kind") == "error")


def _errors(snapshot: Snapshot) -> set[object]:
    return {record.get("reason") for record in _complaints(snapshot)}


def _entered(snapshot: Snapshot) -> bool:
    """Tell whether the probe was started; the starter says it of one that it could not start."""
    return all(record.get("entered") is not False for record in _complaints(snapshot))
