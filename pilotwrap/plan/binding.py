"""Which CPUs and devices each local rank gets."""

from collections import Counter
from collections.abc import Sequence

from pilotwrap.model.cpulist import cpu_list, cpus_of
from pilotwrap.model.errors import BadInputError
from pilotwrap.model.job import RankBinding, Shape
from pilotwrap.model.node import Accelerator, NodeFacts
from pilotwrap.model.plan import Because, Binding
from pilotwrap.plan.request import PlanRequest
from pilotwrap.site.accelerators.vendors import IN_BUS_ORDER, MASKS


def cores_per_rank(shape: Shape, cores: int) -> int:
    """Return how many physical cores each rank gets; 0: there are fewer than ranks, so all ranks share them all."""
    if shape.cpus_per_rank is not None:
        return shape.cpus_per_rank
    return cores // shape.ranks_per_node


def bindings(request: PlanRequest) -> tuple[tuple[Binding, ...], Because]:
    """Return one binding a local rank, and why; BadInputError when the job asks for more than a node has."""
    shape = request.job
    if not isinstance(shape.binding, str):
        return _listed(shape.binding, request), Because(decision="ranks bound as listed", reason="binding of the spec")
    devices, cores = _devices(shape, request.node), request.free_cores
    each = _checked(cores_per_rank(shape, len(cores)), shape, cores)
    if shape.binding == "none" or each == 0:
        reason = "binding none in the spec" if each else f"{shape.ranks_per_node} ranks share {len(cores)} cores"
        why = Because(decision="ranks not bound to CPUs", reason=reason)
        return _bound([None] * shape.ranks_per_node, devices, request), why
    blocks = [cores[rank * each : (rank + 1) * each] for rank in range(shape.ranks_per_node)]
    threads = [_threads(block, shape.smt) for block in blocks]
    ordered = devices[::-1] if shape.binding == "reversed" else devices
    reason = "cpus_per_rank of the spec" if shape.cpus_per_rank else f"a fair share of {len(cores)} usable cores"
    why = Because(decision=f"{each} cores a rank, {shape.smt} threads of each", reason=reason)
    return _bound(threads, ordered, request), why


def _checked(each: int, shape: Shape, cores: tuple[str, ...]) -> int:
    if each * shape.ranks_per_node > len(cores):
        raise BadInputError(
            f"{shape.ranks_per_node} ranks of {each} cores ask for {each * shape.ranks_per_node} cores a node",
            why=f"a node has {len(cores)} for us",
            remedy="lower ranks_per_node or cpus_per_rank, or use more nodes",
        )
    return each


def _threads(cores: tuple[str, ...], smt: int) -> str:
    taken: list[int] = []
    for core in cores:
        threads = cpus_of(core)
        if smt > len(threads):
            raise BadInputError(
                f"smt {smt} asks for {smt} hardware threads a core",
                why=f"core {core} grants {len(threads)}",
                remedy="lower smt",
            )
        taken.extend(threads[:smt])
    return cpu_list(taken)


def _devices(shape: Shape, node: NodeFacts) -> list[tuple[Accelerator, ...]]:
    """Return the devices of each local rank, in the order of the PCI bus."""
    fit = _fit(shape, node)
    each, ranks = shape.gpus_per_rank, shape.ranks_per_node
    if each > len(fit) or (each * ranks > len(fit) and not shape.gpu_sharing):
        raise BadInputError(
            f"{ranks} ranks of {each} devices ask for {each * ranks} accelerators a node",
            why=f"a node has {len(fit)} usable ({len(node.accelerators)} seen)",
            remedy="lower gpus_per_rank, set gpu_sharing, or see `pilotwrap inspect` for what is wrong with the others",
        )
    if each == 0:
        return [()] * ranks
    return [tuple(fit[(rank * each + index) % len(fit)] for index in range(each)) for rank in range(ranks)]


def _fit(shape: Shape, node: NodeFacts) -> list[Accelerator]:
    """Return the usable devices of one vendor; of any: of the one that has most, for no program uses two."""
    usable = [device for device in node.accelerators if device.health == "ok"]
    count = Counter(device.vendor for device in usable)
    vendor = max(count, key=count.__getitem__, default="any") if shape.gpu_vendor == "any" else shape.gpu_vendor
    return [device for device in usable if device.vendor == vendor]


def _bound(
    cpus: Sequence[str | None], devices: Sequence[tuple[Accelerator, ...]], request: PlanRequest
) -> tuple[Binding, ...]:
    return tuple(
        Binding(
            local_rank=rank,
            cpus=own,
            accelerators=tuple(device.uuid or device.pci_address for device in devices[rank]),
            env=_mask(devices[rank], request.node),
        )
        for rank, own in enumerate(cpus)
    )


def _mask(devices: tuple[Accelerator, ...], node: NodeFacts) -> dict[str, str]:
    """Return the variables that show a rank its devices alone.

    NVIDIA's by UUID, which counts alike under every order; the others', whose UUIDs the host does not show, by
    their number among what is granted to us.
    """
    if not devices:
        return {}
    vendor = devices[0].vendor
    if vendor == "nvidia" and all(device.uuid for device in devices):
        return {MASKS[vendor]: ",".join(device.uuid or "" for device in devices)}
    granted = [one for one in node.accelerators if one.vendor == vendor and one.reason != "not-granted"]
    return {MASKS[vendor]: ",".join(str(granted.index(device)) for device in devices), **IN_BUS_ORDER[vendor]}


def _listed(listed: tuple[RankBinding, ...], request: PlanRequest) -> tuple[Binding, ...]:
    """Return the user's own binding, as far as it names what we may use."""
    cpus = [_own_cpus(rank, own.cpus, request) for rank, own in enumerate(listed)]
    devices = [_own_devices(rank, own.devices, request.node) for rank, own in enumerate(listed)]
    count = Counter(device.uuid or device.pci_address for own in devices for device in own)
    twice = [name for name, number in count.items() if number > 1]
    if twice and not request.job.gpu_sharing:
        raise BadInputError(
            f"binding gives {twice[0]!r} more than once",
            why="gpu_sharing is false",
            remedy="name each device once, or set gpu_sharing",
        )
    return _bound(cpus, devices, request)


def _own_cpus(rank: int, text: str, request: PlanRequest) -> str:
    granted = {cpu for core in request.free_cores for cpu in cpus_of(core)}
    try:
        wanted = cpus_of(text)
    except ValueError as error:
        raise BadInputError(f"binding[{rank}].cpus: {error}") from error
    if not wanted or not granted.issuperset(wanted):
        raise BadInputError(
            f"binding[{rank}].cpus is {text!r}",
            why=f"only {cpu_list(granted)} are granted to us",
            remedy="name CPUs of that list",
        )
    return cpu_list(wanted)


def _own_devices(rank: int, names: tuple[str, ...], node: NodeFacts) -> tuple[Accelerator, ...]:
    by_name = {name: device for device in node.accelerators for name in (device.pci_address, device.uuid)}
    for name in names:
        device = by_name.get(name)
        if device is None or device.health != "ok":
            raise BadInputError(
                f"binding[{rank}].devices names {name!r}",
                why=f"it is unusable: {device.reason}" if device else "no such accelerator is on the node",
                remedy="name PCI addresses or UUIDs as `pilotwrap inspect` prints them",
            )
    found = tuple(by_name[name] for name in names)
    if len({device.vendor for device in found}) > 1:
        raise BadInputError(f"binding[{rank}].devices mixes vendors", remedy="give a rank the devices of one vendor")
    return found
