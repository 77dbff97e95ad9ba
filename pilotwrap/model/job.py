"""`pilotwrap.job/1`: what to run and in which shape."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pilotwrap.model.base import Value
from pilotwrap.model.credential import Credential

Mode = Literal["copies", "mpi", "one-per-node", "driver"]
GpuVendor = Literal["any", "nvidia", "amd", "intel"]
RankOutput = Literal["merged", "per-rank"]
Count = Annotated[int, Field(ge=1)]
MAX_NODES = 100_000
"""Of one job: no allocation is larger (the largest machine has about 10,600 nodes)."""

MAX_RANKS_PER_NODE = 16_384
"""More is a mistake: no node has as many hardware threads (a guess with room to spare)."""

Nodes = Annotated[int, Field(ge=1, le=MAX_NODES)]
Ranks = Annotated[int, Field(ge=1, le=MAX_RANKS_PER_NODE)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+=:@%,-]*$", max_length=255)]
"""One plain component of a path: no slash, no leading dot or hyphen (PanDA's LFNs are such names)."""


class JobFile(Value):
    """A file that travels: from `url` before the job, to `url` after it."""

    lfn: FileName
    url: str | None = None
    """`file:`, `http:` or `https:`; left out: by the storage map."""

    path: str | None = None
    """Where it lies on this machine already, in place of a URL."""

    size: Annotated[int, Field(ge=0)] | None = None
    adler32: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{1,8}$")] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None


class EnvironmentStep(Value):
    """One step of what is set up before the payload."""

    kind: Literal["conda", "module", "cvmfsexec", "script", "venv", "proxy"]
    name: str


class RankBinding(Value):
    """The user's own binding of one local rank."""

    cpus: str
    devices: tuple[str, ...] = ()


class PandaSource(Value):
    """Where jobs are fetched from, in place of a command."""

    server: str
    panda_queue: str
    prod_source_label: str = "managed"


class Shape(Value):
    """How many ranks there are and what each of them gets."""

    mode: Mode = "copies"
    nodes: Nodes = 1
    ranks_per_node: Ranks = 1
    cpus_per_rank: Count | None = None
    """Physical cores; left out: a fair share of the node's usable ones."""

    smt: Count = 1
    """Hardware threads used of each core."""

    gpus_per_rank: Annotated[int, Field(ge=0)] = 0
    gpu_vendor: GpuVendor = "any"
    gpu_sharing: bool = False
    gpu_variable: Literal["HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"] | None = None
    """Which of AMD's variables names a rank's devices; left out: ROCr's, and only that one."""

    memory_mib_per_rank: Count | None = None
    binding: Literal["closest", "reversed", "none"] | tuple[RankBinding, ...] = "closest"
    walltime_s: Seconds | None = None
    rank_output: RankOutput = "merged"
    """Where several ranks write: to one `stdout` and `stderr`, or to files of their own in `ranks/`."""

    launcher_options: tuple[str, ...] = ()
    image: str | None = None
    runtime: str | None = None
    environment: tuple[EnvironmentStep, ...] = ()

    @property
    def ranks(self) -> int:
        """Return how many ranks there are in all."""
        return self.nodes * self.ranks_per_node

    @model_validator(mode="after")
    def _consistent(self) -> "Shape":
        if self.mode == "one-per-node" and self.ranks_per_node != 1:
            raise ValueError("mode one-per-node has ranks_per_node 1")
        if not isinstance(self.binding, str) and len(self.binding) != self.ranks_per_node:
            raise ValueError(f"binding lists {len(self.binding)} local ranks, ranks_per_node is {self.ranks_per_node}")
        return self


class JobSpec(Shape):
    """A command, or a place to fetch jobs from, in its shape."""

    schema_: Literal["pilotwrap.job/1"] = Field(default="pilotwrap.job/1", alias="schema")
    command: tuple[Annotated[str, Field(min_length=0)], ...] | None = None
    panda: PandaSource | None = None
    wait_s: Seconds | None = None
    """How long it may wait for its nodes."""

    inputs: tuple[JobFile, ...] = ()
    outputs: tuple[JobFile, ...] = ()
    account: str | None = None
    scheduler_options: tuple[str, ...] = ()
    credential: Credential | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "JobSpec":
        if (self.command is None) == (self.panda is None):
            raise ValueError("a job has either a command or panda")
        if self.command is not None and (not self.command or not self.command[0]):
            raise ValueError('command is empty: it is argv, e.g. ["echo", "hello"]')
        if any("\0" in word for word in self.command or ()):
            raise ValueError("command holds a NUL character")
        return self

    @property
    def shape(self) -> Shape:
        """Return the shape alone."""
        return Shape(**{name: getattr(self, name) for name in Shape.model_fields})
