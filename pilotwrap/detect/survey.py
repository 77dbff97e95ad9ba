"""NodeFacts of every node to AllocationFacts: equal nodes grouped, unfit ones set aside with their reason."""

from collections.abc import Iterable, Mapping, Sequence

from pilotwrap.model.allocation import AllocationFacts, NodeGroup, UnfitNode
from pilotwrap.model.base import Value
from pilotwrap.model.node import Accelerator, NodeFacts


class _Likeness(Value):
    """What makes two nodes alike: everything but their names, addresses and serial numbers."""

    accelerators: tuple[Accelerator, ...]
    cores: tuple[str, ...]
    memory_gib: int


def allocation_of_one(head: NodeFacts) -> AllocationFacts:
    """Return the facts of a single node: it needs no survey."""
    return AllocationFacts(head=head, groups=(NodeGroup(hosts=(head.allocation.nodes[0],), facts=head),))


def allocation_facts(head: NodeFacts, nodes: Mapping[str, NodeFacts | None]) -> AllocationFacts:
    """Return the surveyed allocation; a node that gave no answer (None) or has no CPU for us is unfit."""
    unfit = tuple(_unfit(nodes))
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


def _unfit(nodes: Mapping[str, NodeFacts | None]) -> Iterable[UnfitNode]:
    expected = _most_devices([facts for facts in nodes.values() if facts])
    for host, facts in nodes.items():
        if facts is None:
            yield UnfitNode(host=host, reason="node-lost", detail="it did not answer the survey")
        elif not facts.cpus.cores:
            yield UnfitNode(host=host, reason="node-unusable", detail="no CPU is granted to us there")
        elif len(facts.accelerators) < expected:
            detail = f"it shows {len(facts.accelerators)} accelerators, its peers {expected}"
            yield UnfitNode(host=host, reason="node-unusable", detail=detail)
        else:
            yield from _dead(host, facts.accelerators)


def _dead(host: str, devices: Sequence[Accelerator]) -> Iterable[UnfitNode]:
    for device in devices:
        if device.health == "unusable" and device.reason not in {"masked", "not-granted"}:
            what = f"{device.vendor} {device.model} at {device.pci_address} is unusable: {device.reason}"
            detail = f"{what}, {device.detail}" if device.detail else what
            yield UnfitNode(host=host, reason="node-unusable", detail=detail)
            return


def _most_devices(nodes: Sequence[NodeFacts]) -> int:
    return max((len(facts.accelerators) for facts in nodes), default=0)


def _likeness(facts: NodeFacts) -> str:
    own = {"uuid": None, "detail": ""}
    devices = tuple(device.model_copy(update=own) for device in facts.accelerators)
    return _Likeness(
        accelerators=devices, cores=facts.cpus.cores, memory_gib=round(facts.memory.usable_mib / 1024)
    ).to_json()


def allocation_of_all(head: NodeFacts) -> AllocationFacts:
    """Return the facts of an allocation that is not surveyed: all its nodes are taken to be like the head."""
    return AllocationFacts(head=head, groups=(NodeGroup(hosts=head.allocation.nodes, facts=head),))
