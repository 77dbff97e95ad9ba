"""`pilotwrap.node/1`: what a node's snapshot means; the answer of `inspect --json`."""

from typing import Annotated, Literal

from pydantic import Field

from pilotwrap.model.base import Value

Vantage = Literal["login", "head", "step"]
Vendor = Literal["nvidia", "amd", "intel"]
DeviceKind = Literal["gpu", "mig", "gcd", "tile"]
Health = Literal["ok", "unusable"]
HealthReason = Literal[
    "library-missing",
    "mismatch",
    "timeout",
    "crash",
    "lost",
    "not-granted",
    "masked",
    "mig-without-instances",
    "ecc",
    "unknown",
]
ComputeMode = Literal["default", "exclusive-thread", "prohibited", "exclusive-process"]
"""In the order of nvml.h's numbers (nvmlComputeMode_t)."""

SchedulerName = Literal["slurm", "pbs", "lsf", "cobalt", "flux", "none"]
LauncherName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
"""What starts ranks, as its file in `site/launchers/` names it (its listing has them all); `local`: nothing does."""

Flavour = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
"""Whose `mpiexec` it is, as that file says."""


class Accelerator(Value):
    """One device that a rank could be given, or why it cannot."""

    vendor: Vendor
    model: str
    uuid: str | None
    pci_address: str
    kind: DeviceKind
    memory_mib: int | None
    driver: str | None
    health: Health
    reason: HealthReason | None = None
    numa_node: int | None = None
    near_cpus: str | None = None
    part: int | None = None
    """Which tile, partition or instance of its card it is; None: the whole card."""

    framework_version: str | None = None
    """The newest CUDA that the driver serves; PanDA's word for it (`update_worker_node_gpu`)."""

    compute_mode: ComputeMode | None = None
    detail: str = ""
    """What is wrong with it, for people: the call that refused, the number of errors, the variable that masks it."""


class Allocation(Value):
    """What the batch system gave."""

    scheduler: SchedulerName
    job_id: str | None
    nodes: tuple[str, ...]
    node_count: int
    inside_step: bool
    time_left_s: float | None
    """None: no limit, or not known."""

    kill_grace_s: float
    """Between the batch system's TERM and its KILL."""

    restart_count: int = 0
    on_node: bool = True
    """False: we are on none of these nodes (a launch node, salloc's shell), so only a launcher reaches them."""

    tasks: int | None = None
    """Ranks that were asked for; None: not told."""

    gpus_per_node: int | None = None
    """Accelerators that were asked for, on each node; None: not told."""

    @property
    def is_this_node(self) -> bool:
        """Tell whether all of it is the one node that we are on, whose ranks need no launcher."""
        return self.node_count == 1 and self.on_node


class Launcher(Value):
    """What starts ranks here, and which rank we are ourselves."""

    command: LauncherName
    flavour: Flavour | None = None
    path: str | None = None
    rank: int | None = None
    local_rank: int | None = None
    size: int | None = None
    mpi_types: tuple[str, ...] = ()
    """What the launcher says it can wire up (`srun --mpi=list`)."""

    mpi_type: str | None = None
    """The default that the environment names (SLURM_MPI_TYPE)."""


class Cpus(Value):
    """The CPUs that are really granted: by affinity, and by the cgroup's set and quota."""

    granted: str
    """CPU list, hardware threads."""

    cores: tuple[str, ...]
    """One CPU list a physical core (its granted hardware threads, first thread first), in order of the first.

    Those that the machine keeps for its own system are left out.
    """

    reserved: str = ""
    """The granted CPUs that the machine keeps for its own system."""

    quota: float | None = None
    """CPUs' worth of time by the cgroup's quota; None: unlimited."""

    numa: dict[int, str] = {}


class Memory(Value):
    """Mebibytes."""

    total_mib: int
    limit_mib: int | None
    """The cgroup's; None: unlimited."""

    available_mib: int

    @property
    def usable_mib(self) -> int:
        """Return what jobs may share."""
        return self.total_mib if self.limit_mib is None else min(self.total_mib, self.limit_mib)


class Runtime(Value):
    """A container runtime on PATH."""

    kind: str
    path: str


class Network(Value):
    """The proxies that the environment names; credentials in them are cut out."""

    http_proxy: str | None = None
    https_proxy: str | None = None
    no_proxy: str | None = None


class Disk(Value):
    """Free space where jobs will run."""

    path: str
    free_mib: int
    free_inodes: int


class Problem(Value):
    """Something that is wrong or unknown, with its source in the snapshot."""

    source: str
    reason: str
    detail: str


class NodeFacts(Value):
    """What one node is and gives."""

    schema_: Literal["pilotwrap.node/1"] = Field(default="pilotwrap.node/1", alias="schema")
    host: str
    machine: str | None
    vantage: Vantage
    accelerators: tuple[Accelerator, ...]
    allocation: Allocation
    launcher: Launcher
    cpus: Cpus
    memory: Memory
    disk: tuple[Disk, ...] = ()
    runtimes: tuple[Runtime, ...]
    programs: dict[str, str] = {}
    network: Network
    problems: tuple[Problem, ...]
