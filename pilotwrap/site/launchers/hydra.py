"""MPICH's mpiexec (hydra), on the hosts that it is told (mpiexec.hydra -help)."""

from pilotwrap.model.node import Flavour, LauncherName, SchedulerName
from pilotwrap.model.plan import Launch, RankVariables
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.launchers.request import LaunchRequest
from pilotwrap.site.launchers.version import ASKS, MPIEXEC
from pilotwrap.site.looks import Looks

SOURCE: str = "mpiexec.hydra -help of MPICH 4.0"
NAME: LauncherName = "mpiexec"
FLAVOUR: Flavour | None = "hydra"
SCHEDULERS: tuple[SchedulerName, ...] = ()
SHARES_NODES: bool = True
"""It holds nothing: each call starts its own proxies."""

NESTS: bool = True
PROGRAMS: tuple[str, ...] = ("mpiexec.hydra", "mpiexec.mpich")
"""Names that only MPICH installs: plain `mpiexec` may be anybody's."""

SIGN: str = "mpiexec.hydra"
VERSION: str = r"^HYDRA build details|^Intel\(R\) MPI Library"
LOOKS = Looks(
    variables=("PMI_*", "PMI2_*", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    commands=ASKS,
    programs=(*PROGRAMS, MPIEXEC),
)
VARIABLES = RankVariables(rank=("PMI_RANK",), local_rank=("MPI_LOCALRANKID",), size=("PMI_SIZE",))
PASSED_ON: tuple[str, ...] = ("PMI_*", "PMI2_*", "MPI_*", "MPICH_*", "HYDRA_*", "HYDI_*", "FI_*", "UCX_*")
WIRING: tuple[str, ...] = (
    *("PMI_FD", "PMI_PORT", "PMI_ID", "PMI_RANK", "PMI_SIZE", "PMI_APPNUM", "HYDI_*"),
    *("MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
)
UNSET: tuple[str, ...] = ("HYDRA_BINDING", "HYDRA_HOST_FILE", "HYDRA_TOPOLIB", "I_MPI_PIN*")


def mpi_types(_snapshot: Snapshot) -> tuple[str, ...]:
    """Return nothing: hydra speaks its own PMI and needs no choice."""
    return ()


def command(request: LaunchRequest) -> Launch:
    """Return the call; this host alone is reached without a remote shell."""
    listed = ",".join(request.hosts)
    files = {} if request.is_here else request.file_for(listed, request.hosts)
    where = ["-f", *files] if files else ["-hosts", listed]
    where = ["-launcher", "fork"] if request.is_here else where
    ranks = ["-n", str(request.ranks), "-ppn", str(request.ranks_per_node)]
    argv = (request.program, *where, *ranks, "-bind-to", "none", *request.options, *request.command)
    return Launch(argv=argv, unset=UNSET, keep=PASSED_ON, heeds="signal", files=files)
