"""What of the allocation is free: cores and memory of each node, lent to jobs and given back. Pure values."""

from pilotwrap.model.allocation import AllocationFacts
from pilotwrap.model.base import Value
from pilotwrap.model.job import Shape


class Allotment(Value):
    """What one job holds: the same cores on each of its hosts, and memory on each."""

    hosts: tuple[str, ...]
    cores: tuple[str, ...]
    memory_mib: int


class Ledger(Value):
    """The free cores and the free memory (MiB) of each fit node, and what each had at first."""

    free: dict[str, tuple[str, ...]]
    memory_mib: dict[str, int]
    all_cores: dict[str, tuple[str, ...]]
    all_memory_mib: dict[str, int]

    @property
    def idle(self) -> bool:
        """Tell whether nothing is lent."""
        return self.free == self.all_cores and self.memory_mib == self.all_memory_mib

    @property
    def cores_per_node(self) -> int:
        """Return how many cores the first node has; a job which takes a whole node takes so many."""
        return len(next(iter(self.all_cores.values()), ()))

    @property
    def memory_per_node_mib(self) -> int:
        """Return the memory of the first node."""
        return next(iter(self.all_memory_mib.values()), 0)


def ledger_of(allocation: AllocationFacts) -> Ledger:
    """Return everything free."""
    facts = {host: group.facts for group in allocation.groups for host in group.hosts}
    cores = {host: facts[host].cpus.cores for host in allocation.hosts}
    memory = {host: facts[host].memory.usable_mib for host in allocation.hosts}
    return Ledger(free=cores, memory_mib=memory, all_cores=cores, all_memory_mib=memory)


def needs(ledger: Ledger, shape: Shape) -> tuple[int, int]:
    """Return the cores and the memory (MiB) that a shape takes of each of its nodes.

    Cores left out are all of them, memory left out is the cores' share. A job with devices of its own takes all
    cores: devices are not lent one by one, and two jobs on a node would get the same.
    """
    every, alone = ledger.cores_per_node, shape.gpus_per_rank > 0 and not shape.gpu_sharing
    asked = shape.ranks_per_node * (shape.cpus_per_rank or 0)
    cores = max(every, asked) if alone or not asked else asked
    if shape.memory_mib_per_rank is not None:
        return cores, shape.memory_mib_per_rank * shape.ranks_per_node
    return cores, ledger.memory_per_node_mib * min(cores, every) // max(every, 1)


def possible(ledger: Ledger, shape: Shape) -> bool:
    """Tell whether the shape would fit if everything were free."""
    whole = ledger.model_copy(update={"free": ledger.all_cores, "memory_mib": ledger.all_memory_mib})
    return lend(whole, shape)[1] is not None


def lend(ledger: Ledger, shape: Shape) -> tuple[Ledger, Allotment | None]:
    """Return the ledger with the shape's share lent, and the share; None when it does not fit now.

    Every node gives the same cores, for a launch has one binding for all.
    """
    cores, memory = needs(ledger, shape)
    roomy = [host for host, free in ledger.free.items() if len(free) >= cores and ledger.memory_mib[host] >= memory]
    for first in roomy if cores else ():
        taken = ledger.free[first][:cores]
        hosts = tuple(host for host in roomy if set(taken) <= set(ledger.free[host]))[: shape.nodes]
        if len(hosts) == shape.nodes:
            allotment = Allotment(hosts=hosts, cores=taken, memory_mib=memory)
            return _changed(ledger, allotment, sign=-1), allotment
    return ledger, None


def give_back(ledger: Ledger, allotment: Allotment) -> Ledger:
    """Return the ledger with a share free again."""
    return _changed(ledger, allotment, sign=1)


def slots(ledger: Ledger, shape: Shape) -> int:
    """Return how many jobs of this shape fit now."""
    count, lent = 0, ledger
    while True:
        lent, allotment = lend(lent, shape)
        if allotment is None:
            return count
        count += 1


def _changed(ledger: Ledger, allotment: Allotment, *, sign: int) -> Ledger:
    free, memory = dict(ledger.free), dict(ledger.memory_mib)
    for host in allotment.hosts:
        memory[host] += sign * allotment.memory_mib
        if sign < 0:
            free[host] = tuple(core for core in free[host] if core not in set(allotment.cores))
        else:
            free[host] = tuple(sorted((*free[host], *allotment.cores), key=lambda core: int(core.split(",")[0])))
    return ledger.model_copy(update={"free": free, "memory_mib": memory})
