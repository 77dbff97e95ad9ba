"""A stop, or a payload's death by TERM, in an allocation whose batch system says that it takes it back, or does not.

`squeue` is a script here that answers what the real one (22.05.8) was seen to answer; tests/real has the real one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from .rig import Rig, Run, alive_under, until

SQUEUE = """#!/bin/sh
case "$*" in
    *"-o %L"*) echo 30:00 ;;
    "-h -t all -j 7 -O PreemptTime") echo asked >> {asked}; {answer} ;;
    *) exit 1 ;;
esac
"""
YES, NO = "echo '2026-11-21T14:39:20 '", "echo 'N/A  '"
ONCE_MORE = f"[ $(wc -l < {{asked}}) -gt 1 ] || kill -TERM $$; {YES}"
"""It is hit by a TERM that was meant for all."""

WAITS = ": > ready; exec sleep 300"
HEEDS = "trap 'exit 3' TERM; : > ready; while :; do sleep 0.05; done"
SLOWLY = f"sleep 0.4; {YES}"


def answering(rig: Rig, answer: str) -> Path:
    """Have the rig's runs be in a Slurm job whose squeue answers so; return what counts the questions."""
    asked, tools = rig.path / "asked", rig.path / "tools"
    tools.mkdir()
    (tools / "squeue").write_text(SQUEUE.format(answer=answer.format(asked=asked), asked=asked))
    (tools / "squeue").chmod(0o755)
    host = socket.gethostname().split(".")[0]
    own = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": host, "SLURMD_NODENAME": host}
    rig.environment |= {**own, "PATH": f"{tools}:{os.environ['PATH']}"}
    return asked


def waiting(rig: Rig, count: int = 1) -> tuple[list[int], Run]:
    ids = rig.put(*[rig.sh(WAITS) for _ in range(count)])
    run = rig.start("--json", "--jobs", str(count))
    until(lambda: len(list(run.folder.glob("runs/*/*/jobs/*/ready"))) == count, "the payloads run")
    return ids, run


def payload(run: Run) -> int:
    return next(pid for pid, line in alive_under(run.folder).items() if line.startswith("sleep 300"))


@pytest.mark.parametrize("answer", [YES, SLOWLY, ONCE_MORE], ids=["at once", "slowly", "at the second time"])
def test_a_stop_is_named_preempted_when_the_batch_system_says_so(rig: Rig, answer: str) -> None:
    answering(rig, answer)
    ids, run = waiting(rig)
    run.child.send_signal(signal.SIGTERM)
    ended = run.end()
    assert (ended.code, ended.report["state"], ended.report["reason"]) == (124, "failed", "preempted"), ended
    assert [job["reason"] for job in ended.report["jobs"]] == ["preempted"]
    (job,) = rig.final(*ids)
    assert (job["state"], job["reports"], job["pilot_error_code"]) == ("failed", 1, 1379)
    said = rig.verb("why", str(run.directory))
    assert "preempted: the batch system took the allocation back for another job" in said.out


@pytest.mark.parametrize("answer", [NO, "exec sleep 60", "exit 1"], ids=["no", "too late", "fails"])
def test_any_other_answer_leaves_it_cancelled_and_in_time(rig: Rig, answer: str) -> None:
    asked = answering(rig, answer)
    ids, run = waiting(rig)
    at = time.monotonic()
    run.child.send_signal(signal.SIGTERM)
    ended = run.end()
    assert time.monotonic() - at < 5
    assert (ended.code, ended.report["reason"]) == (143, "cancelled"), ended
    (job,) = rig.final(*ids)
    assert (job["reports"], job["pilot_error_code"]) == (1, 1144)
    assert asked.exists()


def test_a_payload_that_gets_the_batch_system_s_term_before_us_was_preempted(rig: Rig) -> None:
    answering(rig, YES)
    ids, run = waiting(rig)
    os.kill(payload(run), signal.SIGTERM)
    ended = run.end()
    assert (ended.code, ended.report["reason"]) == (124, "preempted"), ended
    (job,) = rig.final(*ids)
    assert (job["state"], job["reports"], job["pilot_error_code"]) == ("failed", 1, 1379)


def test_a_payload_that_somebody_else_ended_is_its_own_failure(rig: Rig) -> None:
    asked = answering(rig, NO)
    ids, run = waiting(rig, count=2)
    os.kill(payload(run), signal.SIGTERM)
    until(lambda: sum(rig.job(one)["reports"] for one in ids) == 1, "the first is told")
    os.kill(payload(run), signal.SIGTERM)
    ended = run.end()
    assert (ended.code, ended.report["reason"]) == (1, "payload-signal"), ended
    assert asked.read_text() == "asked\n", "one question serves for a while"
    assert [job["reports"] for job in rig.final(*ids)] == [1, 1]


def test_a_payload_that_ends_by_itself_at_term_waits_for_the_answer_too(rig: Rig) -> None:
    answering(rig, SLOWLY)
    spec = rig.path / "job.json"
    spec.write_text(json.dumps(rig.sh(HEEDS)))
    run = rig.start("--json", "--spec", str(spec))
    until((run.folder / "ready").exists, "the payload runs")
    run.child.send_signal(signal.SIGTERM)
    ended = run.end()
    (job,) = ended.report["jobs"]
    assert (ended.code, job["state"], job["reason"], job["exit_code"]) == (124, "failed", "preempted", 3), ended


def test_a_run_without_a_job_says_so_too(rig: Rig) -> None:
    asked = answering(rig, SLOWLY)
    run = rig.start("--json", "--wait-for-work", "60")
    until(lambda: run.made, "it has begun")
    run.child.send_signal(signal.SIGTERM)
    ended = run.end()
    assert (ended.code, ended.report["reason"]) == (124, "preempted"), ended
    assert asked.exists()
