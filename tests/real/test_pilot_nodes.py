"""The real pilot on both nodes of a real Slurm by one `run`: a controller on each, one report, nothing left."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from real.pilot import alone, pilot_sdist
from real.test_pilot_slurm import PilotWorker, batch, worker
from real.test_pilot_stops import TOLD_S, left_of
from real.test_run_ends import STOPPED
from real.worker import until
from run.test_stop import told_after

__all__ = ["alone", "pilot_sdist"]

pytestmark = pytest.mark.usefixtures("alone")

WHERE = "printenv SLURMD_NODENAME > {}; sleep 2"
SLEEPS = ["sh", "-c", "exec sleep 300"]


def all_gone(one: PilotWorker) -> None:
    """Wait until only the batch script is left, so that it was not Slurm who cleaned up."""
    until(lambda: set(left_of(one.home).values()) <= {"sleep 600"}, "nothing left in its home", 5)
    one.nothing_left()


def test_each_node_has_its_own_pilots_and_all_is_one_report(pilot_sdist: Path) -> None:
    with batch(pilot_sdist, 2) as (rig, slurm):
        both, stopped = (worker(rig, slurm, name) for name in ("both", "stopped"))
        names = [f"node-{number}.txt" for number in range(2)]
        panda_ids = [both.put(["sh", "-c", WHERE.format(name)], outputs=[{"lfn": name}]) for name in names]
        both.start("--jobs", "2", lasting=True, tasks_per_node=1)
        both.done()
        for panda_id in panda_ids:
            job = both.verdict(panda_id)
            assert (job["state"], job["reports"]) == ("finished", 1), (job, both.log)
        report = both.report()
        assert (report["state"], report["job_count"]) == ("finished", 2), both.log
        nodes = [json.loads(line) for line in Path(report["outcome"]["path"]).read_text().splitlines()]
        assert [node["host"] for node in nodes] == list(slurm.nodes)
        assert sorted(rig.stored(name).read_text().strip() for name in names) == list(slurm.nodes)
        assert (both.home / "code").read_text() == "0\n"
        all_gone(both)
        slurm.cancel(both.job_id)
        both.ended()

        sleeping = [stopped.put(SLEEPS) for _ in slurm.nodes]
        stopped.start("--jobs", "2", "--controllers", "node", lasting=True, tasks_per_node=1)
        until(lambda: list(left_of(stopped.home).values()).count("sleep 300") == 2, f"two sleep; {stopped.log}", 60)
        at = time.time()
        os.kill(stopped.starter, signal.SIGTERM)
        stopped.done()
        for panda_id in sleeping:
            job = stopped.verdict(panda_id)
            assert (job["state"], job["reports"]) == ("failed", 1), (job, stopped.log)
            assert STOPPED in job["pilot_error_diag"], job
            assert told_after(dict(job), at) < TOLD_S
        all_gone(stopped)
