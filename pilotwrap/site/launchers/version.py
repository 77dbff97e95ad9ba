"""Whose `mpiexec` this is: the one question that every MPI's answers without starting a job.

OpenPBS installs a script of that name which only hands on to another MPI's; it answers `pbs_version = …` (openpbs,
`src/cmds/mpiexec.in`), which is nobody's of ours.
"""

from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.looks import Command

MPIEXEC = "mpiexec"
ASK_VERSION = Command("PBS_JOBID", (MPIEXEC, "--version"))
ASKS = tuple(ASK_VERSION._replace(when=job_id) for job_id in ("PBS_JOBID", "LSB_JOBID", "COBALT_JOBID"))
"""Asked where no launcher of the batch system's own is sure to be there. Elsewhere what lies beside it tells: Open
MPI's answer costs 217 file-system calls (measured), half of what a node is allowed."""


def version_said(snapshot: Snapshot) -> str:
    """Return what `mpiexec --version` printed; nothing where it was not asked or failed."""
    said = (said.output for said in snapshot.commands if said.words == ASK_VERSION.argv and said.exit == 0)
    return next(said, "")
