"""Flux's own launcher, in a Flux instance (flux-run(1) of flux-core 0.88): nodes by name, whole or some cores each."""

from pilotwrap.model.errors import LauncherError
from pilotwrap.model.node import Flavour, LauncherName, SchedulerName
from pilotwrap.model.plan import Launch, RankVariables
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.launchers.request import WORD_LIMIT, LaunchRequest
from pilotwrap.site.looks import Looks
from pilotwrap.site.schedulers.nodelist import folded

SOURCE: str = "flux-run(1) and flux-shell(1) of flux-core 0.88"
NAME: LauncherName = "flux"
FLAVOUR: Flavour | None = None
SCHEDULERS: tuple[SchedulerName, ...] = ("flux",)
SHARES_NODES: bool = True
"""Jobs that ask for cores, not for nodes alone."""

NESTS: bool = False
"""It would wait for what it holds itself."""

PROGRAMS: tuple[str, ...] = ("flux",)
SIGN: str = ""
VERSION: str = ""
LOOKS = Looks(variables=("FLUX_*",), programs=PROGRAMS)
VARIABLES = RankVariables(rank=("FLUX_TASK_RANK",), local_rank=("FLUX_TASK_LOCAL_ID",), size=("FLUX_JOB_SIZE",))
PASSED_ON: tuple[str, ...] = (
    *("FLUX_*", "PMI_*", "PMIX_*", "PALS_*", "MPICH_*", "FI_*", "UCX_*"),
    "PMI_SHARED_SECRET",  # of Cray's PMI (flux-shell's cray-pals), made for this job alone
)
WIRING: tuple[str, ...] = (
    *("FLUX_TASK_*", "FLUX_JOB_ID", "FLUX_JOB_SIZE", "FLUX_JOB_NNODES", "FLUX_JOB_TMPDIR", "FLUX_KVS_NAMESPACE"),
    *("PMI_FD", "PMI_RANK", "PMI_SIZE", "PALS_*"),
)
UNSET: tuple[str, ...] = ("FLUX_RUN_*", "FLUX_SHELL_*")


def mpi_types(_snapshot: Snapshot) -> tuple[str, ...]:
    """Return nothing: the site's shell plug-ins choose the PMI."""
    return ()


def command(request: LaunchRequest) -> Launch:
    """Return the call; LauncherError for a list of nodes that no line holds, and Flux reads no other.

    What asks for more than the instance has is refused by Flux at once.

    `exit-timeout`: without it all ranks end 30 s after the first that ends, well or not.
    """
    argv = [request.program, "run", f"--nodes={len(request.hosts)}", f"--tasks-per-node={request.ranks_per_node}"]
    argv += [*_share(request), f"--requires=hosts:{_listed(request)}"]
    argv += ["-o", "cpu-affinity=off", "-o", "gpu-affinity=off", "-o", "exit-timeout=none"]
    argv += ["-o", "exit-on-error"] if request.one_fails_all else []
    return Launch(argv=(*argv, *request.options, *request.command), unset=UNSET, keep=PASSED_ON, waits=True)


def _listed(request: LaunchRequest) -> str:
    listed = folded(request.hosts, inside=True)
    if len(listed) > WORD_LIMIT:
        raise LauncherError(
            f"the names of {len(request.hosts)} nodes fit no command line",
            why="flux run takes them there alone, and they have no numbers in common",
            remedy="ask for fewer nodes in one job",
        )
    return listed


def _share(request: LaunchRequest) -> list[str]:
    """Return what is taken of the nodes: `--cores` are those of all nodes together."""
    if request.part is None:
        return ["--exclusive"]
    devices = request.part.devices
    cores = f"--cores={request.part.cores * len(request.hosts)}"
    return [cores, f"--gpus-per-node={devices}"] if devices else [cores]
