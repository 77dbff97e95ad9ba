"""What a launcher is asked for."""

from collections.abc import Iterable

from pilotwrap.model.base import Value

WORD_LIMIT = 120 * 1024
"""Bytes of the longest list on a command line: the kernel takes 128 KiB a word (MAX_ARG_STRLEN, execve(2))."""

WORD_MOST = 32 * 1024
"""Bytes of a list on a command line where a file may take its place: the kernel bounds words and environment together
(a quarter of the stack's limit), and nobody reads more of it among the processes."""


class Part(Value):
    """What a launch takes of each of its nodes where others share them."""

    cores: int
    devices: int = 0
    """Those that are for it alone."""


class LaunchRequest(Value):
    """Ranks to be started, each through the rank shim."""

    program: str
    """The launcher's own path, as found on the host."""

    hosts: tuple[str, ...]
    hosts_file: str = "hosts"
    """Where a list of them would lie that is too long for the command line."""

    part: Part | None = None
    """None: the nodes are taken whole."""

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

    granted: tuple[str, ...] = ()
    """All nodes of the allocation, in its order."""

    aside: tuple[str, ...] = ()
    """Those that must get no rank."""

    cpus_per_node: int | None = None
    """The hardware threads that may be used of each node, where that is known."""

    devices_per_node: int = 0
    """The accelerators of each node, whoever uses them."""

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

    def file_for(self, listed: str, lines: Iterable[str]) -> dict[str, str]:
        """Return the file that takes a list's place, a line a host; none for a list that fits the command line."""
        return {} if len(listed) <= WORD_MOST else {self.hosts_file: "".join(f"{line}\n" for line in lines)}
