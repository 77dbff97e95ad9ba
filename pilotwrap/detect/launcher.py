"""What starts ranks here, and which rank we are ourselves."""

from pilotwrap.model.node import Allocation, Launcher
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.digits import number_of
from pilotwrap.site.launchers.listing import LAUNCHERS, LauncherKind


def launcher_kind(snapshot: Snapshot, allocation: Allocation) -> LauncherKind | None:
    """Return the launcher to use here; srun only inside of an allocation, where it cannot queue a job by itself."""
    for kind in LAUNCHERS:
        if kind.NAME == "srun" and allocation.scheduler != "slurm":
            continue
        if any(program in snapshot.programs for program in kind.PROGRAMS):
            return kind
    return None


def launcher(snapshot: Snapshot, allocation: Allocation) -> Launcher:
    """Return the launcher's facts; `local`: there is none."""
    kind = launcher_kind(snapshot, allocation)
    if kind is None:
        return Launcher(command="local")
    path = next(snapshot.programs[program] for program in kind.PROGRAMS if program in snapshot.programs)
    said = snapshot.variables if allocation.inside_step else {}
    return Launcher(
        command=kind.NAME,
        flavour=kind.FLAVOUR,
        path=path,
        rank=_number(said, kind.VARIABLES.rank),
        local_rank=_number(said, kind.VARIABLES.local_rank),
        size=_number(said, kind.VARIABLES.size),
        mpi_types=kind.mpi_types(snapshot),
        mpi_type=snapshot.variables.get("SLURM_MPI_TYPE"),
    )


def _number(said: dict[str, str], names: tuple[str, ...]) -> int | None:
    return next((number_of(said[name]) for name in names if name in said), None)
