"""IBM's jsrun, in an LSF job with CSM (olcf-user-docs, `summit_user_guide.rst`): a resource set a whole host."""

from collections.abc import Iterator

from pilotwrap.model.errors import LauncherError
from pilotwrap.model.node import Flavour, LauncherName, SchedulerName
from pilotwrap.model.plan import Launch, RankVariables
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.launchers.request import LaunchRequest
from pilotwrap.site.looks import Looks

SOURCE: str = (
    "docs.olcf.ornl.gov, systems/summit_user_guide; ALL_CPUS and ALL_GPUS as users report them of JSM; resource files: "
    "IBM's `erf_format` of JSM 10.1, olcf-tutorials/ERF-CPU-Indexing, hosts by number as codar/savanna has them"
)
NAME: LauncherName = "jsrun"
FLAVOUR: Flavour | None = None
SCHEDULERS: tuple[SchedulerName, ...] = ("lsf",)
SHARES_NODES: bool = False
"""A set holds its host whole, so that the shim may choose among all its CPUs; a second one waits."""

NESTS: bool = False
"""It starts where the launch node is."""

PROGRAMS: tuple[str, ...] = ("jsrun",)
SIGN: str = ""
VERSION: str = ""
LOOKS = Looks(variables=("JSM_*", "PMIX_*"), programs=PROGRAMS)
VARIABLES = RankVariables(
    rank=("JSM_NAMESPACE_RANK",), local_rank=("JSM_NAMESPACE_LOCAL_RANK",), size=("JSM_NAMESPACE_SIZE",)
)
PASSED_ON: tuple[str, ...] = ("JSM_*", "PMIX_*", "OMPI_*", "PAMI_*", "SPECTRUM_MPI_*", "CSM_*", "LSB_*")
WIRING: tuple[str, ...] = ("JSM_NAMESPACE_*", "PMIX_NAMESPACE", "PMIX_RANK", "PMIX_SERVER_*", "OMPI_COMM_WORLD_*")
UNSET: tuple[str, ...] = ()


def mpi_types(_snapshot: Snapshot) -> tuple[str, ...]:
    """Return nothing: JSM wires up its own PMIx."""
    return ()


def command(request: LaunchRequest) -> Launch:
    """Return the call; where nodes are set aside, with a file that numbers the hosts to use.

    A set holds a host whole, all its CPUs and GPUs, so that the shim finds what it was promised; without a file jsrun
    itself chooses among the hosts that no other set holds, and gives the launch node none.
    """
    files = {request.hosts_file: "\n".join(_resources(request)) + "\n"} if request.aside else {}
    nodes, each = str(len(request.hosts)), str(request.ranks_per_node)
    sets = ["--nrs", nodes, "--rs_per_host", "1", "--tasks_per_rs", each]
    sets += ["--cpu_per_rs", "ALL_CPUS", "--gpu_per_rs", "ALL_GPUS", "--bind", "none"]
    argv = [request.program, *(["--erf_input", *files] if files else sets)]
    argv += ["--exit_on_error", str(int(request.one_fails_all))]
    return Launch(
        argv=(*argv, *request.options, *request.command), unset=UNSET, keep=PASSED_ON, files=files, waits=True
    )


_WHOLE = ("cpu_index_using: logical", "overlapping_rs: allow", "oversubscribe_cpu: allow", "oversubscribe_gpu: allow")
"""The ranks of a host each have all of it; `physical` numbers made JSM fail (radical.pilot)."""


def _resources(request: LaunchRequest) -> Iterator[str]:
    """Yield the lines of the file: hosts count from 1, the launch node is 0; logical CPUs count without gaps."""
    if request.cpus_per_node is None or not set(request.hosts) <= set(request.granted):
        raise LauncherError(
            f"jsrun would use {request.aside[0]}, which is set aside",
            why="it chooses its hosts itself, for nobody told us the CPUs of the others",
            remedy="submit again without that node",
        )
    numbers = {host: number for number, host in enumerate(request.granted, start=1)}
    cpus, gpus = (f"{{0-{count - 1}}}" for count in (request.cpus_per_node, request.devices_per_node))
    whole = f"cpu: {cpus}" + (f" ; gpu: {gpus}" if request.devices_per_node else "")
    yield from _WHOLE
    for rank in range(request.ranks):
        yield f"rank: {rank}: {{ host: {numbers[request.hosts[rank // request.ranks_per_node]]}; {whole} }}"
