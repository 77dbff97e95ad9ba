"""LSF: nodes by LSB_MCPU_HOSTS, LSB_HOSTS or its host file, the time left by `bjobs`."""

import re
from collections import Counter

from pilotwrap.model.node import Allocation
from pilotwrap.model.snapshot import CommandSaid, Snapshot
from pilotwrap.site.digits import number_of
from pilotwrap.site.looks import Command, Looks
from pilotwrap.site.schedulers.lineage import launched
from pilotwrap.site.schedulers.nodelist import as_listed, distinct

NAME = "lsf"
SUBMIT = "bsub"
LAUNCH_NODES = True
DIRECTIVE = "#BSUB"
SUFFIX = ".lsf"
KILL_GRACE_S = 10.0
"""JOB_TERMINATE_INTERVAL, between TERM and KILL (lsb.params(5)); a parallel job may get KILL alone."""

LOOKS = Looks(
    variables=("LSB_*", "LSF_*", "LS_JOBPID", "LS_SUBCWD"),
    files=("{LSB_DJOB_HOSTFILE}",),
    commands=(Command("LSB_JOBID", ("bjobs", "-noheader", "-o", "time_left", "{LSB_JOBID}")),),
    programs=("bjobs", "bsub", "jsrun"),
)
PASSED_ON: tuple[str, ...] = ("LSB_*", "LSF_*", "LS_JOBPID", "LS_SUBCWD")

_LEFT = re.compile(r"^[ \t]*([0-9]{1,9}):([0-9]{2})(?:[ \t]+[A-Z])?[ \t]*$", re.MULTILINE)


def recognised(snapshot: Snapshot) -> bool:
    """Tell whether we are inside of an LSF job."""
    return "LSB_JOBID" in snapshot.variables


def host(snapshot: Snapshot) -> str:
    """Return the node's name as the lists have it."""
    return as_listed((name for name, _ in _hosts(snapshot)), snapshot.host)


def allocation(snapshot: Snapshot) -> Allocation:
    """Return the allocation without the launch node; ValueError when its hosts cannot be read."""
    ranked = _ranked(_hosts(snapshot), snapshot)
    nodes = distinct(name for name, _ in ranked) or (snapshot.host,)
    index = snapshot.variables.get("LSB_JOBINDEX", "0")
    return Allocation(
        scheduler="lsf",
        job_id=snapshot.variables.get("LSB_JOBID", "") + (f"[{index}]" if index not in {"", "0"} else ""),
        nodes=nodes,
        node_count=len(nodes),
        inside_step=launched(snapshot, ("sbatchd",)),
        time_left_s=_time_left_s(snapshot),
        kill_grace_s=KILL_GRACE_S,
        on_node=as_listed(nodes, snapshot.host) in nodes,
        tasks=sum(slots for _, slots in ranked) or None,
    )


def _hosts(snapshot: Snapshot) -> tuple[tuple[str, int], ...]:
    """Return each host with its slots, in order."""
    said = snapshot.variables
    if said.get("LSB_MCPU_HOSTS", "").strip():
        return _counted(said["LSB_MCPU_HOSTS"])
    # a long list is left out of the environment, the file stays
    listed = said.get("LSB_HOSTS") or snapshot.text(said.get("LSB_DJOB_HOSTFILE", "")) or ""
    return tuple(Counter(listed.split()).items())


def _counted(text: str) -> tuple[tuple[str, int], ...]:
    """Return the pairs of `host slots host slots`."""
    words = text.split()
    pairs = tuple((name, number_of(count)) for name, count in zip(words[::2], [*words[1::2], ""], strict=False))
    counted = tuple((name, count) for name, count in pairs if count is not None)
    if counted != pairs:
        raise ValueError(f"LSB_MCPU_HOSTS is {text[:80]!r}: `host slots host slots` is expected")
    return counted


def _ranked(hosts: tuple[tuple[str, int], ...], snapshot: Snapshot) -> tuple[tuple[str, int], ...]:
    """Leave out the launch node of a machine with jsrun: the first host, with one slot where the others have more."""
    first, others = hosts[:1], hosts[1:]
    launching = "jsrun" in snapshot.programs and others and all(slots > 1 for _, slots in others)
    return others if launching and first[0][1] == 1 else hosts


def _time_left_s(snapshot: Snapshot) -> float | None:
    """Return what `bjobs -o time_left` says (`H:MM L`; `-`: no limit); of several lines the least."""
    asked = (said.output for said in snapshot.commands if said.words[:1] == ("bjobs",) and said.exit == 0)
    left = [int(hours) * 3600.0 + int(minutes) * 60.0 for hours, minutes in _LEFT.findall(next(asked, ""))]
    return min(left, default=None)


def batch_shell(nodes: tuple[str, ...], _gpus_per_node: int = 0) -> Snapshot:
    """Return what a batch shell on a launch node before these nodes shows, half an hour before its end."""
    asked = ("bjobs", "-noheader", "-o", "time_left", "1")
    return Snapshot(
        host="batch1",
        ancestors=("bash", "res", "sbatchd"),
        variables={"LSB_JOBID": "1", "LSB_MCPU_HOSTS": " ".join(("batch1 1", *(f"{node} 42" for node in nodes)))},
        commands=(CommandSaid(argv=asked, exit=0, output="0:30 L\n"),),
        programs={name: f"/opt/ibm/bin/{name}" for name in ("bjobs", "bsub", "jsrun")},
    )


def walltime(minutes: int) -> str:
    """Return a time as `-W` takes it: hours and minutes, no seconds."""
    return f"{minutes // 60}:{minutes % 60:02}"
