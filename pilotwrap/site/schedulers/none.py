"""No batch system: this host alone, for as long as it lasts."""

from pilotwrap.model.node import Allocation
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.looks import Looks

NAME = "none"
SUBMIT = ""
LAUNCH_NODES = False
DIRECTIVE = ""
SUFFIX = ".sh"
KILL_GRACE_S = 10.0
"""What we allow between our own TERM and KILL where nobody else sets it (as container runtimes do)."""

LOOKS = Looks()
PASSED_ON: tuple[str, ...] = ()


def recognised(_snapshot: Snapshot) -> bool:
    """Tell that it always fits: it stands last in the list."""
    return True


def host(snapshot: Snapshot) -> str:
    """Return the host's own name."""
    return snapshot.host


def allocation(snapshot: Snapshot) -> Allocation:
    """Return this host."""
    return Allocation(
        scheduler="none",
        job_id=None,
        nodes=(snapshot.host,),
        node_count=1,
        inside_step=False,
        time_left_s=None,
        kill_grace_s=KILL_GRACE_S,
    )


def batch_shell(nodes: tuple[str, ...], _gpus_per_node: int = 0) -> Snapshot:
    """Return what the host shows: nothing of a batch system."""
    return Snapshot(host=nodes[0])


def walltime(minutes: int) -> str:
    """Return nothing: there is no limit to ask for."""
    return str(minutes)
