"""When a payload must end, so that it is told in time."""

from pilotwrap.model.errors import AllocationError
from pilotwrap.model.node import Allocation
from pilotwrap.model.plan import Because, Limits

PAYLOAD_GRACE_S = 10.0
"""Between our TERM and our KILL at most: what a payload needs to save its state (a guess; Slurm's KillWait is 30)."""

GRACE_SHARE = 1 / 3
"""Of the batch system's own grace, for the payload's TERM; the rest is for its outputs' and the report's way."""


def limits(allocation: Allocation, walltime_s: float | None, tell_s: float) -> tuple[Limits, Because]:
    """Return the limits and why; AllocationError when too little time is left to start anything."""
    grace = min(PAYLOAD_GRACE_S, allocation.kill_grace_s * GRACE_SHARE)
    left = allocation.time_left_s
    if left is None:
        return (
            Limits(walltime_s=walltime_s, stop_at=None, kill_grace_s=grace),
            Because(decision="no end is planned", reason=f"{allocation.scheduler} names no time limit"),
        )
    stop_at = left - grace - tell_s
    if stop_at <= 0:
        raise AllocationError(
            f"the allocation ends in {left:.0f} s",
            why=f"{grace + tell_s:.0f} s are kept to end the payload and to report",
            remedy="ask the batch system for more time",
        )
    return (
        Limits(walltime_s=walltime_s, stop_at=stop_at, kill_grace_s=grace),
        Because(
            decision=f"the payload gets TERM after {stop_at:.0f} s at the latest",
            reason=f"{allocation.scheduler} leaves {left:.0f} s; {grace:.0f} s of grace and {tell_s:.0f} s to tell",
        ),
    )


def too_late(walltime_s: float | None, left_s: float | None) -> str | None:
    """Return why a job that has not started is not started any more; None: nothing is known against it."""
    if walltime_s is None or left_s is None or walltime_s <= left_s:
        return None
    return (
        f"it was not started: it may take {walltime_s:.0f} s, and {max(0.0, left_s):.0f} s are left of the allocation"
    )
