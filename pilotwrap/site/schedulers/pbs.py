"""PBS Pro and OpenPBS: nodes by PBS_NODEFILE or `exec_host`, the time left by `qstat`."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timezone

from pilotwrap.model.node import Allocation
from pilotwrap.model.snapshot import CommandSaid, FileSaid, Snapshot
from pilotwrap.site.digits import number_of
from pilotwrap.site.looks import Command, Looks
from pilotwrap.site.schedulers.clock import clock_text, hours_s, taken_s
from pilotwrap.site.schedulers.lineage import launched
from pilotwrap.site.schedulers.nodelist import as_listed, distinct

NAME = "pbs"
SUBMIT = "qsub"
LAUNCH_NODES = False
DIRECTIVE = "#PBS"
SUFFIX = ".pbs"
KILL_GRACE_S = 10.0
"""kill_delay, the default of a queue (pbs_queue_attributes(7B)); a site may have another."""

LOOKS = Looks(
    variables=("PBS_*", "NCPUS"),
    files=("{PBS_NODEFILE}",),
    commands=(Command("PBS_JOBID", ("qstat", "-x", "-f", "-F", "json", "{PBS_JOBID}")),),
    programs=("qstat", "qsub"),
)
PASSED_ON: tuple[str, ...] = ("PBS_*", "NCPUS")

_POLL_MOST_S = 300.0
"""A node is asked for its job's use every 120 s at most (MAX_CHECK_POLL_TIME, mom_func.h), then tells the server."""

_ZONE_S = 900.0
"""All time zones differ by whole quarters of an hour."""

_LINE = re.compile(r'"([\w.]+)"\s*:\s*(?:"([^"]*)"|([\w.+-]+)|(\{))\s*,?|([\w.]+) = (.*)')


def recognised(snapshot: Snapshot) -> bool:
    """Tell whether we are inside of a PBS job; Cobalt has a PBS of its own name, but sets none of these."""
    return "PBS_JOBID" in snapshot.variables


def host(snapshot: Snapshot) -> str:
    """Return the node's name as PBS_NODEFILE has it, which holds long names."""
    return as_listed(_listed(snapshot), snapshot.host)


def allocation(snapshot: Snapshot) -> Allocation:
    """Return the allocation; ValueError when its nodes cannot be read."""
    said, slots = _job(snapshot), _listed(snapshot)
    nodes = distinct(slots) or _exec_hosts(said.get("exec_host", "")) or (snapshot.host,)
    gpus = number_of(said.get("Resource_List.ngpus"))
    return Allocation(
        scheduler="pbs",
        job_id=snapshot.variables.get("PBS_JOBID"),
        nodes=nodes,
        node_count=len(nodes),
        inside_step=_spawned(snapshot) or launched(snapshot, ("pbs_mom",)),
        time_left_s=_time_left_s(said, snapshot),
        kill_grace_s=KILL_GRACE_S,
        on_node=as_listed(nodes, snapshot.host) in nodes,
        tasks=len(slots) or None,
        gpus_per_node=None if gpus is None else gpus // len(nodes),
    )


def _spawned(snapshot: Snapshot) -> bool:
    """Tell whether pbs_mom started us for `pbsdsh` or the like: the job's script is always its first task.

    PBS_TASKNUM is set anew for each task (openpbs, `src/resmom/start_exec.c`), so nothing inherits it.
    """
    return snapshot.variables.get("PBS_TASKNUM", "").lstrip("0") not in {"", "1"}


def _listed(snapshot: Snapshot) -> list[str]:
    """Return the lines of PBS_NODEFILE, one a slot of a rank; a node that is not the first may not have the file."""
    text = snapshot.text(snapshot.variables.get("PBS_NODEFILE", "")) or ""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _exec_hosts(text: str) -> tuple[str, ...]:
    """Return the nodes of `h1/0*8+h2/0*8`."""
    return distinct(part.partition("/")[0] for part in text.split("+"))


def _time_left_s(said: dict[str, str], snapshot: Snapshot) -> float | None:
    """Return what the wall time leaves; its use is polled, so the start is the fresher word.

    The start is told in the server's own time zone, which nobody names: it counts modulo a quarter of an hour.
    """
    limit = hours_s(said.get("Resource_List.walltime"))
    if limit is None:
        return None
    used = hours_s(said.get("resources_used.walltime")) or 0.0
    start, taken = _start_s(said.get("stime", "")), taken_s(snapshot)
    unpolled = (taken - start - used) % _ZONE_S if start is not None and taken is not None else 0.0
    return max(0.0, limit - used - (unpolled if unpolled <= _POLL_MOST_S else 0.0))


def _start_s(text: str) -> float | None:
    try:
        return datetime.strptime(text, "%a %b %d %H:%M:%S %Y").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None


def _job(snapshot: Snapshot) -> dict[str, str]:
    """Return what `qstat -f` says of our job, `Resource_List.walltime` and the like, as JSON or as text.

    Some releases write JSON that is none (quotes in Variable_List, numbers like 005), so it is read by lines then.
    """
    asked = (said.output for said in snapshot.commands if said.words[:1] == ("qstat",) and said.exit == 0)
    output = next(asked, "")
    try:
        jobs = json.loads(output)["Jobs"]
        return dict(_flat(next(iter(jobs.values())), ""))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
        return dict(_lines(output))


def _flat(found: object, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(found, dict):
        for name, value in found.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, str(found)


def _lines(output: str) -> Iterator[tuple[str, str]]:
    """Yield names and values, a line each; a long line of text goes on after a tab."""
    block = ""
    for line in output.replace("\n\t", "").splitlines():
        match = _LINE.match(line.strip())
        if match is None:
            block = "" if line.strip().startswith("}") else block
        elif match[4]:
            block = f"{match[1]}." if match[1] in {"Resource_List", "resources_used", "Variable_List"} else ""
        else:
            yield block + (match[1] or match[5]), (match[2] or match[3] or match[6] or "").strip()


def batch_shell(nodes: tuple[str, ...], gpus_per_node: int = 0) -> Snapshot:
    """Return what a batch shell on the first of these nodes shows, half an hour before its end."""
    gpus = {"ngpus": gpus_per_node * len(nodes)} if gpus_per_node else {}
    told = {"Jobs": {"1.server": {"Resource_List": {"walltime": "00:30:00", **gpus}}}}
    asked = ("qstat", "-x", "-f", "-F", "json", "1.server")
    return Snapshot(
        host=nodes[0].partition(".")[0],
        ancestors=("bash", "pbs_mom"),
        variables={
            "PBS_JOBID": "1.server",
            "PBS_NODEFILE": "/var/spool/pbs/aux/1.server",
            "PBS_ENVIRONMENT": "PBS_BATCH",
        },
        files={"/var/spool/pbs/aux/1.server": FileSaid(text="".join(f"{node}\n" for node in nodes))},
        commands=(CommandSaid(argv=asked, exit=0, output=json.dumps(told)),),
        programs={"qstat": "/opt/pbs/bin/qstat", "qsub": "/opt/pbs/bin/qsub"},
    )


def walltime(minutes: int) -> str:
    """Return a time as `-l walltime=` takes it."""
    return clock_text(minutes)
