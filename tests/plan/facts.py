"""Nodes, allocations and jobs for the planner's tests: by hand, and any that hypothesis thinks of."""

from collections.abc import Sequence

from hypothesis import strategies as st

from pilotwrap.model.allocation import AllocationFacts, NodeGroup
from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import (
    Accelerator,
    Allocation,
    Cpus,
    Launcher,
    LauncherName,
    Memory,
    Network,
    NodeFacts,
    Vendor,
)
from pilotwrap.plan.request import PlanRequest

SHIM = ("/usr/bin/python3", "/runs/job/starter.pyz", "shim", "/runs/job/shim.json")


def device(number: int, vendor: Vendor = "nvidia", *, well: bool = True) -> Accelerator:
    return Accelerator(
        vendor=vendor,
        model="A100",
        uuid=f"GPU-{number}" if vendor == "nvidia" else None,
        pci_address=f"0000:{number:02x}:00.0",
        kind="gpu",
        memory_mib=40960,
        driver=None,
        health="ok" if well else "unusable",
        reason=None if well else "lost",
    )


def allocation(hosts: Sequence[str] = ("node1",), time_left_s: float | None = None, grace_s: float = 30) -> Allocation:
    return Allocation(
        scheduler="slurm",
        job_id="1",
        nodes=tuple(hosts),
        node_count=len(hosts),
        inside_step=False,
        time_left_s=time_left_s,
        kill_grace_s=grace_s,
    )


def node(
    cores: Sequence[str] = ("0", "1", "2", "3"),
    devices: Sequence[Accelerator] = (),
    memory_mib: int = 8000,
    given: Allocation | None = None,
    launcher: LauncherName = "local",
) -> NodeFacts:
    given = given or allocation()
    return NodeFacts(
        host=given.nodes[0],
        machine=None,
        vantage="head",
        accelerators=tuple(devices),
        allocation=given,
        launcher=Launcher(
            command=launcher,
            flavour="hydra" if launcher == "mpiexec" else None,
            path=None if launcher == "local" else f"/usr/bin/{launcher}",
        ),
        cpus=Cpus(granted=",".join(cores), cores=tuple(cores)),
        memory=Memory(total_mib=memory_mib, limit_mib=None, available_mib=memory_mib),
        runtimes=(),
        network=Network(),
        problems=(),
    )


def alike(facts: NodeFacts) -> AllocationFacts:
    """Return an allocation whose nodes are all like this one."""
    return AllocationFacts(head=facts, groups=(NodeGroup(hosts=facts.allocation.nodes, facts=facts),))


def request(job: JobSpec, facts: NodeFacts) -> PlanRequest:
    return PlanRequest(job=job, allocation=alike(facts), shim=SHIM)


def job(**shape: object) -> JobSpec:
    return JobSpec.model_validate({"command": ["true"], **shape})


def cores(most: int = 12) -> st.SearchStrategy[tuple[str, ...]]:
    """Give cores of one to four threads, as `detect` lists them."""

    def listed(count: int, threads: int, skipped: set[int]) -> tuple[str, ...]:
        kept = [core for core in range(count) if core not in skipped]
        return tuple(",".join(str(core + thread * count) for thread in range(threads)) for core in kept)

    return st.builds(listed, st.integers(1, most), st.integers(1, 4), st.sets(st.integers(0, most - 1), max_size=3))


def devices() -> st.SearchStrategy[list[Accelerator]]:
    vendors: st.SearchStrategy[Vendor] = st.sampled_from(["nvidia", "amd", "intel"])
    kinds = st.lists(st.tuples(vendors, st.booleans()), max_size=6)
    return kinds.map(lambda found: [device(n, vendor, well=well) for n, (vendor, well) in enumerate(found)])


def shapes() -> st.SearchStrategy[JobSpec]:
    return st.builds(
        job,
        mode=st.sampled_from(["copies", "mpi"]),
        nodes=st.integers(1, 3),
        ranks_per_node=st.integers(1, 6),
        cpus_per_rank=st.none() | st.integers(1, 6),
        smt=st.integers(1, 3),
        gpus_per_rank=st.integers(0, 2),
        gpu_vendor=st.sampled_from(["any", "nvidia", "amd", "intel"]),
        gpu_sharing=st.booleans(),
        memory_mib_per_rank=st.none() | st.integers(1, 9000),
        binding=st.sampled_from(["closest", "reversed", "none"]),
        walltime_s=st.none() | st.floats(1, 1e6),
    )
