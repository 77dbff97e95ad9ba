"""Slurm's srun: one step over whole nodes of the allocation we are in (srun(1))."""

import re

from pilotwrap.model.node import Flavour, LauncherName, SchedulerName
from pilotwrap.model.plan import Launch, RankVariables
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.launchers.request import LaunchRequest
from pilotwrap.site.looks import Command, Looks
from pilotwrap.site.schedulers.nodelist import folded

SOURCE: str = "srun(1) of Slurm 22.05"
NAME: LauncherName = "srun"
FLAVOUR: Flavour | None = None
SCHEDULERS: tuple[SchedulerName, ...] = ("slurm",)
"""Elsewhere it would queue a job of its own and wait for it (measured)."""

SHARES_NODES: bool = True
"""By `--overlap` (measured, 22.05)."""

NESTS: bool = True
"""By `--overlap`, too (measured, 22.05)."""

PROGRAMS: tuple[str, ...] = ("srun",)
SIGN: str = ""
VERSION: str = ""
_ASK_MPI = ("srun", "--mpi=list")
_CRAY_SIGNS = ("CRAYPE_VERSION", "CRAY_CPU_TARGET", "PE_ENV")
"""Set by the modules of HPE's programming environment, which its MPI comes with."""

LOOKS = Looks(variables=("PMIX_*", *_CRAY_SIGNS), commands=(Command("SLURM_JOB_ID", _ASK_MPI),), programs=PROGRAMS)
VARIABLES = RankVariables(
    rank=("SLURM_PROCID",), local_rank=("SLURM_LOCALID",), size=("SLURM_NTASKS",), host=("SLURMD_NODENAME",)
)
PASSED_ON: tuple[str, ...] = (
    *("SLURM_*", "SLURMD_*", "PMI_*", "PMI2_*", "PMIX_*", "PALS_*", "MPICH_*", "FI_*", "UCX_*"),
    "PMI_SHARED_SECRET",  # Cray's PMI: a rank's way to its peers, made by srun for this step alone
)
WIRING: tuple[str, ...] = (
    *("PMI_FD", "PMI_JOBID", "PMI_RANK", "PMI_SIZE", "PMI_SPAWNED", "PMI_CONTROL_*", "PMI_LOCAL_*"),
    *("PMIX_NAMESPACE", "PMIX_RANK", "PMIX_SERVER_*", "PALS_*"),
)
UNSET: tuple[str, ...] = (
    *("SLURM_CPU_BIND*", "SLURM_CPUS_PER_TASK", "SLURM_TRES_PER_TASK", "SLURM_MEM_PER_*"),
    *("SLURM_NTASKS_PER_*", "SLURM_GPUS*", "SLURM_GPU_BIND", "SLURM_TRES_BIND", "SLURM_MEM_BIND*", "SLURM_CORE_SPEC"),
    *("SLURM_DISTRIBUTION", "SLURM_STEP_*", "SLURM_STEPID", "SLURM_OVERLAP", "SLURM_KILL_BAD_EXIT"),
    *("SLURM_EXACT", "SLURM_EXCLUSIVE", "SLURM_EXPORT_ENV", "SLURM_HOSTFILE", "SLURM_IMMEDIATE"),
    *("SLURM_LABELIO", "SLURM_STDINMODE", "SLURM_STDOUTMODE", "SLURM_STDERRMODE", "SLURM_THREADS_PER_CORE"),
    *("SLURM_TIMELIMIT", "SLURM_HINT", "SLURM_WAIT", "SLURM_WHOLE", "SLURM_WORKING_DIR"),
)
"""Inherited options of an outer sbatch or step that srun takes for its own (srun(1), INPUT ENVIRONMENT VARIABLES)."""

BUSY_S = 15
"""Seconds to wait for nodes that another step holds alone; without it srun waits for ever (both measured, 22.05)."""

_MPI_TYPE = re.compile(r"^(?:srun:)?[ \t]*([a-z][a-z0-9_]*)[ \t]*$", re.MULTILINE)
"""A line of `srun --mpi=list` with one name; titles have several words (Slurm 22.05; older ones begin with `srun:`)."""

_MPI_PREFERENCE = ("cray_shasta", "pmi2")
"""HPE Cray's own, then what MPICH speaks; `none` would start N singletons without a word (measured)."""


def mpi_types(snapshot: Snapshot) -> tuple[str, ...]:
    """Return what `srun --mpi=list` named, a title and then a name a line; Cray's own only on a Cray.

    Debian's Slurm names cray_shasta on any host, where MPICH then starts N singletons (measured).
    """
    said = (said.output for said in snapshot.commands if said.words == _ASK_MPI and said.exit == 0)
    foreign = () if any(name in snapshot.variables for name in _CRAY_SIGNS) else ("cray_shasta",)
    return tuple(name for name in _MPI_TYPE.findall(next(said, "")) if name not in foreign)


def command(request: LaunchRequest) -> Launch:
    """Return the step: srun takes the nodes whole (`--overlap`: also from inside of a step), the shim binds.

    All GPUs of a node are asked for: a step without a word inherits the job's `--gpus` or `--gpus-per-task`, and is
    refused on fewer nodes or sees fewer devices (measured, 22.05). A node list with a slash is the path of one.
    """
    listed = folded(request.hosts)
    files = request.file_for(listed, request.hosts)
    argv = [
        request.program,
        f"--nodes={len(request.hosts)}",
        f"--ntasks={request.ranks}",
        f"--ntasks-per-node={request.ranks_per_node}",
        f"--nodelist={next(iter(files), listed)}",
        "--overlap",
        "--cpu-bind=none",
        f"--kill-on-bad-exit={int(request.one_fails_all)}",
        f"--immediate={BUSY_S}",
    ]
    argv += [f"--gpus-per-node={request.gpus_per_node}"] if request.gpus_per_node else []
    argv += _mpi(request) if request.one_fails_all else []
    return Launch(argv=(*argv, *request.options, *request.command), unset=UNSET, keep=PASSED_ON, files=files)


def _mpi(request: LaunchRequest) -> list[str]:
    if request.mpi_type or any(option.startswith("--mpi") for option in request.options):
        return []
    return [f"--mpi={kind}" for kind in _MPI_PREFERENCE if kind in request.mpi_types][:1]
