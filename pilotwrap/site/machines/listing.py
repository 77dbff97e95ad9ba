"""The machines that are known: every TOML file of this folder; a new one is its file and nothing else."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from pilotwrap.model.errors import BadInputError
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.accelerators.vendors import vendor_of
from pilotwrap.site.machines.file import machine_in
from pilotwrap.site.machines.machine import Machine, Recognition


@cache
def machines() -> tuple[Machine, ...]:
    """Return all machines, by name; the package's own files, read once."""
    # importlib.resources would open as many files again as there are machines
    found = [machine_in(path.read_text(encoding="utf-8"), path.name) for path in Path(__file__).parent.glob("*.toml")]
    return tuple(sorted(found, key=lambda machine: machine.name))


def machine_of(snapshot: Snapshot, own: Iterable[Machine] = ()) -> Machine | None:
    """Return the machine that a snapshot shows itself to be of, the user's `own` ones first; None: unknown."""
    return fitting(snapshot, own) or fitting(snapshot, machines())


def fitting(snapshot: Snapshot, among: Iterable[Machine]) -> Machine | None:
    """Return the first of these machines that a snapshot shows itself to be of."""
    return next((one for one in among if any(_fits(proof, snapshot) for proof in one.recognised)), None)


def machine_named(name: str, own: Iterable[Machine] = ()) -> Machine:
    """Return a machine by its name, the user's `own` ones first."""
    known = {machine.name: machine for machine in (*machines(), *own)}
    if name not in known:
        raise BadInputError(
            f"no machine {name!r} is known",
            why=f"known are {', '.join(known)}",
            remedy="name one of them, or write its file (`pilotwrap inspect --draft FILE` there begins it)",
        )
    return known[name]


def _fits(proof: Recognition, snapshot: Snapshot) -> bool:
    said = snapshot.variables
    named = all(fnmatchcase(said.get(name, ""), value) and name in said for name, value in proof.variables.items())
    hosts = (snapshot.host, said.get("HOSTNAME", ""), *_nodes(snapshot))
    placed = proof.host is None or any(fnmatchcase(host, proof.host) for host in hosts)
    vendors = {vendor_of(device) for device in snapshot.devices} - {None}
    equipped = proof.devices is None or (proof.devices in vendors if proof.devices != "none" else not vendors)
    return named and placed and equipped


def _nodes(snapshot: Snapshot) -> list[str]:
    """Return the first lines of PBS's file of nodes, whose names are long where the host's own is short."""
    return (snapshot.text(snapshot.variables.get("PBS_NODEFILE", "")) or "").splitlines()[:1]
