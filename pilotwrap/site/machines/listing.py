"""The machines that are known: every TOML file of this folder; a new one is its file and nothing else."""

import sys
from importlib import resources
from typing import Literal

from pydantic import ValidationError

from pilotwrap.model.base import Value
from pilotwrap.model.cpulist import cpu_list
from pilotwrap.model.errors import BadInputError, InternalError
from pilotwrap.model.node import LauncherName
from pilotwrap.model.snapshot import CommandSaid, FileSaid, Snapshot


class Machine(Value):
    """What is known of one kind of node of a machine; `source` says from where."""

    name: str
    description: str
    scheduler: Literal["slurm", "none"]
    launcher: LauncherName
    cores: int
    threads_per_core: int
    memory_mib: int
    source: str
    recognised: dict[str, str] = {}
    """Variables and their values that prove this machine; all must fit, and none prove nothing."""

    variables: dict[str, str] = {}
    """Others that its default modules set, for a synthetic node."""

    mpi_types: tuple[str, ...] = ()
    """What its launcher says it can wire up."""


def machines() -> tuple[Machine, ...]:
    """Return all machines, by name."""
    folder = resources.files("pilotwrap.site.machines")
    found = [_read(entry.name, entry.read_text()) for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return tuple(sorted(found, key=lambda machine: machine.name))


def machine_of(snapshot: Snapshot) -> str | None:
    """Return the machine that a snapshot is of, by its variables; None: unknown."""
    for machine in machines():
        wanted = machine.recognised
        if wanted and all(snapshot.variables.get(name) == value for name, value in wanted.items()):
            return machine.name
    return None


def machine_snapshot(name: str, nodes: int) -> Snapshot:
    """Return a synthetic snapshot of a machine's node at the head of an allocation of so many nodes."""
    known = {machine.name: machine for machine in machines()}
    if name not in known:
        raise BadInputError(f"no machine {name!r} is known", why=f"known are {', '.join(known)}")
    machine = known[name]
    threads = machine.cores * machine.threads_per_core
    slurm = machine.scheduler == "slurm"
    siblings = cpu_list(range(0, threads, machine.cores))
    return Snapshot(
        host="node1",
        source=f"synthetic, of {name}: {machine.source}",
        affinity=cpu_list(range(threads)),
        variables={
            **machine.recognised,
            **machine.variables,
            **({"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": f"node[1-{nodes}]"} if slurm else {}),
        },
        files={
            "/proc/meminfo": FileSaid(text=f"MemTotal: {machine.memory_mib * 1024} kB\n"),
            "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list": FileSaid(text=siblings),
        },
        programs={machine.launcher: f"/usr/bin/{machine.launcher}"} if slurm else {},
        commands=(CommandSaid(argv=("srun", "--mpi=list"), exit=0, output="\n".join(machine.mpi_types)),)
        if slurm
        else (),
    )


def _read(name: str, text: str) -> Machine:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return Machine.model_validate(tomllib.loads(text))
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise InternalError(f"the machine file {name} is wrong", why=str(error)) from error
