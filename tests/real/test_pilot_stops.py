"""The real pilot's run is stopped, by a signal or by the server: told once and in time, and nothing lives on."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from real import processes
from real.pilot import PilotRig, pilot_rig
from run.rig import alive_under, states, until
from run.test_run import kill
from run.test_stop import told_after

from pilotwrap.lab.rules import KILL
from pilotwrap.lab.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from run.rig import Ended, Run

    from pilotwrap.lab.api import Api

pytestmark = pytest.mark.usefixtures("alone")

TOLD_S = 10.0
GONE_S = 1.0
"""After a run's own exit nothing of it may live; what is just being reaped is given so long."""

KILLED_S = 15.0
"""A heartbeat (1 s), the deaf's whole grace (10 s), and the way to the server."""

PLAIN = ": > {ready}; exec sleep 300"
DEAF = "trap '' TERM INT HUP; : > {ready}; while :; do sleep 0.2; done"
AWAY = "(trap '' TERM; cd /; exec setsid sleep 300) & " + DEAF
BATCHES: tuple[Api, ...] = ("legacy", "current", "legacy", "current")


@dataclass(frozen=True)
class Way:
    """What runs when the signals come: `moment` tells when that is."""

    script: str
    moment: Callable[[Stopped], Any]
    terms: int = 1
    staged: bool = False


@dataclass
class Stopped:
    """One run that is to be stopped, on a queue of its own."""

    rig: PilotRig
    name: str
    way: Way
    panda_id: int = 0

    @property
    def ready(self) -> Path:
        """The file that the payload makes; in a folder that its user may write to."""
        return self.rig.storage / f"ready-{self.name}"

    def started(self, *words: str) -> Run:
        """Put its job and start its run."""
        way, queue = self.way, f"Q_{self.name}"
        inputs = {"inputs": [self.rig.give(f"{self.name}.txt")]} if way.staged else {}
        (self.panda_id,) = self.rig.put(self.rig.sh(way.script.format(ready=self.ready), **inputs), queue=queue)
        server = [queue if word == self.rig.lab.address.panda_queue else word for word in self.rig.server_words]
        folder = self.rig.path / f"run-{self.name}"
        return self.rig.start(*server, *self.rig.pilot_words, "--jobs", "1", "--json", *words, folder=folder)

    def stopped(self) -> tuple[Ended, float]:
        """Run it until its moment, stop it, and return its end and when it was stopped."""
        run = self.started()
        until(lambda: self.way.moment(self) or run.child.poll() is not None, f"the moment of {self.name}")
        assert self.ready.exists() == (self.way.moment in {sleeps, runs}), self.name
        at = time.time()
        for _ in range(self.way.terms):
            run.child.send_signal(signal.SIGTERM)
        ended = run.end()
        until(lambda: not left_of(run.folder), f"{self.name}: nothing is left", GONE_S)
        assert self.rig.flush(run.folder).report["told"] == 0
        return ended, at

    def log_says(self, phrase: bytes) -> bool:
        """Tell whether the pilot's log has come so far."""
        logs = self.rig.path.glob(f"run-{self.name}/runs/??/*/jobs/{self.panda_id}-*/stdout")
        return any(phrase in path.read_bytes() for path in logs)


def sleeps(one: Stopped) -> bool:
    """Tell whether the payload is under way, and its process that goes away from it too."""
    folder = one.rig.path / f"run-{one.name}"
    return one.ready.exists() and "sleep 300" in left_of(folder).values()


def runs(one: Stopped) -> bool:
    """Tell whether the server knows that it does."""
    return "running" in states(one.rig.job(one.panda_id)) and sleeps(one)


WAYS = {
    "plain": Way(PLAIN, runs),
    "deaf": Way(AWAY, sleeps),
    "twice": Way(PLAIN, runs, terms=2),
    "stages-in": Way(PLAIN, lambda one: one.log_says(b"ready to transfer (stage-in)"), staged=True),
    "begins": Way(PLAIN, lambda one: one.log_says(b"PanDA Pilot version")),
}


def left_of(folder: Path) -> dict[int, str]:
    """What lives in a run's folder, names it, or has it in its environment."""
    found = set(processes.marked(str(folder))) | set(alive_under(folder))
    return {pid: words for pid in found if (words := words_of(pid))}


def words_of(pid: int) -> str:
    """A process's command line; nothing when it is a zombie or gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


@pytest.mark.parametrize("batch", range(len(BATCHES)))
def test_a_signal_is_told_within_ten_seconds_and_once_and_nothing_is_left(pilot_sdist: Path, batch: int) -> None:
    with pilot_rig(pilot_sdist, BATCHES[batch]) as rig, ThreadPoolExecutor(len(WAYS)) as pool:
        stops = [Stopped(rig, f"{name}-{batch}", way) for name, way in WAYS.items()]
        for stop, (ended, at) in zip(stops, pool.map(Stopped.stopped, stops), strict=True):
            assert ended.code == 143, (stop.name, ended)
            (job,) = rig.final(stop.panda_id)
            assert (job["state"], job["reports"]) == ("failed", 1), (stop.name, job)
            assert told_after(job, at) < TOLD_S, stop.name
            (report,) = ended.report["jobs"]
            assert (report["state"], report["reason"], report["told"]) == ("cancelled", "cancelled", True), stop.name


def leave_word(rig: PilotRig, panda_id: int) -> None:
    """Have the next update of a job be answered with a kill; the call for it is of the current API."""
    with closing(Store(rig.lab.db)) as store:
        store.write("UPDATE jobs SET command = ? WHERE panda_id = ?", KILL, panda_id)


@pytest.mark.parametrize(("api", "kill_it"), [("legacy", leave_word), ("current", kill)])
def test_a_kill_by_the_server_cancels_a_pilots_job_at_the_next_heartbeat(
    pilot_sdist: Path, api: Api, kill_it: Callable[[PilotRig, int], None]
) -> None:
    with pilot_rig(pilot_sdist, api) as rig:
        stop = Stopped(rig, "killed", WAYS["deaf"])
        run = stop.started("--heartbeat", "1")
        until(lambda: runs(stop), "it runs")
        at = time.time()
        kill_it(rig, stop.panda_id)
        ended = run.end()
        assert ended.code == 1, ended
        until(lambda: not left_of(run.folder), "nothing is left", GONE_S)
        (job,) = rig.final(stop.panda_id)
        assert (job["state"], job["reports"]) == ("cancelled", 1), job
        assert told_after(job, at) < KILLED_S
        (report,) = ended.report["jobs"]
        assert (report["state"], report["reason"], report["told"]) == ("cancelled", "cancelled", True)
