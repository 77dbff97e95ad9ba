"""What of the allocation is free: cores, memory and devices of each node, lent to jobs and given back. Pure values."""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

from pilotwrap.model.allocation import AllocationFacts
from pilotwrap.model.base import Value
from pilotwrap.model.job import Shape
from pilotwrap.model.node import NodeFacts
from pilotwrap.plan.binding import Device, closest, fitting, lendable
from pilotwrap.site.launchers.listing import launcher_named

Thing = TypeVar("Thing")


class Allotment(Value):
    """What one job holds: the same cores and the same devices on each of its hosts, and memory on each."""

    hosts: tuple[str, ...]
    cores: tuple[str, ...]
    memory_mib: int
    devices: tuple[str, ...] = ()
    """By their names in `Device`."""

    shared: bool = False
    """The devices stay free for others, too."""


class Ledger(Value):
    """The free cores, memory (MiB) and devices of each fit node, and what each had at first."""

    free: dict[str, tuple[str, ...]]
    memory_mib: dict[str, int]
    devices: dict[str, tuple[Device, ...]]
    all_cores: dict[str, tuple[str, ...]]
    all_memory_mib: dict[str, int]
    all_devices: dict[str, tuple[Device, ...]]
    whole_nodes: bool = False
    """Each job takes its nodes whole: the launcher here lets no two share one."""

    @property
    def idle(self) -> bool:
        """Tell whether nothing is lent."""
        whole = self.all_cores, self.all_memory_mib, self.all_devices
        return (self.free, self.memory_mib, self.devices) == whole

    @property
    def cores_per_node(self) -> int:
        """Return how many cores the first node has."""
        return len(next(iter(self.all_cores.values()), ()))

    @property
    def devices_per_node(self) -> int:
        """Return how many usable devices the first node has."""
        return len(next(iter(self.all_devices.values()), ()))


def ledger_of(allocation: AllocationFacts) -> Ledger:
    """Return everything free."""
    facts = {host: group.facts for group in allocation.groups for host in group.hosts}
    cores = {host: facts[host].cpus.cores for host in allocation.hosts}
    memory = {host: facts[host].memory.usable_mib for host in allocation.hosts}
    found: dict[str, tuple[Device, ...]] = {}
    for group in allocation.groups:
        found |= dict.fromkeys(group.hosts, lendable(group.facts, serials=False))
        found |= dict.fromkeys(group.hosts[:1], lendable(group.facts, serials=True))
    devices = {host: found[host] for host in allocation.hosts}
    return _all_free(cores, memory, devices, whole_nodes=_takes_whole(allocation.head))


def _all_free(
    cores: dict[str, tuple[str, ...]],
    memory_mib: dict[str, int],
    devices: dict[str, tuple[Device, ...]],
    *,
    whole_nodes: bool,
) -> Ledger:
    return Ledger(
        free=cores,
        memory_mib=memory_mib,
        devices=devices,
        all_cores=cores,
        all_memory_mib=memory_mib,
        all_devices=devices,
        whole_nodes=whole_nodes,
    )


def _takes_whole(head: NodeFacts) -> bool:
    """Tell whether what starts jobs here takes nodes whole; on the one node that we are on we start them ourselves."""
    kind = launcher_named(head.launcher.command, head.launcher.flavour)
    return kind is not None and not kind.SHARES_NODES and not head.allocation.is_this_node


def within(ledger: Ledger, allotment: Allotment) -> Ledger:
    """Return a share as a ledger of its own, all of it free."""
    hosts, names = allotment.hosts, set(allotment.devices)
    cores = dict.fromkeys(hosts, allotment.cores)
    memory = dict.fromkeys(hosts, allotment.memory_mib)
    devices = {host: tuple(one for one in ledger.all_devices[host] if one.name in names) for host in hosts}
    return _all_free(cores, memory, devices, whole_nodes=ledger.whole_nodes)


