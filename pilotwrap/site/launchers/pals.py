"""HPE's PALS mpiexec, in a PBS job (its help text as quoted in public; HPE's craycli, `cray/modules/mpiexec`)."""

from pilotwrap.model.node import Flavour, LauncherName, SchedulerName
from pilotwrap.model.plan import Launch, RankVariables
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.launchers.request import LaunchRequest
from pilotwrap.site.launchers.version import ASKS, MPIEXEC
from pilotwrap.site.looks import Looks

SOURCE: str = (
    "docs.alcf.anl.gov, aurora/running-jobs-aurora and polaris/running-jobs; Cray-HPE/craycli, modules/mpiexec"
)
NAME: LauncherName = "mpiexec"
FLAVOUR: Flavour | None = "pals"
SCHEDULERS: tuple[SchedulerName, ...] = ("pbs",)
SHARES_NODES: bool = True
"""Without `--exclusive` (craycli). On Polaris MPI jobs that share a node each need a number of their own in
MPICH_OFI_CXI_PID_BASE (SmartSim's users)."""

NESTS: bool = True
"""Nobody says that it cannot."""

PROGRAMS: tuple[str, ...] = ()
SIGN: str = "palstat"
VERSION: str = r"^mpiexec version \d"
"""It does not say PALS (E3SM-Project/mache, `parallel/pbs.py`)."""

LOOKS = Looks(variables=("PALS_*",), commands=ASKS, programs=(SIGN, MPIEXEC))
VARIABLES = RankVariables(
    rank=("PALS_RANKID", "PMI_RANK", "PMIX_RANK"),
    local_rank=("PALS_LOCAL_RANKID", "PMI_LOCAL_RANK"),
    size=("PMI_SIZE",),  # of the cray PMI alone; with --pmi=pmix nobody tells
)
PASSED_ON: tuple[str, ...] = (
    *("PALS_*", "PMI_*", "PMIX_*", "MPICH_*", "MPIR_*", "FI_*", "CRAY_*"),
    "PMI_SHARED_SECRET",  # a rank's way to its peers, made for this application alone
)
WIRING: tuple[str, ...] = (
    *("PALS_APID", "PALS_APINFO", "PALS_RANKID", "PALS_NODEID", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE", "PALS_FD"),
    *("PALS_SPOOL_DIR", "PALS_STARTUP_BARRIER", "PALS_TIMEOUT", "PMI_RANK", "PMI_SIZE", "PMI_LOCAL_*", "PMI_JOBID"),
    *("PMI_UNIVERSE_SIZE", "PMI_SHARED_SECRET", "PMIX_RANK", "PMIX_NAMESPACE"),
)
UNSET: tuple[str, ...] = (
    *("PALS_CPU_BIND", "PALS_MEM_BIND", "PALS_GPU_BIND", "PALS_DEPTH", "PALS_NRANKS", "PALS_PPN", "PALS_HOSTLIST"),
    *("PALS_HOSTFILE", "PALS_SOFT", "PALS_WDIR", "PALS_UMASK", "PALS_PATH", "PALS_LABEL", "PALS_ENVLIST"),
    *("PALS_ENVALL", "PALS_EXCLUSIVE", "PALS_ABORT_ON_FAILURE"),
)
"""Defaults that it takes from the environment (craycli)."""


def mpi_types(_snapshot: Snapshot) -> tuple[str, ...]:
    """Return nothing: it starts a rank under its own PMI unless `--pmi` is among the user's options."""
    return ()


def command(request: LaunchRequest) -> Launch:
    """Return the call; whether one rank's end is all's end is always said, for sites differ in the default."""
    abort = "--abort-on-failure" if request.one_fails_all else "--no-abort-on-failure"
    argv = [request.program, "-n", str(request.ranks), "--ppn", str(request.ranks_per_node)]
    listed = ",".join(request.hosts)
    files = request.file_for(listed, request.hosts)
    argv += ["--hostfile", *files] if files else ["--hosts", listed]
    argv += ["--cpu-bind", "none", abort]
    # the program is a Python and a file of the run's own: to copy it to each node gains nothing
    argv += ["--no-transfer"]
    return Launch(argv=(*argv, *request.options, *request.command), unset=UNSET, keep=PASSED_ON, files=files)
