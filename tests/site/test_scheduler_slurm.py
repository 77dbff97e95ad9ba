"""The allocation as Slurm's variables give it, where its commands say nothing."""

from pilotwrap.model.snapshot import CommandSaid, Snapshot
from pilotwrap.site.schedulers import slurm


def test_the_end_time_serves_where_squeue_says_nothing() -> None:
    said = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node1", "SLURM_JOB_END_TIME": "1795249800"}
    snapshot = Snapshot(host="node1", taken_at="2026-11-21T08:00:00Z", variables=said)
    left = slurm.allocation(snapshot).time_left_s
    assert left == 1795249800 - 1795248000
    assert slurm.allocation(snapshot.model_copy(update={"taken_at": "yesterday"})).time_left_s is None
    failed = CommandSaid(argv=("squeue",), exit=1)
    assert slurm.allocation(snapshot.model_copy(update={"commands": (failed,)})).time_left_s == left
