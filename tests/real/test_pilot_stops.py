"""The real pilot's run is stopped, by a signal or by the server: told once and in time, and nothing lives on."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from demo.test_demo import ordinary_python
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

NOBODY = 65534
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

    @property
    def folder(self) -> Path:
        """Where its run stands."""
        return self.rig.path / f"run-{self.name}"

    def started(self, *words: str, prefix: tuple[str, ...] = ()) -> Run:
        """Put its job and start its run."""
        way, queue = self.way, f"Q_{self.name}"
        inputs = {"inputs": [self.rig.give(f"{self.name}.txt")]} if way.staged else {}
        (self.panda_id,) = self.rig.put(self.rig.sh(way.script.format(ready=self.ready), **inputs), queue=queue)
        server = [queue if word == self.rig.lab.address.panda_queue else word for word in self.rig.server_words]
        folder = self.rig.path / f"run-{self.name}"
        return self.rig.start(
            *server, *self.rig.pilot_words, "--jobs", "1", "--json", *words, folder=folder, prefix=prefix
        )

    def stopped(self) -> tuple[Ended, float]:
        """Run it until its moment, stop it, and return its end and when it was stopped."""
        run = self.started("--jobs", "1")
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
        logs = self.folder.glob(f"runs/??/*/jobs/{self.panda_id}-*/stdout")
        return any(phrase in path.read_bytes() for path in logs)


def sleeps(one: Stopped) -> bool:
    """Tell whether the payload is under way, and its process that goes away from it too."""
    return one.ready.exists() and "sleep 300" in left_of(one.folder).values()


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
        run = stop.started("--jobs", "1", "--heartbeat", "1")
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


STRANGERS = 200
ROOM = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable)
HUNT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pilot.util.processes import kill_orphans as hunt; "
    "hunt(); print('the hunt is over')"
)
"""The pilot's own function, which ends every process of its user whose parent is 1."""

HUNTS = 'timeout 15 {without} /usr/bin/python3 -c "{hunt}" {folder}/runs/pilots/*/pilot3 > hunted.txt'
BEGINNINGS = {
    "granted": "the pilot started",
    "refused": "the pilot started without a PID namespace of its own: unshare: No space left on device",
}
UNLEASHED = {"granted": "env -u PILOT_NOKILL", "refused": ""}
"""In a namespace it may hunt; where there is none, what it has been told must be enough."""


@pytest.mark.parametrize("namespace", ["granted", "refused"])
def test_strangers_of_the_same_user_with_parent_one_survive_a_pilot(pilot_sdist: Path, namespace: str) -> None:
    with pilot_rig(pilot_sdist, "current") as rig:
        stop = Stopped(rig, "beside", WAYS["deaf"])
        hunts = HUNTS.format(hunt=HUNT, without=UNLEASHED[namespace], folder=stop.folder)
        (other,) = rig.put(rig.sh(hunts, outputs=[{"lfn": "hunted.txt"}]), queue="Q_beside")
        room = (*ROOM, str(Path(__file__).with_name("strangers.py")), namespace, str(NOBODY), str(rig.path / "said"))
        run = stop.started("--heartbeat", "1", "--jobs", "2", prefix=room)
        until(lambda: runs(stop) or run.child.poll() is not None, "it runs")
        assert run.child.poll() is None, run.end()
        kill(rig, stop.panda_id)
        ended = run.end()
        said = json.loads((rig.path / "said").read_text())
        assert len(said["started"]) == STRANGERS
        assert said["started"] == said["before"]
        assert said["before"] == said["after"]
        assert ended.code == 1, ended
        assert [job["state"] for job in rig.final(other, stop.panda_id)] == ["finished", "cancelled"]
        assert rig.stored("hunted.txt").read_text() == "the hunt is over\n"
        began = [one["what"] for one in ended.report["timeline"]]
        assert began.count(BEGINNINGS[namespace]) == 2, began


AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
PYTHON = ("sh", "-c", 'python="$1"; shift 2; exec "$python" "$@"', "sh")
"""Takes the Python that it is told in place of the one that comes next."""

NEEDED = (
    *("pilotwrap", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"),
    *("requests", "urllib3", "certifi", "idna", "charset_normalizer", "pynvml"),
)


def owned(path: Path) -> Path:
    """Give a file or folder to the ordinary user."""
    os.chown(path, NOBODY, NOBODY)
    return path


def library(folder: Path) -> Path:
    """Copy what a run imports to where everybody can read it."""
    for name in NEEDED:
        found = importlib.util.find_spec(name)
        assert found is not None, name
        assert found.origin is not None, name
        origin = Path(found.origin)
        if origin.name == "__init__.py":
            shutil.copytree(origin.parent, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(origin, folder)
    return folder


def test_an_ordinary_user_s_pilot_has_a_namespace_of_its_own_and_finishes_a_job(pilot_sdist: Path) -> None:
    python = ordinary_python()
    if python is None:
        pytest.skip("no Python of this version that everybody may run: make the environment with /usr/bin/python3")
    if subprocess.run([*AS_NOBODY, "unshare", "--user", "--pid", "--fork", "true"], check=False).returncode:
        pytest.skip("an ordinary user gets no namespaces here: allow user namespaces")
    with pilot_rig(pilot_sdist, "current") as rig:
        rig.sdist = Path(shutil.copy(pilot_sdist, rig.path))
        token = owned(Path(shutil.copy(rig.lab.address.token_path, rig.path / "token")))
        token.chmod(0o600)
        whose = "ps -e -o uid= | sort -u > out.txt"
        (panda_id,) = rig.put(rig.sh(whose, outputs=[{"lfn": "out.txt"}]))
        folder = rig.path / "run-ordinary"
        folder.mkdir()
        rig.environment = {"PYTHONPATH": str(library(rig.path / "library")), "HOME": str(owned(folder)), "TMPDIR": ""}
        words = [str(token) if word == str(rig.lab.address.token_path) else word for word in rig.server_words]
        run = rig.start(*words, *rig.pilot_words, "--json", folder=folder, prefix=(*AS_NOBODY, *PYTHON, python))
        ended = run.end()
        assert ended.code == 0, ended
        (job,) = rig.final(panda_id)
        assert (job["state"], job["reports"]) == ("finished", 1), job
        assert rig.stored("out.txt").read_text().split() == [str(NOBODY)]
        assert "the pilot started" in [one["what"] for one in ended.report["timeline"]]  # in a namespace
        assert {path.stat().st_uid for path in (folder / "runs").rglob("*")} == {NOBODY}
        assert not left_of(folder)
