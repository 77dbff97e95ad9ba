"""What is known of one kind of node of a machine: its file, as values."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pilotwrap.model.base import Value
from pilotwrap.model.cpulist import MAX_CPU, cpus_of
from pilotwrap.model.job import Count, Nodes, Ranks, Seconds
from pilotwrap.model.node import Flavour, LauncherName, SchedulerName, Vendor
from pilotwrap.site.launchers.listing import LAUNCHERS

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]

Mebibytes = Annotated[int, Field(ge=1, le=1 << 40)]
"""An exbibyte at most: more is a slip of the finger."""

Minutes = Annotated[int, Field(ge=1, le=366 * 24 * 60)]
"""A year at most: no queue grants more (a guess)."""

PCI_ID = r"^[0-9a-f]{4}:[0-9a-f]{4}$"


class Source(Value):
    """Where values come from."""

    page: str
    """A document with the day it was read, or `a guess: ` and its reason."""

    keys: tuple[str, ...]
    """The keys of the file that it stands for, as `node.cores`; a table's name stands for all in it."""


class Recognition(Value):
    """What proves the machine; all of it must fit."""

    variables: dict[str, str] = {}
    """Patterns (`*` and `?`) that these variables fit."""

    host: str | None = None
    """A pattern that the host's name or one of the allocation's nodes fits."""

    devices: Vendor | Literal["none"] | None = None
    """Whose accelerators the node has: kinds of nodes of one machine differ by them."""

    @model_validator(mode="after")
    def _proves(self) -> "Recognition":
        if not self.variables and self.host is None:
            raise ValueError("variables or host must be named: devices alone prove no machine")
        return self


class Device(Value):
    """An accelerator as the bus shows it, and the CPUs that the site's own tables put beside it."""

    vendor: Vendor
    model: str
    address: str
    """On the PCI bus; their order is the order of the runtime's numbers."""

    pci_class: str
    pci_id: Annotated[str, Field(pattern=PCI_ID)]
    """Vendor and device, as `lspci -n` has them."""

    memory_mib: Mebibytes
    cpus: str
    """Those of its ranks, by the site's documentation."""

    numa: int
    driver: str


class Node(Value):
    """A node's shape."""

    cores: Count
    threads_per_core: Count = 1
    threads: Literal["apart", "together"] = "apart"
    """The hardware threads of core 0 of 64 are 0 and 64 (apart, as on x86), or 0 and 1 (together, as on POWER)."""

    memory_mib: Mebibytes
    numa: dict[Annotated[int, Field(ge=0, lt=10**9)], str] = {}
    """The CPUs of each NUMA node that has any."""

    reserved_cpus: str = ""
    """What the site keeps for its own system, all hardware threads."""

    devices: tuple[Device, ...] = ()

    @model_validator(mode="after")
    def _within(self) -> "Node":
        listed = [*self.numa.values(), self.reserved_cpus, *(device.cpus for device in self.devices)]
        most = self.cores * self.threads_per_core
        if most > MAX_CPU + 1:
            raise ValueError(f"{self.cores} cores of {self.threads_per_core} threads are more than any node has")
        if not all(map(cpus_of, self.numa.values())):
            raise ValueError("a NUMA node without CPUs is left out of numa")
        beyond = [text for text in listed if max(cpus_of(text), default=0) >= most]
        if beyond:
            raise ValueError(f"{beyond[0]!r} names CPUs beyond the {most} of {self.cores} cores")
        return self


class FullNode(Value):
    """The shape that the site's documentation shows for whole nodes."""

    ranks_per_node: Ranks
    cpus_per_rank: Count
    gpus_per_rank: Annotated[int, Field(ge=0)] = 0
    smt: Count = 1
    line: str = ""
    """The command line that the site prints, with `{nodes}` and `{ranks}` for its numbers."""

    def site_line(self, nodes: int) -> str:
        """Return the site's own command line for so many nodes; nothing where none is known."""
        return self.line.replace("{nodes}", str(nodes)).replace("{ranks}", str(nodes * self.ranks_per_node))


class Runtime(Value):
    """The container runtime, and what must be entered, set or mounted for it."""

    kind: str
    setup: tuple[str, ...] = ()
    """Lines of a login shell before it."""

    options: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    mpi: str = ""
    """Which MPI the image needs, and how the host's takes its place."""


class Network(Value):
    """The way out of a compute node."""

    outbound: Literal["direct", "proxy", "none", "unknown"]
    http_proxy: str | None = None
    no_proxy: str | None = None
    interface: str | None = None
    """Between nodes."""


class Storage(Value):
    """Where files go."""

    scratch: str | None = None
    """Shared; a shell expands it."""

    local: str | None = None
    """On the node."""


class Batch(Value):
    """The batch script."""

    shell: str = "#!/bin/bash"
    directives: tuple[str, ...]
    """Its lines of options; `{account}`, `{queue}`, `{nodes}` and `{time}` are filled in."""

    account: str = "ACCOUNT"
    queue: str = "QUEUE"
    minutes: Minutes = 30
    nodes: Nodes = 2
    before: tuple[str, ...] = ()
    """Lines between the options and ours."""


class Machine(Value):
    """One kind of node of a machine."""

    name: Name
    description: str
    scheduler: SchedulerName
    launcher: LauncherName
    flavour: Flavour | None = None
    mpi_types: tuple[str, ...] = ()
    """What its launcher says it can wire up."""

    kill_grace_s: Seconds | None = None
    """The site's own, between TERM and KILL; left out: the batch system's default."""

    modules: dict[str, str] = {}
    """Variables that its default modules set, for a synthetic node."""

    recognised: tuple[Recognition, ...] = ()
    node: Node
    full_node: FullNode | None = None
    runtime: Runtime | None = None
    network: Network = Network(outbound="unknown")
    storage: Storage = Storage()
    batch: Batch | None = None
    sources: tuple[Source, ...] = ()

    @field_validator("description")
    @classmethod
    def _is_a_line(cls, text: str) -> str:
        if not text.isprintable():
            raise ValueError("a line without control characters is expected")
        return text

    @field_validator("launcher")
    @classmethod
    def _is_known(cls, name: str) -> str:
        known = sorted({"local", *(kind.NAME for kind in LAUNCHERS)})
        if name not in known:
            raise ValueError(f"one of {', '.join(known)} is expected")
        return name

    @field_validator("flavour")
    @classmethod
    def _is_its_own(cls, flavour: str | None, seen: ValidationInfo) -> str | None:
        of_its_name = (kind for kind in LAUNCHERS if seen.data.get("launcher") == kind.NAME)
        known = sorted(kind.FLAVOUR for kind in of_its_name if kind.FLAVOUR)
        if flavour is not None and flavour not in known:
            raise ValueError(f"one of {', '.join(known)} is expected" if known else "this launcher has none")
        return flavour
