"""Slurm: the allocation by its variables, the time left by `squeue`, the step by our ancestors' titles."""

import re
from datetime import datetime

from pilotwrap.model.node import Allocation
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.digits import number_of
from pilotwrap.site.looks import Command, Looks
from pilotwrap.site.schedulers.nodelist import nodes_of

NAME = "slurm"
KILL_GRACE_S = 30.0
"""KillWait, Slurm's default (slurm.conf(5)); a site may have another."""

LOOKS = Looks(
    variables=("SLURM_*", "SLURMD_*"),
    commands=(Command("SLURM_JOB_ID", ("squeue", "-h", "-j", "{SLURM_JOB_ID}", "-o", "%L")),),
    programs=("squeue", "sbatch", "scontrol", "scancel"),
)
PASSED_ON: tuple[str, ...] = ("SLURM_*", "SLURMD_*", "SRUN_*")

_STEP_TITLE = re.compile(r"^slurmstepd: \[(\d+)\.(\w+)\]")
_SHELL_STEPS = frozenset({"batch", "extern", "interactive"})


def recognised(snapshot: Snapshot) -> bool:
    """Tell whether we are inside a Slurm allocation."""
    return "SLURM_JOB_ID" in snapshot.variables


def host(snapshot: Snapshot) -> str:
    """Return the node's name as the node list has it (several nodes may share one kernel, and so one host name)."""
    return snapshot.variables.get("SLURMD_NODENAME", snapshot.host)


def step_of(snapshot: Snapshot) -> str | None:
    """Return our step by the nearest slurmstepd above us; SLURM_STEP_ID proves nothing, for jobs inherit it."""
    for title in snapshot.ancestors:
        match = _STEP_TITLE.match(title)
        if match:
            return match.group(2)
    return None


def allocation(snapshot: Snapshot) -> Allocation:
    """Return the allocation; ValueError when its node list cannot be read."""
    said = snapshot.variables
    nodes = nodes_of(said.get("SLURM_JOB_NODELIST", "")) or (snapshot.host,)
    step = step_of(snapshot)
    return Allocation(
        scheduler="slurm",
        job_id=said.get("SLURM_JOB_ID"),
        nodes=nodes,
        node_count=len(nodes),
        inside_step=step is not None and step not in _SHELL_STEPS,
        time_left_s=_time_left_s(snapshot),
        kill_grace_s=KILL_GRACE_S,
        restart_count=number_of(said.get("SLURM_RESTART_COUNT")) or 0,
    )


def _time_left_s(snapshot: Snapshot) -> float | None:
    said = (command for command in snapshot.commands if command.words[:1] == ("squeue",) and command.exit == 0)
    asked = next((seconds_of(command.output) for command in said), None)
    return asked if asked is not None else _until_end_time(snapshot)


def _until_end_time(snapshot: Snapshot) -> float | None:
    """Return what SLURM_JOB_END_TIME leaves (epoch seconds; Slurm 23.02 and later), where squeue says nothing."""
    end = number_of(snapshot.variables.get("SLURM_JOB_END_TIME"))
    try:
        taken = datetime.fromisoformat(snapshot.taken_at.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
    return None if end is None else max(0.0, end - taken)


def seconds_of(text: str) -> float | None:
    """Return the seconds that `squeue -o %L` means (`M:SS`, `H:MM:SS`, `D-HH:MM:SS`); None for its words."""
    match = re.match(r"^\s*(?:(?:(\d{1,6})-)?(\d{1,9}):)?(\d{1,9}):(\d{2})\s*$", text, re.ASCII)
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
