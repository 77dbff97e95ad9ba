"""What a launcher is asked for."""

from pilotwrap.model.base import Value


class LaunchRequest(Value):
    """Ranks to be started, each through the rank shim."""

    program: str
    """The launcher's own path, as found on the host."""

    hosts: tuple[str, ...]
    ranks_per_node: int
    one_fails_all: bool
    """A failing rank ends the others (mode mpi)."""

    mpi_types: tuple[str, ...] = ()
    """What `srun --mpi=list` names, where it was asked."""

    mpi_type: str | None = None
    """The site's or user's default, where its environment names one."""

    options: tuple[str, ...] = ()
    """The user's own further options."""

    gpus_per_node: int | None = None
    """What the batch system gave on each node, where it counts GPUs."""

    here: str | None = None
    """The host that the launcher is called on, as the batch system's lists have it."""

    aside: tuple[str, ...] = ()
    """Nodes of the allocation that must get no rank."""

    command: tuple[str, ...]
    """What each rank starts: the shim and its file."""

    @property
    def ranks(self) -> int:
        """Return how many ranks there are in all."""
        return len(self.hosts) * self.ranks_per_node

    @property
    def is_here(self) -> bool:
        """Tell whether all ranks are on the host that the launcher is called on."""
        return self.hosts == (self.here,)
