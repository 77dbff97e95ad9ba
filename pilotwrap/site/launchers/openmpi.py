"""Open MPI's mpiexec, releases 4 and 5 (mpirun(1) of both): it places the ranks, the shim binds them."""

from pilotwrap.model.node import Flavour, LauncherName, SchedulerName
from pilotwrap.model.plan import Launch, RankVariables
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.launchers.request import LaunchRequest
from pilotwrap.site.launchers.version import ASKS, MPIEXEC
from pilotwrap.site.looks import Looks

SOURCE: str = "mpirun(1) of Open MPI 4.1; docs.open-mpi.org/en/v5.0.x, mpirun(1)"
NAME: LauncherName = "mpiexec"
FLAVOUR: Flavour | None = "openmpi"
SCHEDULERS: tuple[SchedulerName, ...] = ()
SHARES_NODES: bool = True
"""It holds nothing; how many slots a host has is said anew in each call."""

NESTS: bool = True
PROGRAMS: tuple[str, ...] = ("mpiexec.openmpi", "mpirun.openmpi")
"""As Debian names them where MPICH is there too."""

SIGN: str = "ompi_info"
VERSION: str = r"\((OpenRTE|Open MPI)\) \d"
LOOKS = Looks(variables=("OMPI_COMM_WORLD_*", "PMIX_*"), commands=ASKS, programs=(*PROGRAMS, SIGN, MPIEXEC))
VARIABLES = RankVariables(
    rank=("OMPI_COMM_WORLD_RANK",), local_rank=("OMPI_COMM_WORLD_LOCAL_RANK",), size=("OMPI_COMM_WORLD_SIZE",)
)
PASSED_ON: tuple[str, ...] = ("OMPI_*", "PMIX_*", "PRTE_*", "OPAL_*", "UCX_*", "FI_*")
WIRING: tuple[str, ...] = (
    *("OMPI_COMM_WORLD_*", "OMPI_APP_CTX_*", "OMPI_ARGV", "OMPI_COMMAND", "OMPI_FILE_LOCATION", "OMPI_FIRST_RANKS"),
    *("OMPI_NUM_APP_CTX", "OMPI_UNIVERSE_SIZE", "OMPI_MCA_ess*", "OMPI_MCA_initial_wdir", "OMPI_MCA_orte_app_num"),
    *("OMPI_MCA_orte_ess_*", "OMPI_MCA_orte_hnp_uri", "OMPI_MCA_orte_launch", "OMPI_MCA_orte_local_daemon_uri"),
    *("OMPI_MCA_orte_jobfam_session_dir", "OMPI_MCA_orte_num_nodes", "OMPI_MCA_orte_top_session_dir"),
    *("OMPI_MCA_orte_precondition_transports", "PMIX_ID", "PMIX_HOSTNAME", "PMIX_DSTORE_*", "PMIX_GDS_MODULE"),
    *("PMIX_NAMESPACE", "PMIX_RANK", "PMIX_SERVER_*", "PRTE_MCA_ess*", "PRTE_MCA_prte_hnp_uri"),
)
"""What a rank of release 4.1 finds in its environment (measured), and release 5's names by those."""

UNSET: tuple[str, ...] = (
    *("OMPI_MCA_rmaps_*", "OMPI_MCA_hwloc_base_*", "OMPI_MCA_pmix", "PRTE_MCA_rmaps_*", "PRTE_MCA_hwloc_*"),
    "OMPI_MCA_mpi_oversubscribe",
)
_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
"""It refuses root of its own; whose rights a payload has is decided by --payload-user."""

_ABORT = ("OMPI_MCA_orte_abort_on_non_zero_status", "PRTE_MCA_prte_abort_on_non_zero_status")
"""Release 4's and release 5's name for it; each ignores the other's."""


def mpi_types(_snapshot: Snapshot) -> tuple[str, ...]:
    """Return nothing: it brings its own PMIx."""
    return ()


def command(request: LaunchRequest) -> Launch:
    """Return the call, with as many slots a host as it gets ranks, whatever the batch system counts."""
    each = request.ranks_per_node
    listed = ",".join(f"{host}:{each}" for host in request.hosts)
    files = request.file_for(listed, (f"{host} slots={each}" for host in request.hosts))
    where = ["--hostfile", *files] if files else ["--host", listed]
    how = ["--map-by", f"ppr:{each}:node:OVERSUBSCRIBE", "--bind-to", "none"]
    # a remote daemon has what its login gives it
    how += [] if request.is_here else ["-x", "PATH", "-x", "LD_LIBRARY_PATH"]
    argv = (request.program, *where, "-n", str(request.ranks), *how, *request.options, *request.command)
    env = {**_ROOT, **dict.fromkeys(_ABORT, str(int(request.one_fails_all)))}
    return Launch(argv=argv, env=env, unset=UNSET, keep=PASSED_ON, files=files)
