"""What is to be planned: a job, the allocation, and what of it the job may use."""

from typing import Literal

from pilotwrap.model.allocation import AllocationFacts, NodeGroup
from pilotwrap.model.base import Value
from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import NodeFacts
from pilotwrap.model.plan import Because, Teller


class PlanRequest(Value):
    """All that `plan` needs; nothing else is looked at."""

    job: JobSpec
    allocation: AllocationFacts
    shim: tuple[str, ...]
    """argv of the rank shim with its file, as it will be on every node."""

    hosts: tuple[str, ...] | None = None
    """The nodes to use; None: the first fit ones."""

    cores: tuple[str, ...] | None = None
    """The free physical cores of these nodes (a CPU list each); None: all that are granted."""

    devices: tuple[str, ...] | None = None
    """The accelerators of each of these nodes, by their names in `Device`; None: all that are usable."""

    teller: Teller = "caller"
    agent: Literal["none", "direct", "pilot3"] = "none"
    agent_env: dict[str, str] = {}
    """What the agent's own program finds in its environment."""

    agent_because: tuple[Because, ...] = ()
    """What was decided on the agent's command line."""

    tell_s: float = 5.0
    """Kept for the report before the end: the server's measured answer, with room."""

    @property
    def node(self) -> NodeFacts:
        """Return the facts of the nodes to use (those of the first one's group: the others are alike)."""
        group = self._group
        return group.facts if group else self.allocation.head

    @property
    def knows_serials(self) -> bool:
        """Tell whether the UUIDs in the facts are those of the nodes to use: of a group only its first was asked."""
        group, used = self._group, (self.hosts or self.allocation.hosts)[: self.job.nodes]
        return group is None or used == group.hosts[:1]

    @property
    def free_cores(self) -> tuple[str, ...]:
        """Return the cores that the job may use on each node."""
        return self.node.cpus.cores if self.cores is None else self.cores

    @property
    def _group(self) -> NodeGroup | None:
        first = self.hosts[0] if self.hosts else None
        return next((group for group in self.allocation.groups if first is None or first in group.hosts), None)
