"""The launchers that are known; a new one is its file and one line here."""

from typing import Protocol

from pilotwrap.model.node import Flavour, LauncherName
from pilotwrap.model.plan import Launch, RankVariables
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.launchers import hydra, srun
from pilotwrap.site.launchers.request import LaunchRequest
from pilotwrap.site.looks import Looks


class LauncherKind(Protocol):
    """What a file of this folder gives."""

    NAME: LauncherName
    FLAVOUR: Flavour | None
    PROGRAMS: tuple[str, ...]
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


SRUN: LauncherKind = srun
HYDRA: LauncherKind = hydra
LAUNCHERS: tuple[LauncherKind, ...] = (SRUN, HYDRA)

WIRING: tuple[str, ...] = tuple(sorted({name for kind in LAUNCHERS for name in kind.WIRING}))
"""Of the step that we may be a rank of ourselves; no payload and no launcher of ours may see it."""


def launcher_named(name: LauncherName, flavour: Flavour | None) -> LauncherKind | None:
    """Return the launcher that facts name; None for `local`."""
    return next((kind for kind in LAUNCHERS if (name, flavour) == (kind.NAME, kind.FLAVOUR)), None)
