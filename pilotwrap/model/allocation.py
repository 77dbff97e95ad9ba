"""`pilotwrap.allocation/1`: the nodes of an allocation, grouped by equal facts."""

from typing import Literal

from pydantic import Field

from pilotwrap.model.base import Value
from pilotwrap.model.node import NodeFacts


class NodeGroup(Value):
    """Nodes that are alike; `facts` are those of the first."""

    hosts: tuple[str, ...]
    facts: NodeFacts


class UnfitNode(Value):
    """A node set aside before any job was taken."""

    host: str
    reason: str
    detail: str


class AllocationFacts(Value):
    """All nodes of the allocation as surveyed; `head` is the node (or login host) that we plan from."""

    schema_: Literal["pilotwrap.allocation/1"] = Field(default="pilotwrap.allocation/1", alias="schema")
    head: NodeFacts
    groups: tuple[NodeGroup, ...]
    unfit: tuple[UnfitNode, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the fit nodes in the allocation's order."""
        fit = {host for group in self.groups for host in group.hosts}
        ordered = [host for host in self.head.allocation.nodes if host in fit]
        return tuple(ordered) or tuple(host for group in self.groups for host in group.hosts)
