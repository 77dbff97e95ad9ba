"""Flux: an instance that we are inside of, whether its own machine's or one that another batch system started."""

from pilotwrap.model.node import Allocation
from pilotwrap.model.snapshot import CommandSaid, Snapshot
from pilotwrap.site.digits import number_of
from pilotwrap.site.looks import Command, Looks
from pilotwrap.site.schedulers.lineage import launched
from pilotwrap.site.schedulers.nodelist import as_listed, nodes_of

NAME = "flux"
SUBMIT = ""
"""Its one program is installed on machines of other batch systems too: it proves no login node."""

LAUNCH_NODES = False
DIRECTIVE = "#flux:"
SUFFIX = ".flux"
KILL_GRACE_S = 5.0
"""exec.kill-timeout (flux-config-exec(5)). At the time limit ALRM comes first, at a cancel TERM."""

NO_LIMIT_S = 4294967295
"""What `flux job timeleft` prints where there is none (flux-job(1))."""

_ASK_TIME = ("flux", "job", "timeleft")
_ASK_NODES = ("flux", "resource", "list", "-s", "up", "-no", "{nodelist} {ngpus}")
LOOKS = Looks(
    variables=("FLUX_*",),
    commands=(Command("FLUX_URI", _ASK_TIME), Command("FLUX_URI", _ASK_NODES)),
    programs=("flux",),
)
PASSED_ON: tuple[str, ...] = ("FLUX_*",)


def recognised(snapshot: Snapshot) -> bool:
    """Tell whether we are inside of a Flux instance: its URI is all that a nested one leaves in the environment."""
    return "FLUX_URI" in snapshot.variables


def host(snapshot: Snapshot) -> str:
    """Return the node's name as the instance's list has it."""
    return as_listed((node for node, _ in _nodes(snapshot)), snapshot.host)


def allocation(snapshot: Snapshot) -> Allocation:
    """Return the instance's nodes that are up; ValueError when their list cannot be read.

    The job is the enclosing one: FLUX_JOB_ID is that of a step (flux-environment(7)).
    """
    found = _nodes(snapshot)
    nodes = tuple(node for node, _ in found) or (snapshot.host,)
    gpus = [count for _, count in found if count is not None]
    return Allocation(
        scheduler="flux",
        job_id=snapshot.variables.get("FLUX_ENCLOSING_ID"),
        nodes=nodes,
        node_count=len(nodes),
        inside_step=launched(snapshot, ("flux-broker",)),
        time_left_s=_time_left_s(snapshot),
        kill_grace_s=KILL_GRACE_S,
        on_node=as_listed(nodes, snapshot.host) in nodes,
        gpus_per_node=min(gpus, default=None),
    )


def _nodes(snapshot: Snapshot) -> tuple[tuple[str, int | None], ...]:
    """Return each node, with its share of the GPUs of its line: a line is a group of like nodes."""
    found: dict[str, int | None] = {}
    for line in _said(snapshot, _ASK_NODES).splitlines():
        listed, _, gpus = line.strip().partition(" ")
        nodes, count = nodes_of(listed), number_of(gpus)
        found.update(dict.fromkeys(nodes, count // len(nodes) if nodes and count is not None else None))
    return tuple(found.items())


def _time_left_s(snapshot: Snapshot) -> float | None:
    left = number_of(_said(snapshot, _ASK_TIME))
    return None if left is None or left >= NO_LIMIT_S else float(left)


def _said(snapshot: Snapshot, words: tuple[str, ...]) -> str:
    return next((said.output for said in snapshot.commands if said.words == words and said.exit == 0), "")


def batch_shell(nodes: tuple[str, ...], gpus_per_node: int = 0) -> Snapshot:
    """Return what a batch script on the first of these nodes shows, half an hour before its end."""
    return Snapshot(
        host=nodes[0],
        ancestors=("bash", "flux-broker-0"),
        variables={"FLUX_URI": "local:///run/flux/1/local-0", "FLUX_ENCLOSING_ID": "f1"},
        commands=(
            CommandSaid(argv=_ASK_TIME, exit=0, output="1800\n"),
            CommandSaid(argv=_ASK_NODES, exit=0, output=f"{','.join(nodes)} {gpus_per_node * len(nodes)}\n"),
        ),
        programs={"flux": "/usr/bin/flux"},
    )


def walltime(minutes: int) -> str:
    """Return a time as `--time-limit` takes it."""
    return f"{minutes}m"
