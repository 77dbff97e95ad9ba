"""IBM's jsrun, in an LSF job with CSM (olcf-user-docs, `summit_user_guide.rst`): a resource set a whole host."""

from pilotwrap.model.errors import LauncherError
from pilotwrap.model.node import Flavour, LauncherName, SchedulerName
from pilotwrap.model.plan import Launch, RankVariables
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.launchers.request import LaunchRequest
from pilotwrap.site.looks import Looks

SOURCE: str = "docs.olcf.ornl.gov, systems/summit_user_guide; ALL_CPUS and ALL_GPUS as users report them of JSM"
NAME: LauncherName = "jsrun"
FLAVOUR: Flavour | None = None
SCHEDULERS: tuple[SchedulerName, ...] = ("lsf",)
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
    """Return the call; LauncherError when some nodes must be left out.

    A set holds a host whole, all its CPUs and GPUs, so that the shim finds what it was promised; jsrun itself
    chooses among the hosts that no other set holds, and gives the launch node none.
    """
    if request.aside:
        raise LauncherError(
            f"jsrun would use {request.aside[0]}, which is set aside",
            why="it chooses its hosts itself among those of the job",
            remedy="submit again without that node",
        )
    nodes, each = str(len(request.hosts)), str(request.ranks_per_node)
    argv = [request.program, "--nrs", nodes, "--rs_per_host", "1", "--tasks_per_rs", each]
    argv += ["--cpu_per_rs", "ALL_CPUS", "--gpu_per_rs", "ALL_GPUS", "--bind", "none"]
    argv += ["--exit_on_error", str(int(request.one_fails_all))]
    return Launch(argv=(*argv, *request.options, *request.command), unset=UNSET, keep=PASSED_ON, waits=True)
