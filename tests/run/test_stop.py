"""A signal to the starter: everything is ended and told within five seconds, whatever is in the way."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from panda.scripted_server import ScriptedServer, hangs, says

from .rig import FINAL, Rig, Run, states, until

if TYPE_CHECKING:
    from pathlib import Path

TOLD_S = 5.0

DEAF = "trap '' TERM INT; : > ready; while :; do sleep 0.2; done"
PLAIN = ": > ready; sleep 300"


def own_token(rig: Rig, folder: Path) -> Path:
    token = folder / "token"
    token.write_text(rig.lab.address.token_path.read_text())
    token.chmod(0o600)
    return token


def signalled(run: Run, number: int) -> float:
    at = time.time()
    run.child.send_signal(number)
    return at


def told_after(job: dict[str, Any], since: float) -> float:
    """Seconds from a moment to the job's final state at the server."""
    ends = [entry["at"] for entry in job["history"] if entry["state"] in FINAL]
    assert len(ends) == 1, job
    return datetime.fromisoformat(ends[0].replace("Z", "+00:00")).timestamp() - since


@pytest.mark.parametrize("payload", [PLAIN, DEAF])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_told_within_five_seconds(rig: Rig, payload: str, number: int, code: int) -> None:
    (one,) = rig.put(rig.sh(payload))
    run = rig.start("--json")
    until(lambda: list(run.folder.glob("runs/*/*/jobs/*/ready")), "the payload runs")
    at = signalled(run, number)
    ended = run.end()
    took_s = time.time() - at
    assert ended.code == code
    (job,) = rig.final(one)
    assert job["state"] == "failed"
    assert told_after(job, at) < TOLD_S
    assert took_s < TOLD_S + 1
    report = ended.report
    assert (report["state"], report["reason"]) == ("cancelled", "cancelled")
    assert [(each["state"], each["reason"], each["told"]) for each in report["jobs"]] == [
        ("cancelled", "cancelled", True)
    ]


def test_a_hangup_ends_the_run_as_a_signal_does(rig: Rig) -> None:
    (one,) = rig.put(rig.sh(PLAIN))
    run = rig.start("--json")
    until(lambda: list(run.folder.glob("runs/*/*/jobs/*/ready")), "the payload runs")
    at = signalled(run, signal.SIGHUP)
    assert run.end().code == 143
    assert told_after(rig.final(one)[0], at) < TOLD_S


def test_a_signal_while_staging_is_told_in_time(rig: Rig) -> None:
    text = b"x" * 100
    with ScriptedServer([hangs]) as storage:
        rig.map.write_text(json.dumps({"LAB": f"{storage.url}/"}))
        given = {"lfn": "slow.txt", "size": len(text), "endpoint": "LAB"}
        (one,) = rig.put(rig.sh("cat slow.txt", inputs=[given]))
        run = rig.start("--json")
        storage.arrivals.get(timeout=30)
        at = signalled(run, signal.SIGTERM)
        ended = run.end()
        assert ended.code == 143
        assert time.time() - at < TOLD_S + 1
    assert told_after(rig.final(one)[0], at) < TOLD_S


def test_a_signal_while_an_output_travels_is_told_in_time(rig: Rig) -> None:
    with ScriptedServer([hangs]) as storage:
        rig.map.write_text(json.dumps({"LAB": f"{storage.url}/"}))
        (one,) = rig.put(rig.sh("echo > out.txt", outputs=[{"lfn": "out.txt", "endpoint": "LAB"}]))
        run = rig.start("--json")
        storage.arrivals.get(timeout=30)
        at = signalled(run, signal.SIGTERM)
        assert run.end().code == 143
        assert time.time() - at < TOLD_S + 1
    assert told_after(rig.final(one)[0], at) < TOLD_S


def test_while_the_server_hangs_a_stopped_run_ends_and_flush_tells_its_job(rig: Rig) -> None:
    (one,) = rig.put(rig.sh(PLAIN))
    run = rig.start("--json")
    until(lambda: "running" in states(rig.job(one)), "the server knows that it runs")
    os.kill(rig.lab.pid, signal.SIGSTOP)
    try:
        at = signalled(run, signal.SIGTERM)
        ended = run.end()
    finally:
        os.kill(rig.lab.pid, signal.SIGCONT)
    assert ended.code in {4, 143}
    assert time.time() - at < TOLD_S + 1
    assert [each["told"] for each in ended.report["jobs"]] == [False]
    flushed = rig.flush(run.folder)
    assert flushed.code == 0, flushed
    (job,) = rig.final(one)
    assert job["state"] == "failed"
    assert rig.flush(run.folder).report["told"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_any_job_ends_the_run_though_the_server_hangs(
    rig: Rig, tmp_path: Path, number: signal.Signals
) -> None:
    token = own_token(rig, tmp_path)
    with ScriptedServer([hangs]) as server:
        words = ["--panda-queue", "Q", "--credential", str(token), "--origin", "lab.production"]
        run = rig.start("--server", server.url, *words, "--json")
        server.arrivals.get(timeout=30)
        at = signalled(run, number)
        ended = run.end()
    assert ended.code == 128 + number
    assert time.time() - at < TOLD_S + 1


def test_a_signal_while_jobs_are_asked_for_ends_the_run(rig: Rig, tmp_path: Path) -> None:
    token = own_token(rig, tmp_path)
    knows_none = says(200, {"success": True, "message": "", "data": {"StatusCode": 0, "command": "tobekilled"}})
    with ScriptedServer([knows_none, hangs]) as server:
        words = ["--panda-queue", "Q", "--credential", str(token), "--origin", "lab.production"]
        run = rig.start("--server", server.url, *words, "--json")
        until(lambda: [heard for heard in server.heard if heard.path.endswith("acquire_jobs")], "it asks for jobs")
        at = signalled(run, signal.SIGTERM)
        ended = run.end()
    assert ended.code == 143
    assert time.time() - at < TOLD_S + 1


def test_two_interrupts_end_it_at_once(rig: Rig) -> None:
    rig.put(rig.sh(DEAF))
    run = rig.start("--json")
    until(lambda: list(run.folder.glob("runs/*/*/jobs/*/ready")), "the payload runs")
    at = signalled(run, signal.SIGINT)
    until(lambda: run.events("StopAsked"))
    signalled(run, signal.SIGINT)
    assert run.end().code == 130
    assert time.time() - at < TOLD_S


def test_a_signal_while_the_node_is_looked_at_is_no_fault_of_the_node(rig: Rig) -> None:
    rig.put(rig.sh(PLAIN))
    run = rig.start("--json")
    until(lambda: run.made, every_s=0.001)
    signalled(run, signal.SIGTERM)
    ended = run.end()
    assert ended.code == 143
    assert ended.report["reason"] == "cancelled"
