"""Slurm: the allocation by its variables, the time left by `squeue`, the step by our ancestors' titles."""

import re
from collections.abc import Mapping

from pilotwrap.model.node import Allocation
from pilotwrap.model.snapshot import CommandSaid, Snapshot
from pilotwrap.site.digits import number_of
from pilotwrap.site.looks import Command, Looks
from pilotwrap.site.schedulers.clock import clock_text, until_s
from pilotwrap.site.schedulers.nodelist import nodes_of

NAME = "slurm"
SUBMIT = "sbatch"
LAUNCH_NODES = False
DIRECTIVE = "#SBATCH"
SUFFIX = ".sbatch"
KILL_GRACE_S = 30.0
"""KillWait, Slurm's default (slurm.conf(5)); a site may have another."""

LOOKS = Looks(
    variables=("SLURM_*", "SLURMD_*"),
    commands=(Command("SLURM_JOB_ID", ("squeue", "-h", "-j", "{SLURM_JOB_ID}", "-o", "%L")),),
    programs=("squeue", "sbatch", "scontrol", "scancel"),
)
PASSED_ON: tuple[str, ...] = ("SLURM_*", "SLURMD_*", "SRUN_*")
PREEMPTION = ("squeue", "-h", "-t", "all", "-j", "{job_id}", "-O", "PreemptTime")
"""Says since when the job is being preempted, before its TERM comes (22.05, measured).

`scontrol show job` does not say so of a job that is requeued.
"""

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
        on_node="SLURMD_NODENAME" in said or snapshot.host in nodes,
        tasks=number_of(said.get("SLURM_NTASKS")),
        gpus_per_node=_gpus_per_node(said),
    )


def _time_left_s(snapshot: Snapshot) -> float | None:
    said = (command for command in snapshot.commands if command.words[:1] == ("squeue",) and command.exit == 0)
    asked = next((seconds_of(command.output) for command in said), None)
    end = number_of(snapshot.variables.get("SLURM_JOB_END_TIME"))  # Slurm 23.02 and later
    return asked if asked is not None else until_s(snapshot, end)


def _gpus_per_node(said: Mapping[str, str]) -> int | None:
    """Return what was asked for (`4`, `a100:4`, `a100:2,v100:2`), or how many of the job's are on this node."""
    asked = said.get("SLURM_GPUS_PER_NODE")
    if asked:
        counts = [number_of(part.rpartition(":")[2]) for part in asked.split(",")]
        return None if None in counts else sum(count or 0 for count in counts)
    listed = said.get("SLURM_JOB_GPUS")
    return number_of(said.get("SLURM_GPUS_ON_NODE")) or (len(listed.split(",")) if listed else None)


def preempted(output: str) -> bool:
    """Tell whether what PREEMPTION prints is a time; a job that is not preempted has `N/A`."""
    return output.strip() not in {"", "N/A", "Unknown"}


def seconds_of(text: str) -> float | None:
    """Return the seconds that `squeue -o %L` means (`M:SS`, `H:MM:SS`, `D-HH:MM:SS`); None for its words."""
    match = re.match(r"^\s*(?:(?:(\d{1,6})-)?(\d{1,9}):)?(\d{1,9}):(\d{2})\s*$", text, re.ASCII)
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def batch_shell(nodes: tuple[str, ...], gpus_per_node: int = 0) -> Snapshot:
    """Return what a batch shell on the first of these nodes shows, half an hour before its end."""
    asked = ("squeue", "-h", "-j", "1", "-o", "%L")
    gpus = {"SLURM_GPUS_ON_NODE": str(gpus_per_node)} if gpus_per_node else {}
    return Snapshot(
        host=nodes[0],
        ancestors=("bash", "slurmstepd: [1.batch]"),
        variables={"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": ",".join(nodes), "SLURMD_NODENAME": nodes[0], **gpus},
        commands=(CommandSaid(argv=asked, exit=0, output="30:00\n"),),
        programs={"squeue": "/usr/bin/squeue", "sbatch": "/usr/bin/sbatch"},
    )


def walltime(minutes: int) -> str:
    """Return a time as `--time` takes it."""
    return clock_text(minutes)
