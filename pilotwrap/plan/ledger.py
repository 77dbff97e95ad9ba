"""What of the allocation is free: cores and memory of each node, lent to jobs and given back. Pure values."""

from pilotwrap.model.allocation import AllocationFacts
from pilotwrap.model.base import Value
from pilotwrap.model.job import Shape
from pilotwrap.plan.binding import cores_per_rank


class Allotment(Value):
    """What one job holds: the same cores on each of its hosts, and memory on each."""

    hosts: tuple[str, ...]
    cores: tuple[str, ...]
    memory_mib: int


class Ledger(Value):
    """The free cores and the free memory (MiB) of each fit node."""

    free: dict[str, tuple[str, ...]]
    memory_mib: dict[str, int]
    cores_per_node: int
    memory_per_node_mib: int

    @property
    def idle(self) -> bool:
        """Tell whether nothing is lent."""
        return all(len(cores) == self.cores_per_node for cores in self.free.values())


def ledger_of(allocation: AllocationFacts) -> Ledger:
    """Return everything free."""
    facts = {host: group.facts for group in allocation.groups for host in group.hosts}
    first = facts[allocation.hosts[0]]
    return Ledger(
        free={host: facts[host].cpus.cores for host in allocation.hosts},
        memory_mib={host: facts[host].memory.usable_mib for host in allocation.hosts},
        cores_per_node=len(first.cpus.cores),
        memory_per_node_mib=first.memory.usable_mib,
    )


def needs(ledger: Ledger, shape: Shape) -> tuple[int, int]:
    """Return the cores and the memory (MiB) that a shape takes of each of its nodes; left out: all of them."""
    each = cores_per_rank(shape, ledger.cores_per_node)
    cores = each * shape.ranks_per_node if shape.cpus_per_rank else ledger.cores_per_node
    return cores, (shape.memory_mib_per_rank or 0) * shape.ranks_per_node


def possible(ledger: Ledger, shape: Shape) -> bool:
    """Tell whether the shape would fit if everything were free."""
    cores, memory = needs(ledger, shape)
    fits = cores <= ledger.cores_per_node and memory <= ledger.memory_per_node_mib
    return fits and shape.nodes <= len(ledger.free)


def lend(ledger: Ledger, shape: Shape) -> tuple[Ledger, Allotment | None]:
    """Return the ledger with the shape's share lent, and the share; None when it does not fit now."""
    cores, memory = needs(ledger, shape)
    hosts = tuple(
        host for host, free in ledger.free.items() if len(free) >= cores and ledger.memory_mib[host] >= memory
    )[: shape.nodes]
    if len(hosts) < shape.nodes:
        return ledger, None
    taken = ledger.free[hosts[0]][:cores]
    if any(not set(taken) <= set(ledger.free[host]) for host in hosts):
        return ledger, None
    allotment = Allotment(hosts=hosts, cores=taken, memory_mib=memory)
    return _changed(ledger, allotment, sign=-1), allotment


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
