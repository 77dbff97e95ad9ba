"""What is to be planned: a job, the allocation, and what of it the job may use."""

from typing import Literal

from pilotwrap.model.allocation import AllocationFacts
from pilotwrap.model.base import Value
from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import NodeFacts
from pilotwrap.model.plan import Teller


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

    teller: Teller = "caller"
    agent: Literal["none", "direct", "pilot3"] = "none"
    tell_s: float = 5.0
    """Kept for the report before the end: the server's measured answer, with room."""

    @property
    def node(self) -> NodeFacts:
        """Return the facts of the nodes to use (those of the first group: the others were set aside or are alike)."""
        groups = self.allocation.groups
        return groups[0].facts if groups else self.allocation.head

    @property
    def free_cores(self) -> tuple[str, ...]:
        """Return the cores that the job may use on each node."""
        return self.node.cpus.cores if self.cores is None else self.cores
