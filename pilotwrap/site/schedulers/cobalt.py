"""Cobalt (Theta-like machines; its last release is of 2021): nodes by its file or their numbers, and its own clock."""

import re

from pilotwrap.model.job import MAX_NODES
from pilotwrap.model.node import Allocation
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.digits import number_of
from pilotwrap.site.looks import Looks
from pilotwrap.site.schedulers.clock import clock_text, until_s
from pilotwrap.site.schedulers.lineage import launched
from pilotwrap.site.schedulers.nodelist import as_listed, distinct

NAME = "cobalt"
SUBMIT = "qsub"
LAUNCH_NODES = True
DIRECTIVE = "#COBALT"
SUFFIX = ".cobalt"
KILL_GRACE_S = 300.0
"""force_kill_delay, five minutes by default (cobalt.conf(5))."""

LOOKS = Looks(variables=("COBALT_*",), files=("{COBALT_NODEFILE}",), programs=("qsub",))
PASSED_ON: tuple[str, ...] = ("COBALT_*",)

_NIDS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def recognised(snapshot: Snapshot) -> bool:
    """Tell whether we are inside of a Cobalt job."""
    return "COBALT_JOBID" in snapshot.variables


def host(snapshot: Snapshot) -> str:
    """Return the node's name as the lists have it."""
    return as_listed(_nodes(snapshot), snapshot.host)


def allocation(snapshot: Snapshot) -> Allocation:
    """Return the allocation; its script runs on a node of its own (MOM) on a Cray. ValueError: nodes unreadable."""
    said = snapshot.variables
    nodes = _nodes(snapshot) or (snapshot.host,)
    return Allocation(
        scheduler="cobalt",
        job_id=said.get("COBALT_JOBID"),
        nodes=nodes,
        node_count=len(nodes),
        inside_step=launched(snapshot, ("cobalt",)),  # the name of its daemon is a guess
        time_left_s=until_s(snapshot, number_of(said.get("COBALT_ENDTIME"))),
        kill_grace_s=KILL_GRACE_S,
        on_node=as_listed(nodes, snapshot.host) in nodes,
    )


def _nodes(snapshot: Snapshot) -> tuple[str, ...]:
    said = snapshot.variables
    listed = snapshot.text(said.get("COBALT_NODEFILE", ""))
    return distinct(listed.splitlines()) if listed else nids_of(said.get("COBALT_PARTNAME", ""))


def nids_of(text: str) -> tuple[str, ...]:
    """Return the nodes of `3-4,9`: nid00003, nid00004, nid00009 (a Cray's host names; five digits on Theta)."""
    numbers: list[int] = []
    for part in filter(None, text.strip().split(",")):
        match = _NIDS.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first or last - first + len(numbers) >= MAX_NODES:
            raise ValueError(f"{part[:80]!r} is no node number or ascending range of them, as in 3-4,9")
        numbers.extend(range(first, last + 1))
    return tuple(f"nid{number:05}" for number in dict.fromkeys(numbers))


def batch_shell(nodes: tuple[str, ...], _gpus_per_node: int = 0) -> Snapshot:
    """Return what a batch script before these nodes (names as nid00003) shows, half an hour before its end."""
    numbers = ",".join(str(int(node.removeprefix("nid"))) for node in nodes)
    return Snapshot(
        host="mom1",
        taken_at="2026-11-21T00:00:00Z",
        ancestors=("bash",),
        variables={"COBALT_JOBID": "1", "COBALT_PARTNAME": numbers, "COBALT_ENDTIME": "1795221000"},
        programs={"qsub": "/usr/bin/qsub"},
    )


def walltime(minutes: int) -> str:
    """Return a time as `-t` takes it."""
    return clock_text(minutes)
