"""Who started us: a launcher's daemon makes a rank, a batch system's own a batch shell; the nearest one counts."""

from pilotwrap.model.snapshot import Snapshot

RANK_STARTERS: tuple[str, ...] = (
    *("hydra_pmi_proxy", "hydra_bstrap_pr"),  # MPICH; a process's name has 15 letters at most
    *("orted", "orterun", "prted", "prterun", "mpirun", "mpiexec"),  # Open MPI, whose first host has no daemon
    *("palsd", "apinit", "jsmd", "flux-shell"),  # PALS, ALPS, IBM's JSM (the name is a guess), Flux
)
RANK_VARIABLES: tuple[str, ...] = (
    *("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID"),
    *("JSM_NAMESPACE_RANK", "ALPS_APP_PE", "FLUX_TASK_RANK"),
)
"""Set in each rank; a job that was submitted with a rank's environment inherits them, so daemons count first."""


def launched(snapshot: Snapshot, shell_starters: tuple[str, ...]) -> bool:
    """Tell whether we are inside of a launched step, and not in the batch shell that one of these starts."""
    for name in snapshot.ancestors:
        if name.startswith(RANK_STARTERS):
            return True
        if name.startswith(shell_starters):
            return False
    return any(name in snapshot.variables for name in RANK_VARIABLES)
