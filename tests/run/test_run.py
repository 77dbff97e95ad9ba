"""What a run promises of the server, of others on the node, and of secrets."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from pilotwrap.host.pack import packed
from pilotwrap.model.cpulist import cpus_of

from .rig import Rig, Run, alive_under, states, until

CORES = len(os.sched_getaffinity(0))


def kill(rig: Rig, panda_id: int) -> None:
    address = rig.lab.address
    headers = {
        "Authorization": f"Bearer {address.token_path.read_text().strip()}",
        "Origin": address.origin,
        "Content-Type": "application/json",
    }
    url = f"{address.url}/api/v1/job/kill"
    answer = requests.post(url, data=json.dumps({"job_ids": [panda_id]}), headers=headers, timeout=10)
    assert answer.json()["success"], answer.text


def spans(run: Run) -> list[tuple[float, float]]:
    """When each job became ours, and when its processes had ended."""
    begin = {event["job"]: event["at"] for event in run.events("Acquired")}
    return [(begin[event["job"]], event["at"]) for event in run.events("Exited")]


def most_at_once(times: list[tuple[float, float]]) -> int:
    moments = sorted([(begin, 1) for begin, _ in times] + [(end, -1) for _, end in times])
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


def test_heartbeats_come_and_a_kill_by_the_server_cancels_the_job(rig: Rig) -> None:
    one, other = rig.put(rig.sh("sleep 300"), rig.sh("true"))
    run = rig.start("--json", "--heartbeat", "0.3")
    until(lambda: "running" in states(rig.job(one)), "it runs")
    beats = until(lambda: [said for said in run.events("Answered") if said["to"] == "heartbeat"][2:], "heartbeats")
    assert beats
    kill(rig, one)
    ended = run.end()
    assert ended.code == 1
    report = {job["panda_id"]: job for job in ended.report["jobs"]}
    assert (report[one]["state"], report[one]["reason"]) == ("cancelled", "cancelled")
    assert report[one]["told"]
    assert report[other]["reason"] == "ok"
    assert [job["state"] for job in rig.final(one, other)] == ["cancelled", "finished"] or rig.job(one)["state"] == (
        "failed"
    )


def test_it_never_holds_more_jobs_than_it_has_cores(rig: Rig) -> None:
    jobs = rig.put(*[rig.sh("sleep 0.1")] * (4 * CORES))
    run = rig.start("--json")
    assert run.end().code == 0
    assert {job["state"] for job in rig.final(*jobs)} == {"finished"}
    assert len(spans(run)) == len(jobs)
    assert most_at_once(spans(run)) <= CORES


def test_jobs_at_once_never_share_a_core_and_a_large_one_gets_its_turn(rig: Rig) -> None:
    trace = rig.path / "trace"
    line = (
        f"c=$(sed -n 's/Cpus_allowed_list:.//p' /proc/self/status);"
        f" echo + $c >> {trace}; sleep 0.1; echo - $c >> {trace}"
    )
    small = [rig.sh(line)] * (2 * CORES)
    whole = {"command": ["sh", "-c", line], "cpus_per_rank": CORES}
    jobs = rig.put(*small, whole, *small)
    run = rig.start("--json")
    ended = run.end()
    assert ended.code == 0, ended
    assert {job["state"] for job in rig.final(*jobs)} == {"finished"}
    order = [event["job"] for event in run.events("Started")]
    assert order.index(f"{jobs[2 * CORES]}-1") <= 3 * CORES + 1, order
    busy: set[int] = set()
    for change in trace.read_text().splitlines():
        sign, cpus = change.split()
        mine = set(cpus_of(cpus))
        assert not (sign == "+" and mine & busy), (change, busy)
        busy = busy | mine if sign == "+" else busy - mine
    assert not busy


def test_jobs_n_fetches_no_more_than_n(rig: Rig) -> None:
    rig.put(*[rig.sh("true")] * 5)
    ended = rig.run("--json", "--jobs", "2")
    assert ended.code == 0
    assert ended.report["job_count"] == 2
    assert sorted(states(job)[-1] for job in rig.jobs.values()).count("activated") == 3


def test_an_empty_queue_is_no_work(rig: Rig) -> None:
    ended = rig.run("--json")
    assert ended.code == 5
    assert (ended.report["state"], ended.report["reason"]) == ("no-work", "no-work")


def test_wait_for_work_takes_what_comes_late(rig: Rig) -> None:
    run = rig.start("--json", "--wait-for-work", "20", "--jobs", "1")
    until(lambda: run.made)
    (one,) = rig.put(rig.sh("true"))
    assert run.end().code == 0
    assert rig.final(one)[0]["state"] == "finished"


def test_a_fault_of_the_node_takes_no_further_job(rig: Rig) -> None:
    run = rig.start("--json", "--wait-for-work", "30")
    until(lambda: (directory := run.directory) and (directory / "journal.jsonl").exists())
    assert run.directory is not None
    folder = run.directory / "jobs"
    folder.rename(folder.with_name("away"))
    folder.write_text("no folder any more")
    jobs = rig.put(*[rig.sh("true")] * (4 * CORES))
    ended = run.end()
    assert ended.code == 3, ended
    assert ended.report["reason"] == "environment"
    fetched = [one for one in jobs if states(rig.job(one)) != ["activated"]]
    assert 0 < len(fetched) <= 2 * CORES
    assert {job["state"] for job in rig.final(*fetched)} == {"failed"}


SECRET_NAMES = ("PANDA_AUTH_TOKEN", "PANDA_AUTH_TOKEN_KEY", "X509_USER_PROXY", "HARVESTER_SECRET")
LOOK = (
    "env > seen-environ; for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done > seen-words 2> /dev/null;"
    " cat /proc/$PPID/environ > seen-keeper 2> /dev/null; true"
)


def test_no_secret_is_in_any_byte_that_is_written_or_inherited(rig: Rig) -> None:
    token = rig.lab.address.token_path.read_text().strip()
    rig.environment = {name: f"hush-{name}" for name in SECRET_NAMES} | {"MY_PASSWORD": "hush-password"}
    (one,) = rig.put(rig.sh(LOOK))
    run = rig.start("--json")
    ended = run.end()
    assert ended.code == 0, ended
    rig.final(one)
    (seen,) = run.folder.glob("runs/*/*/jobs/*/seen-environ")
    assert not [name for name in (*SECRET_NAMES, "MY_PASSWORD") if name in seen.read_text()]
    assert token not in (seen.parent / "seen-words").read_text()
    secrets = [token.encode(), b"hush-"]
    files = [path for folder in (run.folder, rig.storage) for path in folder.rglob("*") if path.is_file()]
    own = [path for path in files if path.name != "seen-keeper"]
    assert len(own) > 5
    assert [path for path in own for secret in secrets if secret in path.read_bytes()] == []
    assert [secret for secret in secrets if secret in (ended.out + ended.err).encode()] == []


def test_run_directories_are_for_their_owner_alone(rig: Rig) -> None:
    rig.put(rig.sh("true"))
    run = rig.start("--json")
    run.end()
    assert run.directory is not None
    assert stat.S_IMODE(run.directory.stat().st_mode) == 0o700
    open_files = [
        path for path in run.directory.iterdir() if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert open_files == []


PEEK = "id -u; cat {token} && echo LEAKED; echo mine > out.txt; true"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs payloads as another user: sudo")
def test_a_payload_user_runs_it_and_cannot_read_the_token(rig: Rig, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("pytest", "test_", "popen")):
            folder.chmod(folder.stat().st_mode | 0o011)
    made = {"lfn": "out.txt", "endpoint": "LAB"}
    (one,) = rig.put(rig.sh(PEEK.format(token=rig.lab.address.token_path), outputs=[made]))
    run = rig.start("--json", "--payload-user", "nobody")
    ended = run.end()
    (job,) = rig.final(one)
    assert ended.code == 0, (ended, _words(run.folder))
    assert job["state"] == "finished"
    assert len(job["files"]) == 2, "the output and the log"
    assert (rig.storage / "out.txt").read_text() == "mine\n"
    said = _words(run.folder)
    assert said.split()[0] == str(pwd.getpwnam("nobody").pw_uid)
    assert "LEAKED" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs payloads as another user: sudo")
@pytest.mark.skipif(shutil.which("mpiexec.hydra") is None, reason="no MPICH: apt-get install mpich")
def test_the_ranks_of_a_launcher_run_as_the_payload_user_too(rig: Rig, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("pytest", "test_", "popen")):
            folder.chmod(folder.stat().st_mode | 0o011)
    # rank 1, whose end is all's, waits for the other one's word
    line = "id -u; if [ $PILOTWRAP_RANK = 0 ]; then : > up; else until [ -e up ]; do sleep 0.01; done; exit 1; fi"
    rig.put({"command": ["sh", "-c", line], "mode": "mpi", "ranks_per_node": 2})
    starter = tmp_path / "starter.pyz"  # run by a Python that this user may run too
    starter.write_bytes(packed())
    words = ["run", "--enter", f"{sys.executable} -m", *rig.server_words, "--run-dir", str(tmp_path / "runs"), "--json"]
    command = ["/usr/bin/python3", "-I", str(starter), *words, "--payload-user", "nobody"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    report = json.loads(done.stdout)
    assert (done.returncode, report["reason"]) == (1, "payload-exit"), (done, _words(tmp_path))
    assert "rank 1 on" in report["detail"]
    said = [line for line in _words(tmp_path).splitlines() if line.isdecimal()]  # hydra has words of its own
    assert said == [str(pwd.getpwnam("nobody").pw_uid)] * 2


def _words(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("runs/*/*/jobs/*/stdout"))


@pytest.mark.parametrize("user", ["no-such-user-here"])
def test_an_unknown_payload_user_is_bad_input(rig: Rig, user: str) -> None:
    (one,) = rig.put(rig.sh("true"))
    ended = rig.run("--json", "--payload-user", user)
    assert (ended.code, ended.report["reason"]) == (2, "bad-input")
    assert states(rig.job(one)) == ["activated"]


def test_what_a_payload_leaves_behind_is_ended_with_its_job(rig: Rig) -> None:
    mark = str(rig.path / "daemon-mark")
    script = f"setsid sh -c 'cd / && exec sleep 300 {mark}' & setsid sh -c 'trap \"\" TERM; sleep 299; : {mark}' &"
    rig.put(rig.sh(script.replace(f"sleep 300 {mark}", f'sh -c "sleep 300; : {mark}"') + " sleep 0.2"))
    assert rig.run("--json").code == 0
    rig.nothing_left()
    assert alive_under(Path(mark)) == {}
