"""What starts ranks here, and which rank we are ourselves."""

import re
from collections.abc import Iterator

from pilotwrap.model.node import Allocation, Launcher
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.digits import number_of
from pilotwrap.site.launchers.listing import LAUNCHERS, LauncherKind
from pilotwrap.site.launchers.version import MPIEXEC, version_said


def launcher(snapshot: Snapshot, allocation: Allocation) -> Launcher:
    """Return the launcher to use here; `local`: there is none.

    The batch system's own comes first; then whoever `mpiexec` is, which the user's modules chose; then an MPI that is
    there under a name of its own.
    """
    found = sorted(_found(snapshot, allocation), key=lambda one: one[0])
    if not found:
        return Launcher(command="local")
    _, kind, path = found[0]
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


def _found(snapshot: Snapshot, allocation: Allocation) -> Iterator[tuple[tuple[bool, bool], LauncherKind, str]]:
    """Give each launcher that works here, with how far it is from the first choice, and its path."""
    owner = _owner_of_mpiexec(snapshot)
    for kind in LAUNCHERS:
        if kind.SCHEDULERS and allocation.scheduler not in kind.SCHEDULERS:
            continue
        own = [snapshot.programs[program] for program in kind.PROGRAMS if program in snapshot.programs]
        if kind is owner:
            mpiexec = snapshot.programs[MPIEXEC]
            beside = [path for path in own if _folder(path) == _folder(mpiexec)]
            yield (not kind.SCHEDULERS, False), kind, next(iter(beside), mpiexec)
        elif own:
            yield (not kind.SCHEDULERS, True), kind, own[0]


def _owner_of_mpiexec(snapshot: Snapshot) -> LauncherKind | None:
    """Return whose it is: by its own word, or, where it was not asked, by what lies beside it and beside no other."""
    path, version = snapshot.programs.get(MPIEXEC), version_said(snapshot)
    if path is None:
        return None
    many = [kind for kind in LAUNCHERS if kind.SIGN]
    if version:
        return next((kind for kind in many if re.search(kind.VERSION, version, re.MULTILINE)), None)
    beside = [kind for kind in many if snapshot.programs.get(kind.SIGN) == f"{_folder(path)}/{kind.SIGN}"]
    return beside[0] if len(beside) == 1 else None


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _number(said: dict[str, str], names: tuple[str, ...]) -> int | None:
    return next((number_of(said[name]) for name in names if name in said), None)
