"""What speaks against a shape: the allocation never had it, or nodes were set aside; and what is left to it. Pure."""

from collections.abc import Sequence

from pilotwrap.model.allocation import UnfitNode
from pilotwrap.model.errors import AllocationError, BadInputError, PilotwrapError
from pilotwrap.model.job import Shape
from pilotwrap.plan.ledger import Ledger, possible

NAMED = 10
"""So many of the nodes that were set aside stand in one sentence; all of them are in the survey's answers."""


def shortage(ledger: Ledger, shape: Shape, unfit: Sequence[UnfitNode] = ()) -> PilotwrapError | None:
    """Return why a shape can never be lent; None: it can. AllocationError where the nodes set aside would do."""
    if possible(ledger, shape):
        return None
    asked = f"{shape.nodes} nodes with {shape.ranks_per_node} ranks of {shape.cpus_per_rank or 'any'} cores"
    more = f" and {shape.gpus_per_rank} accelerators" if shape.gpus_per_rank else ""
    there = f"{len(ledger.free)} nodes of {ledger.cores_per_node} cores"
    there = f"there are {there} and {ledger.devices_per_node} usable accelerators"
    if shape.memory_mib_per_rank:
        more += f" and {shape.memory_mib_per_rank} MiB a rank"
        there += f", with {min(ledger.all_memory_mib.values(), default=0)} MiB for all ranks of a node"
    what = f"the job asks for {asked}{more}; {there}"
    if unfit and possible(_with(ledger, unfit), shape):
        aside = "; ".join(f"{node.host}: {node.detail}" for node in unfit[:NAMED])
        rest = f"; and {len(unfit) - NAMED} more" if len(unfit) > NAMED else ""
        return AllocationError(
            what, why=f"set aside: {aside}{rest}", remedy="ask for other nodes, or give --accept-fewer"
        )
    return BadInputError(what, remedy="ask for less")


def lowered(ledger: Ledger, shape: Shape) -> int:
    """Return the most nodes, of those that a shape asks for, on which it is possible; all of them if on none."""
    for nodes in range(min(shape.nodes, len(ledger.free)), 0, -1):
        if possible(ledger, shape.model_copy(update={"nodes": nodes})):
            return nodes
    return shape.nodes


def _with(ledger: Ledger, unfit: Sequence[UnfitNode]) -> Ledger:
    """Return the ledger as it would be if the nodes set aside were like the others."""
    first = next(iter(ledger.all_cores))
    more = [node.host for node in unfit]
    update = {
        name: {**values, **dict.fromkeys(more, values[first])}
        for name in Ledger.model_fields
        if isinstance(values := getattr(ledger, name), dict)
    }
    return ledger.model_copy(update=update)
