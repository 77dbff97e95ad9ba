"""What a user says of the machine: which one it is, or files of his own that may know it."""

from pilotwrap.model.base import Value
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.machines.listing import fitting
from pilotwrap.site.machines.machine import Machine


class Choice(Value):
    """Which machine a node is to be taken for; it comes before the known ones."""

    named: Machine | None = None
    """That one, whatever the node shows."""

    own: tuple[Machine, ...] = ()
    """One of these, if the node shows itself to be of it."""

    def of(self, snapshot: Snapshot) -> Machine | None:
        """Return the machine of a node; None: the user says nothing of it, and the known ones decide."""
        return self.named or fitting(snapshot, self.own)
