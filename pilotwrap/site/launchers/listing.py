"""The launchers that are known; a new one is its file and one line here."""

from typing import Protocol

from pilotwrap.model.node import Flavour, LauncherName, SchedulerName
from pilotwrap.model.plan import Launch, RankVariables
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.launchers import aprun, flux, hydra, jsrun, openmpi, pals, srun
from pilotwrap.site.launchers.request import LaunchRequest
from pilotwrap.site.looks import Looks


class LauncherKind(Protocol):
    """What a file of this folder gives."""

    SOURCE: str
    """Where its options are documented."""

    NAME: LauncherName
    FLAVOUR: Flavour | None
    SCHEDULERS: tuple[SchedulerName, ...]
    """In whose allocations it can start something, and is the right one; none: anywhere, if nothing else is."""

    SHARES_NODES: bool
    """Whether two of its launches may use parts of one node at a time; else a job takes its nodes whole."""

    NESTS: bool
    """Whether a rank of its can call it for the node that it is on."""

    PROGRAMS: tuple[str, ...]
    """Names that are its own alone."""

    SIGN: str
    """A program that its installation has beside `mpiexec`, and no other's; empty: it never is `mpiexec`."""

    VERSION: str
    """What `mpiexec --version` prints when that is this launcher, as a regular expression."""

    LOOKS: Looks
    VARIABLES: RankVariables
    PASSED_ON: tuple[str, ...]
    WIRING: tuple[str, ...]
    """What it sets to wire one rank up with the others: poison to any process that is not this rank (MPICH takes
    PMI_FD at its word)."""

    UNSET: tuple[str, ...]

    def mpi_types(self, snapshot: Snapshot, /) -> tuple[str, ...]:
        """Return what it says it can wire up."""

    def command(self, request: LaunchRequest, /) -> Launch:
        """Return the launch of these ranks."""


LAUNCHERS: tuple[LauncherKind, ...] = (flux, srun, jsrun, pals, aprun, hydra, openmpi)

WIRING: tuple[str, ...] = tuple(sorted({name for kind in LAUNCHERS for name in kind.WIRING}))
"""Of the step that we may be a rank of ourselves; no payload and no launcher of ours may see it."""

BINDING_OF_OTHERS: tuple[str, ...] = ("OMP_PLACES", "OMP_PROC_BIND", "KMP_AFFINITY", "GOMP_CPU_AFFINITY", "PARSL_*")
"""Where threads run, as meant for whoever started us (Parsl sets them for a worker's own cores, OpenMP 5.2 section
21.1 and Intel's and GNU's manuals name them): they would fight with the plan's binding."""


def launcher_named(name: LauncherName, flavour: Flavour | None) -> LauncherKind | None:
    """Return the launcher that facts name; None for `local`."""
    return next((kind for kind in LAUNCHERS if (name, flavour) == (kind.NAME, kind.FLAVOUR)), None)
