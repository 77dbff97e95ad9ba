"""The real pilot in batch jobs of the real Slurm: scancel, limits, two nodes; told once and in time, nothing left."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from real.pilot import PilotRig, pilot_rig
from real.slurm import Slurm, started, why_not
from real.test_pilot_stops import TOLD_S, left_of
from real.test_run_ends import ENDING_S, STOPPED
from real.worker import Worker, until
from run.test_stop import told_after

pytestmark = pytest.mark.usefixtures("alone")

SLEEPS = ["sh", "-c", "(trap '' TERM; cd /; exec setsid sleep 300) & exec sleep 300"]
ADDRESS = ("ip", "address", "add", "192.0.2.1/32", "dev", "lo")
"""For documentation alone (RFC 5737): Slurm's daemons do not listen where there is no address but 127.0.0.1."""

ON_EACH = ("srun", "--ntasks-per-node=1")


@dataclass
class PilotWorker(Worker):
    """A worker whose jobs are the pilot's; its home can be entered by the pilot's user."""

    words: Sequence[str] = ()
    panda_id: int = 0

    def argv(self, *options: str) -> list[str]:
        """Return its command line: the pilot knows its storage by itself."""
        own = super().argv(*options)
        at = own.index("--storage")
        return [*own[:at], *self.words, *own[at + 2 :]]

    def begun(self, minutes: int) -> None:
        """Start it with a job that sleeps."""
        self.panda_id = self.put(SLEEPS)
        self.start("--jobs", "1", minutes=minutes, tasks_per_node=1)

    def sleeping(self) -> None:
        """Wait until the payload and what went away from it are there, and the server knows."""
        until(lambda: list(left_of(self.home).values()).count("sleep 300") == 2, f"it sleeps; {self.log}", 60)
        until(lambda: "running" in {entry["state"] for entry in self.listed(self.panda_id)["history"]}, "it runs")

    def told_once(self, timeout_s: float, what: str) -> None:
        """Wait for the job's end at the server, and for that of all that it was."""
        until(lambda: self.told(self.panda_id), f"told; {self.log}", timeout_s)
        until(lambda: not left_of(self.home), "nothing left in its home", 5)
        self.nothing_left()
        job = self.listed(self.panda_id)
        assert (job["state"], job["reports"]) == ("failed", 1), (job, self.log)
        assert what in job["pilot_error_diag"], job
        assert self.flush()["told"] == 0


@contextmanager
def batch(sdist: Path, node_count: int) -> Iterator[tuple[PilotRig, Slurm]]:
    """Start a lab and a Slurm of so many nodes, where this test is."""
    if reason := why_not():
        pytest.skip(reason)
    subprocess.run(ADDRESS, check=True)
    with pilot_rig(sdist, "current") as rig, started(node_count) as slurm:
        yield rig, slurm


def worker(rig: PilotRig, slurm: Slurm, name: str) -> PilotWorker:
    home = rig.path / name
    home.mkdir()
    return PilotWorker(slurm, rig.lab, home, words=rig.pilot_words)


def test_scancel_and_both_kinds_of_limit_are_told_in_time_and_nothing_is_left(pilot_sdist: Path) -> None:
    with batch(pilot_sdist, 1) as (rig, slurm):
        planned, surprised, cancelled = (worker(rig, slurm, name) for name in ("planned", "surprised", "cancelled"))
        for one, minutes in ((planned, 1), (surprised, 5), (cancelled, 5)):
            one.begun(minutes)
        surprised.sleeping()
        slurm.run(["scontrol", "update", f"JobId={surprised.job_id}", "TimeLimit=1"])
        cancelled.sleeping()
        at = time.time()
        slurm.cancel(cancelled.job_id)
        cancelled.told_once(TOLD_S, STOPPED)
        assert told_after(dict(cancelled.listed(cancelled.panda_id)), at) < TOLD_S

        planned.told_once(90, "")  # by our stop, or by the pilot's own, which comes in the same second
        assert planned.report()["reason"] == "walltime"
        assert slurm.wait(planned.job_id) == "FAILED"  # by itself, and not TIMEOUT

        slurm.reach(surprised.job_id, frozenset({"COMPLETING", "TIMEOUT", "FAILED"}), timeout_s=60 + ENDING_S)
        surprised.told_once(TOLD_S, STOPPED)
        assert slurm.wait(surprised.job_id) == "TIMEOUT"


def test_on_two_nodes_it_wants_a_step_on_each_and_each_takes_a_job_of_its_own(pilot_sdist: Path) -> None:
    with batch(pilot_sdist, 2) as (rig, slurm):
        refused, both = (worker(rig, slurm, name) for name in ("refused", "both"))
        refused.put(["true"])
        refused.start("--jobs", "1", "--controllers", "head", tasks_per_node=1)
        names = [f"node-{number}.txt" for number in range(2)]
        which = "printenv SLURMD_NODENAME > {}; sleep 2"
        panda_ids = [both.put(["sh", "-c", which.format(name)], outputs=[{"lfn": name}]) for name in names]
        both.start("--jobs", "1", tasks_per_node=1, within=ON_EACH)
        assert refused.ended() == "FAILED"
        assert "srun --ntasks-per-node=1 pilotwrap run --agent pilot3" in refused.log
        assert refused.report()["reason"] == "usage"
        assert both.ended() == "COMPLETED", both.log
        for panda_id in panda_ids:
            job = both.verdict(panda_id)
            assert (job["state"], job["reports"]) == ("finished", 1), (job, both.log)
        reports = [json.loads(line) for line in (both.home / "report.json").read_text().splitlines()]
        assert sorted(job["panda_id"] for report in reports for job in report["jobs"]) == panda_ids
        assert [len(report["jobs"]) for report in reports] == [1, 1]
        assert sorted(rig.stored(name).read_text().strip() for name in names) == list(slurm.nodes)
        both.nothing_left()
        assert left_of(both.home) == left_of(refused.home) == {}
