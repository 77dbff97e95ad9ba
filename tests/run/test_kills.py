"""kill -9 of the starter or the controller at any moment: each recorded job is told once, and nothing lives on."""

from __future__ import annotations

import os
import random
import signal
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pilotwrap.panda.spool import fold, read_spool

from .rig import FINAL, Rig, Run, alive_under, rigs, states, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIVES = 50
SEED = 20261121
AT_ONCE = 4
SENT_TIMEOUT_S = 25.0
"""Longer than any life here waits between its acquisition and its first word, on a busy machine too."""

MOMENTS = (
    *("started", "controller", "directory"),  # before there is a journal
    *("Acquired", "Recorded", "StagedIn", "Started", "Exited", "StagedOut", "Spooled", "Answered"),
)


@dataclass(frozen=True)
class Death:
    number: int
    victim: str
    moment: str
    count: int
    delay_s: float


def deaths() -> list[Death]:
    dice = random.Random(SEED)  # noqa: S311 - a seed to repeat it by
    return [
        Death(
            number,
            dice.choice(("starter", "controller")),
            MOMENTS[number % len(MOMENTS)],
            dice.randint(1, 3),
            dice.choice((0.0, dice.random() * 0.02, dice.random() * 0.3)),
        )
        for number in range(LIVES)
    ]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    yield from rigs(tmp_path, "--sent-timeout", str(SENT_TIMEOUT_S))


def work(rig: Rig, death: Death) -> list[dict[str, Any]]:
    """Quick and slow jobs, with files, with a deaf payload, and one that leaves a daemon."""
    text = f"life {death.number}\n".encode() * 2000
    lfn = f"in-{death.number}.txt"
    (rig.storage / lfn).write_bytes(text)
    given = {"lfn": lfn, "size": len(text), "adler32": f"{zlib.adler32(text):08x}", "endpoint": "LAB"}
    made = {"lfn": f"out-{death.number}.txt", "endpoint": "LAB"}
    daemon = "setsid sh -c 'sleep 301 & exec sleep 302' < /dev/null > /dev/null 2>&1 & sleep 0.1"
    return [
        rig.sh(f"sort {lfn} > {made['lfn']}", inputs=[given], outputs=[made]),
        rig.sh(daemon),
        rig.sh("trap '' TERM; sleep 1.5 & wait; sleep 0.2"),
        rig.sh("exit 3"),
    ]


def come(run: Run, death: Death) -> bool:
    """Tell whether the moment is there, or can no longer come."""
    if run.child.poll() is not None or death.moment == "started":
        return True
    if death.moment in {"controller", "directory"}:
        return bool(run.controller) if death.moment == "controller" else run.made
    return len(run.events(death.moment)) >= death.count


def killed(run: Run, death: Death) -> None:
    until(lambda: come(run, death), f"{death}", every_s=0.002)
    time.sleep(death.delay_s)
    pid = run.child.pid if death.victim == "starter" else run.controller
    if pid and run.child.poll() is None:
        os.kill(pid, signal.SIGKILL)


def lived(rig: Rig, death: Death) -> tuple[Death, list[int], set[int]]:
    """Live one life up to its death and its flush; return its jobs, and those that its spool has."""
    queue = f"LIFE-{death.number}"
    jobs = rig.put(*work(rig, death), queue=queue)
    folder = rig.path / f"life-{death.number}"
    run = rig.start("--panda-queue", queue, "--json", folder=folder)
    killed(run, death)
    ended = run.end()
    until(lambda: not alive_under(folder), f"nothing lives after {death}: {alive_under(folder)}", 20)
    assert "Traceback" not in ended.err, (death, ended.err)
    if not run.made:
        return death, jobs, set()
    flushed = rig.flush(folder)
    assert flushed.code == 0, (death, flushed)
    assert flushed.report["left"] == [], death
    directory = run.directory
    assert directory is not None
    entries = fold(read_spool(directory).records)
    assert all(entry.accepted for entry in entries.values()), (death, entries)
    return death, jobs, {panda_id for panda_id, _ in entries}


def test_every_recorded_job_is_told_exactly_once_whoever_dies_when(rig: Rig) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        lives = list(pool.map(lambda death: lived(rig, death), deaths()))
    mine = {job: (death, job in recorded) for death, jobs, recorded in lives for job in jobs}
    until(lambda: all(job["state"] in {*FINAL, "activated"} for job in rig.jobs.values()), "all jobs have ended", 120)
    for panda_id, job in rig.jobs.items():
        death, recorded = mine[panda_id]
        ends = [state for state in states(job) if state in FINAL]
        fetched = "sent" in states(job)
        assert len(ends) == (1 if fetched else 0), (death, job)
        by_timeout = job["job_dispatcher_error_code"] in {100, 102}
        assert recorded or not fetched or by_timeout, (death, job)
        assert not (recorded and by_timeout), (death, job)
        assert job["reports"] == (1 if recorded else 0), (death, job)
    told = [job for job, (_, recorded) in mine.items() if recorded]
    assert len(told) > LIVES, "the deaths come too early to show anything"
    assert any(rig.job(one)["state"] == "failed" for one in told)
    assert any(rig.job(one)["state"] == "finished" for one in told)
