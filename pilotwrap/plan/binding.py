"""Which CPUs and devices each local rank gets."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TypeVar

from pilotwrap.model.base import Value
from pilotwrap.model.cpulist import cpu_list, cpus_of
from pilotwrap.model.errors import BadInputError
from pilotwrap.model.job import RankBinding, Shape
from pilotwrap.model.node import Accelerator, DeviceKind, NodeFacts, Vendor
from pilotwrap.model.plan import Because, Binding
from pilotwrap.plan.request import PlanRequest
from pilotwrap.site.accelerators.vendors import VENDORS


class Device(Value):
    """An accelerator as it is lent: equal on nodes that are alike."""

    name: str
    """Its PCI address; of a card in parts each but the first has its number behind it, as in ADDRESS/1."""

    vendor: Vendor
    kind: DeviceKind
    near: frozenset[int]
    """The CPUs next to it; none: not known."""

    number: int
    """Its own among those that its runtime counts there: one mask for several nodes names it by that."""


AnyDevice = TypeVar("AnyDevice", Accelerator, Device)


def lendable(node: NodeFacts, *, serials: bool) -> tuple[Device, ...]:
    """Return the usable devices in the order of their runtime's numbers.

    Where some are slices, only with their serial numbers (`serials`: the facts hold this very node's), for a runtime
    does not count slices.
    """
    sliced = {device.vendor for device in node.accelerators if device.kind == "mig"}
    return tuple(
        Device(
            name=name, vendor=device.vendor, kind=device.kind, near=_near(device, node), number=_number(device, node)
        )
        for name, device in names(node).items()
        if device.health == "ok"
        if serials or device.vendor not in sliced
    )


def _number(device: Accelerator, node: NodeFacts) -> int:
    return _counted(device.vendor, node).index(device)


def fitting(devices: Collection[AnyDevice], shape: Shape) -> list[AnyDevice]:
    """Return the devices that a rank of this shape can use.

    They are of one vendor, where none is asked for of the one that has most: no program uses two. A rank of several
    devices gets no MIG instances, for CUDA opens one alone in a process (MIG user guide).
    """
    whole = [device for device in devices if device.kind != "mig" or shape.gpus_per_rank == 1]
    count = Counter(device.vendor for device in whole)
    chosen = max(count, key=count.__getitem__, default="any") if shape.gpu_vendor == "any" else shape.gpu_vendor
    return [device for device in whole if device.vendor == chosen]


def names(node: NodeFacts) -> dict[str, Accelerator]:
    """Return the devices by the names under which they are lent."""
    parts: Counter[str] = Counter()
    found = {}
    for device in node.accelerators:
        address = device.pci_address
        found[f"{address}/{parts[address]}" if parts[address] else address] = device
        parts[address] += 1
    return found


def closest(cores: Sequence[str], count: int, near: Collection[int], others: Collection[int]) -> tuple[str, ...]:
    """Return so many of the cores, in their order: those `near` a device first, those near `others` last."""

    def distance(core: str) -> int:
        first = int(core.split(",", maxsplit=1)[0])
        return 0 if first in near else 1 + (first in others)

    chosen = set(sorted(cores, key=distance)[:count])
    return tuple(core for core in cores if core in chosen)


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
    devices, cores = _devices(shape, request), request.free_cores
    each = _checked(cores_per_rank(shape, len(cores)), shape, cores)
    if shape.binding == "none" or each == 0:
        reason = "binding none in the spec" if each else f"{shape.ranks_per_node} ranks share {len(cores)} cores"
        why = Because(decision="ranks not bound to CPUs", reason=reason)
        return _bound([None] * shape.ranks_per_node, devices, request), why
    threads = [_threads(block, shape.smt) for block in _blocks(each, devices, request)]
    ordered = devices[::-1] if shape.binding == "reversed" else devices
    reason = "cpus_per_rank of the spec" if shape.cpus_per_rank else f"a fair share of {len(cores)} usable cores"
    why = Because(decision=f"{each} cores a rank, {shape.smt} threads of each", reason=reason)
    return _bound(threads, ordered, request), why


def withheld(bound: Sequence[Binding], head: NodeFacts) -> str:
    """Return what of these bindings on the head's own node the step that the head is in does not give it, or nothing.

    A worker's step often holds one core and no device of the node that its allocation has whole.
    """
    cpus = {cpu for one in bound for cpu in cpus_of(one.cpus or "")} - set(cpus_of(head.cpus.granted))
    if cpus:
        return f"the step that we are in lacks the CPUs {cpu_list(cpus)}"
    refused = {device.pci_address for device in head.accelerators if device.reason == "not-granted"}
    lacking = [address for one in bound for address in one.devices if address in refused]
    return f"the step that we are in may not open {lacking[0]}" if lacking else ""


def _checked(each: int, shape: Shape, cores: tuple[str, ...]) -> int:
    if each * shape.ranks_per_node > len(cores):
        raise BadInputError(
            f"{shape.ranks_per_node} ranks of {each} cores ask for {each * shape.ranks_per_node} cores a node",
            why=f"a node has {len(cores)} for us",
            remedy="lower ranks_per_node or cpus_per_rank, or use more nodes",
        )
    return each


def _blocks(each: int, devices: list[tuple[Accelerator, ...]], request: PlanRequest) -> list[tuple[str, ...]]:
    """Return the cores of each rank: near its devices where it is bound so, else in their order."""
    near = [{cpu for device in own for cpu in _near(device, request.node)} for own in devices]
    blocks, left = [], request.free_cores
    for own in near if request.job.binding == "closest" else [set[int]()] * len(near):
        others = {cpu for other in near for cpu in other} - own
        blocks.append(closest(left, each, own, others if own else ()))
        taken = set(blocks[-1])
        left = tuple(core for core in left if core not in taken)
    return blocks


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


def _devices(shape: Shape, request: PlanRequest) -> list[tuple[Accelerator, ...]]:
    """Return the devices of each local rank, in the order of their runtime's numbers."""
    fit, seen = fitting(_granted(request), shape), len(request.node.accelerators)
    each, ranks = shape.gpus_per_rank, shape.ranks_per_node
    if each > len(fit) or (each * ranks > len(fit) and not shape.gpu_sharing):
        raise BadInputError(
            f"{ranks} ranks of {each} devices ask for {each * ranks} accelerators a node",
            why=f"a node has {len(fit)} usable ({seen} seen)",
            remedy="lower gpus_per_rank, set gpu_sharing, or see `pilotwrap inspect` for what is wrong with the others",
        )
    if each == 0:
        return [()] * ranks
    return [tuple(fit[(rank * each + index) % len(fit)] for index in range(each)) for rank in range(ranks)]


def _granted(request: PlanRequest) -> list[Accelerator]:
    """Return the usable devices that the job may use."""
    lent = request.devices
    found = names(request.node).items()
    return [device for name, device in found if device.health == "ok" and (lent is None or name in lent)]


def _near(device: Accelerator, node: NodeFacts) -> frozenset[int]:
    """Return the CPUs next to a device; none where neither the device nor its NUMA node tells them."""
    own = node.cpus.numa.get(device.numa_node, "") if device.numa_node is not None else ""
    try:
        return frozenset(cpus_of(device.near_cpus or own))
    except ValueError:
        return frozenset()


def _bound(
    cpus: Sequence[str | None], devices: Sequence[tuple[Accelerator, ...]], request: PlanRequest
) -> tuple[Binding, ...]:
    called = {device: name for name, device in names(request.node).items()}
    return tuple(
        Binding(
            local_rank=rank,
            cpus=own,
            accelerators=tuple(_serial(device, request) or called[device] for device in devices[rank]),
            env=_mask(devices[rank], request),
            devices=tuple(dict.fromkeys(device.pci_address for device in devices[rank])),
            counted=_counted_addresses(devices[rank], request),
        )
        for rank, own in enumerate(cpus)
    )


def _serial(device: Accelerator, request: PlanRequest) -> str | None:
    return device.uuid if request.knows_serials else None


def _by_serial(devices: Sequence[Accelerator], request: PlanRequest) -> bool:
    """Tell whether these devices are named by UUID: NVIDIA's, alike under every order, where we know them."""
    return all(device.vendor == "nvidia" and _serial(device, request) for device in devices)


def _counted(vendor: Vendor, node: NodeFacts) -> list[Accelerator]:
    """Return the devices among which this vendor's runtime numbers its own."""
    without = VENDORS[vendor].UNCOUNTED
    return [one for one in node.accelerators if one.vendor == vendor and one.reason not in without]


def _counted_addresses(devices: Sequence[Accelerator], request: PlanRequest) -> tuple[str, ...]:
    if not devices or _by_serial(devices, request):
        return ()
    return tuple(dict.fromkeys(device.pci_address for device in _counted(devices[0].vendor, request.node)))


def _mask(devices: tuple[Accelerator, ...], request: PlanRequest) -> dict[str, str]:
    """Return the variables that show a rank its devices alone: those of one vendor, and of it one mask."""
    if not devices:
        return {}
    kind, counted = VENDORS[devices[0].vendor], _counted(devices[0].vendor, request.node)
    asked = request.job.gpu_variable or kind.MASK
    if asked not in kind.MASKS:
        raise BadInputError(
            f"gpu_variable is {asked!r}",
            why=f"the job's devices are {kind.NAME}'s, whose variables are {', '.join(kind.MASKS)}",
            remedy="leave it out, or set gpu_vendor too",
        )
    if _by_serial(devices, request):
        return {asked: ",".join(device.uuid for device in devices if device.uuid)}
    if any(one.kind == "mig" for one in counted):
        raise BadInputError(
            "the job's devices have no numbers",
            why=f"some are MIG instances, whose UUIDs are known of {request.node.host} alone, if at all",
            remedy="give each node a run of its own",
        )
    env = kind.mask(devices, counted)
    return {asked if name == kind.MASK else name: value for name, value in env.items()}


def _listed(listed: tuple[RankBinding, ...], request: PlanRequest) -> tuple[Binding, ...]:
    """Return the user's own binding, as far as it names what we may use."""
    cpus = [_own_cpus(rank, own.cpus, request) for rank, own in enumerate(listed)]
    devices = [_own_devices(rank, own.devices, request) for rank, own in enumerate(listed)]
    called = {device: name for name, device in names(request.node).items()}
    count = Counter(called[device] for own in devices for device in own)
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


def _own_devices(rank: int, wanted: tuple[str, ...], request: PlanRequest) -> tuple[Accelerator, ...]:
    by_name = names(request.node)
    by_name |= {one.uuid: one for one in request.node.accelerators if one.uuid}
    granted = _granted(request)
    for name in wanted:
        device = by_name.get(name)
        if device not in granted:
            raise BadInputError(
                f"binding[{rank}].devices names {name!r}",
                why=_fault(device),
                remedy="name PCI addresses (of a part: ADDRESS/1, …) or UUIDs as `pilotwrap inspect` prints them",
            )
    found = tuple(by_name[name] for name in wanted)
    if len({device.vendor for device in found}) > 1:
        raise BadInputError(f"binding[{rank}].devices mixes vendors", remedy="give a rank the devices of one vendor")
    return found


def _fault(device: Accelerator | None) -> str:
    if device is None:
        return "no such accelerator is on the node"
    return "another job holds it" if device.health == "ok" else f"it is unusable: {device.reason}"