def needs(ledger: Ledger, shape: Shape, host: str) -> tuple[int, int]:
    """Return the cores and the memory (MiB) that a shape takes of a node.

    Cores left out are the share of the devices that the job takes for itself, all of them where it takes none; a
    binding that lists CPUs by name takes the node. Memory left out is the cores' share. Where the launcher shares no
    nodes, every job takes all of them.
    """
    every, devices = len(ledger.all_cores[host]), len(ledger.all_devices[host])
    if ledger.whole_nodes:
        return _whole(ledger, shape, host)
    asked = shape.ranks_per_node * (shape.cpus_per_rank or 0)
    own = 0 if shape.gpu_sharing else shape.ranks_per_node * shape.gpus_per_rank
    share = max(every * min(own, devices) // devices, 1) if own and devices else every
    cores = max(every, asked) if _listed(shape) else asked or share
    if shape.memory_mib_per_rank is not None:
        return cores, shape.memory_mib_per_rank * shape.ranks_per_node
    return cores, ledger.all_memory_mib[host] * min(cores, every) // max(every, 1)


def _whole(ledger: Ledger, shape: Shape, host: str) -> tuple[int, int]:
    """Return all that a node has, or more if the shape asks for more: then it never fits."""
    cores = shape.ranks_per_node * (shape.cpus_per_rank or 0)
    memory = shape.ranks_per_node * (shape.memory_mib_per_rank or 0)
    return max(len(ledger.all_cores[host]), cores), max(ledger.all_memory_mib[host], memory)


def possible(ledger: Ledger, shape: Shape) -> bool:
    """Tell whether the shape would fit if everything were free."""
    whole = {"free": ledger.all_cores, "memory_mib": ledger.all_memory_mib, "devices": ledger.all_devices}
    return lend(ledger.model_copy(update=whole), shape)[1] is not None


def lend(ledger: Ledger, shape: Shape) -> tuple[Ledger, Allotment | None]:
    """Return the ledger with the shape's share lent, and the share; None when it does not fit now.

    Every node gives the same cores and devices, for a launch has one binding for all. A job that shares devices gets
    those that nobody holds for himself, and they stay free: whoever asks next may get them for himself.
    """
    refused: set[_Part] = set()
    for first in ledger.free:
        part = _part(ledger, shape, first) if ledger.free[first] else None
        # many nodes have the same free: each would ask all others the same again
        if part is None or part in refused:
            continue
        allotment = _share(ledger, shape, first, part)
        if allotment is not None:
            return take(ledger, allotment), allotment
        if shape.nodes > 1:
            refused.add(part)
    return ledger, None


def take(ledger: Ledger, *allotments: Allotment) -> Ledger:
    """Return the ledger with shares lent that are free in it."""
    return _changed(ledger, allotments, sign=-1)


def give_back(ledger: Ledger, *allotments: Allotment) -> Ledger:
    """Return the ledger with shares free again."""
    return _changed(ledger, allotments, sign=1)


def common(one: Ledger, other: Ledger) -> Ledger:
    """Return what is free in both of two states of one ledger."""
    update = {
        "free": {host: _both(cores, other.free[host]) for host, cores in one.free.items()},
        "memory_mib": {host: min(memory, other.memory_mib[host]) for host, memory in one.memory_mib.items()},
        "devices": {host: _both(devices, other.devices[host]) for host, devices in one.devices.items()},
    }
    return one.model_copy(update=update)


def slots(ledger: Ledger, shape: Shape) -> int:
    """Return how many jobs of this shape fit now."""
    if shape.nodes == 1 < len(ledger.free):
        # node by node: a change costs a copy of the ledger, however large it is
        return sum(slots(_only(ledger, host), shape) for host in ledger.free)
    count, lent = 0, ledger
    while True:
        lent, allotment = lend(lent, shape)
        if allotment is None:
            return count
        count += 1


def _only(ledger: Ledger, host: str) -> Ledger:
    whole = {name: values for name in Ledger.model_fields if isinstance(values := getattr(ledger, name), dict)}
    return ledger.model_copy(update={name: {host: values[host]} for name, values in whole.items()})


def _listed(shape: Shape) -> bool:
    return not isinstance(shape.binding, str)


class _Part(NamedTuple):
    """What a job would take of each of its nodes."""

    cores: tuple[str, ...]
    memory_mib: int
    devices: tuple[Device, ...]


def _part(ledger: Ledger, shape: Shape, first: str) -> _Part | None:
    """Return the part that a job would get of a node; None: too little of it is free."""
    devices, (cores, memory) = _devices(ledger, shape, first), needs(ledger, shape, first)
    if devices is None or not 0 < cores <= len(ledger.free[first]):
        return None
    return _Part(_cores(ledger, first, cores, devices), memory, devices)


def _share(ledger: Ledger, shape: Shape, first: str, part: _Part) -> Allotment | None:
    """Return the share that has this part of each of its nodes; None: too few nodes can give it."""
    cores, devices = set(part.cores), set(part.devices)
    able = (
        host
        for host in (ledger.free if shape.nodes > 1 else (first,))
        if part.memory_mib <= ledger.memory_mib[host]
        and _has(ledger.free[host], part.cores, cores)
        and _has(ledger.devices[host], part.devices, devices)
    )
    hosts = tuple(islice(able, shape.nodes))
    if len(hosts) < shape.nodes:
        return None
    names = tuple(device.name for device in part.devices)
    shared = bool(names) and shape.gpu_sharing
    return Allotment(hosts=hosts, cores=part.cores, memory_mib=part.memory_mib, devices=names, shared=shared)


def _has(free: tuple[Thing, ...], wanted: tuple[Thing, ...], as_set: set[Thing]) -> bool:
    """Tell whether all that is wanted is free; most often it is the beginning of it, which is seen at once."""
    return free[: len(wanted)] == wanted or (len(wanted) <= len(free) and as_set <= set(free))


def _devices(ledger: Ledger, shape: Shape, host: str) -> tuple[Device, ...] | None:
    """Return the devices that a job would get of a node; None: too few are free."""
    free = ledger.devices[host]
    if _listed(shape):
        return free if shape.gpu_sharing or len(free) == len(ledger.all_devices[host]) else None
    asked = shape.ranks_per_node * shape.gpus_per_rank
    fit = fitting(free, shape) if asked else []
    least = shape.gpus_per_rank if shape.gpu_sharing else asked
    return tuple(fit[:asked]) if len(fit) >= least else None


def _cores(ledger: Ledger, host: str, count: int, devices: Sequence[Device]) -> tuple[str, ...]:
    if not devices:
        return ledger.free[host][:count]
    near = {cpu for device in devices for cpu in device.near}
    others = {cpu for device in ledger.all_devices[host] for cpu in device.near}
    return closest(ledger.free[host], count, near, others)


def _both(some: tuple[Thing, ...], others: tuple[Thing, ...]) -> tuple[Thing, ...]:
    return some if some is others else tuple(thing for thing in some if thing in others)


def _changed(ledger: Ledger, allotments: Sequence[Allotment], *, sign: int) -> Ledger:
    free, memory, devices = dict(ledger.free), dict(ledger.memory_mib), dict(ledger.devices)
    for allotment in allotments:
        cores, names = set(allotment.cores), set(() if allotment.shared else allotment.devices)
        for host in allotment.hosts:
            memory[host] += sign * allotment.memory_mib
            has, had = set(free[host]), {device.name for device in devices[host]}
            has, had = (has | cores, had | names) if sign > 0 else (has - cores, had - names)
            free[host] = tuple(core for core in ledger.all_cores[host] if core in has)
            devices[host] = tuple(device for device in ledger.all_devices[host] if device.name in had)
    return ledger.model_copy(update={"free": free, "memory_mib": memory, "devices": devices})
