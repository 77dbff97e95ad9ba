"""Which CPUs and devices each local rank gets."""

from pilotwrap.model.cpulist import cpu_list, cpus_of
from pilotwrap.model.errors import BadInputError
from pilotwrap.model.job import RankBinding, Shape
from pilotwrap.model.node import Accelerator, NodeFacts
from pilotwrap.model.plan import Because, Binding
from pilotwrap.plan.request import PlanRequest
from pilotwrap.site.accelerators.vendors import MASKS


def cores_per_rank(shape: Shape, cores: int) -> int:
    """Return how many physical cores each rank gets; 0: there are fewer than ranks, so all ranks share them all."""
    if shape.cpus_per_rank is not None:
        return shape.cpus_per_rank
    return cores // shape.ranks_per_node


def bindings(request: PlanRequest) -> tuple[tuple[Binding, ...], Because]:
    """Return one binding a local rank, and why; BadInputError when the job asks for more than a node has."""
    shape, cores = request.job, request.free_cores
    devices = _devices(shape, request.node)
    if not isinstance(shape.binding, str):
        chosen = tuple(_own(rank, own, request) for rank, own in enumerate(shape.binding))
        return chosen, Because(decision="ranks bound as the job lists", reason="binding of the spec")
    each = cores_per_rank(shape, len(cores))
    if each * shape.ranks_per_node > len(cores):
        raise BadInputError(
            f"{shape.ranks_per_node} ranks of {each} cores ask for {each * shape.ranks_per_node} cores a node",
            why=f"a node has {len(cores)} for us",
            remedy="lower ranks_per_node or cpus_per_rank, or use more nodes",
        )
    if shape.binding == "none" or each == 0:
        reason = "binding none in the spec" if each else f"{shape.ranks_per_node} ranks share {len(cores)} cores"
        unbound = tuple(_binding(rank, None, devices[rank]) for rank in range(shape.ranks_per_node))
        return unbound, Because(decision="ranks not bound to CPUs", reason=reason)
    blocks = [cores[rank * each : (rank + 1) * each] for rank in range(shape.ranks_per_node)]
    if shape.binding == "reversed":
        devices = devices[::-1]
    chosen = tuple(_binding(rank, _threads(block, shape.smt), devices[rank]) for rank, block in enumerate(blocks))
    reason = "cpus_per_rank of the spec" if shape.cpus_per_rank else f"a fair share of {len(cores)} usable cores"
    return chosen, Because(decision=f"{each} cores a rank, {shape.smt} threads of each", reason=reason)


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
    fit = [
        device for device in node.accelerators if device.health == "ok" and shape.gpu_vendor in {"any", device.vendor}
    ]
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


def _binding(rank: int, cpus: str | None, devices: tuple[Accelerator, ...]) -> Binding:
    return Binding(local_rank=rank, cpus=cpus, accelerators=tuple(d.pci_address for d in devices), env=_mask(devices))


def _mask(devices: tuple[Accelerator, ...]) -> dict[str, str]:
    """Return the one vendor's variable; by UUID, which counts alike under every mask and device order."""
    if not devices:
        return {}
    names = ",".join(device.uuid or device.pci_address for device in devices)
    return dict.fromkeys(MASKS[devices[0].vendor], names)


def _own(rank: int, own: RankBinding, request: PlanRequest) -> Binding:
    granted = {cpu for core in request.free_cores for cpu in cpus_of(core)}
    try:
        wanted = cpus_of(own.cpus)
    except ValueError as error:
        raise BadInputError(f"binding[{rank}].cpus: {error}") from error
    if not set(wanted) <= granted or not wanted:
        raise BadInputError(
            f"binding[{rank}].cpus is {own.cpus!r}",
            why=f"only {cpu_list(granted)} are granted to us",
            remedy="name CPUs of that list",
        )
    by_name = {name: device for device in request.node.accelerators for name in (device.pci_address, device.uuid)}
    unknown = [name for name in own.devices if name not in by_name]
    if unknown:
        raise BadInputError(
            f"binding[{rank}].devices names {unknown[0]!r}",
            why="no such accelerator is on the node",
            remedy="name PCI addresses or UUIDs as `pilotwrap inspect` prints them",
        )
    return _binding(rank, cpu_list(wanted), tuple(by_name[name] for name in own.devices))
