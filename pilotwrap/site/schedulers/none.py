"""No batch system: this host alone, for as long as it lasts."""

from pilotwrap.model.node import Allocation
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.looks import Looks

NAME = "none"
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
