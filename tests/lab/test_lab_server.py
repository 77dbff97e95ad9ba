from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.store import Store
from pilotwrap.lab.tokens import Grant, make_token
from pilotwrap.model.errors import BadInputError, ServerError

from .client import Client, report

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE_S = 20.0


def put(lab: LabProcess, count: int = 1, **keys: Any) -> list[int]:  # noqa: ANN401
    store = Store(lab.db)
    try:
        spec = {"transformation": "lab:/trf/run", **keys}
        return [each["panda_id"] for each in put_jobs(store, [panda_job(spec, "test") for _ in range(count)])]
    finally:
        store.close()


def jobs(lab: LabProcess) -> dict[int, dict[str, Any]]:
    store = Store.existing(lab.db)
    try:
        return {int(str(job["panda_id"])): job for job in listed_jobs(store)}
    finally:
        store.close()


def until(lab: LabProcess, panda_id: int, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        job = jobs(lab)[panda_id]
        if wanted(job):
            return job
        time.sleep(0.02)
    pytest.fail(f"job {panda_id} stays {jobs(lab)[panda_id]}")


def verb(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pilotwrap", "lab", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_job_lives_from_waiting_to_finished_with_its_history(lab: LabProcess, client: Client) -> None:
    put(lab, outFiles="out.dat")
    (job,) = client.acquire(n_jobs=5, node="n1")
    assert job["transformation"] == f"{lab.address.url}/trf/run"
    panda_id = job["PandaID"]
    assert client.command(panda_id, "starting", attempt_nr=1, batch_id="12") == "NULL"
    assert client.command(panda_id, "running", attempt_nr=1) == "NULL"
    files = report(job)
    assert client.command(panda_id, "finished", attempt_nr=1, job_output_report=files, trans_exit_code=0) == "NULL"
    assert client.command(panda_id, "finished", attempt_nr=1) in {"alreadydone", "tobekilled"}
    found = until(lab, panda_id, lambda job: job["state"] == "finished")
    states = [entry["state"] for entry in found["history"]]
    assert states == ["activated", "sent", "starting", "running", "holding", "finished"]
    assert (found["reports"], found["batch_id"], found["node"]) == (1, "12", "n1")
    assert found["files"]["out.dat"]["adler32"] == "084b021f"
    assert client.command(panda_id, "running") == "tobekilled"


def test_finished_without_its_files_becomes_failed(lab: LabProcess, client: Client) -> None:
    (panda_id,) = put(lab, outFiles="out.dat")
    client.acquire()
    client.command(panda_id, "finished", job_output_report="{}")
    found = until(lab, panda_id, lambda job: job["state"] == "failed")
    assert found["ddm_error_code"] == 200
    assert found["ddm_error_diag"] == "expected output out.dat is missing in pilot JSON"


def test_eight_acquirers_never_get_the_same_job(lab: LabProcess) -> None:
    put(lab, 60)

    def take(_number: int) -> list[int]:
        client, got = Client(lab.address), []
        while found := client.acquire(n_jobs=2):
            got += [job["PandaID"] for job in found]
        return got

    with ThreadPoolExecutor(8) as pool:
        taken = [panda_id for got in pool.map(take, range(8)) for panda_id in got]
    assert sorted(taken) == sorted(jobs(lab))
    assert len(taken) == 60


def test_a_killed_server_goes_on_where_it_was(lab: LabProcess, client: Client) -> None:
    (panda_id,) = put(lab)
    (job,) = client.acquire()
    client.command(panda_id, "running")
    token = lab.address.token_path.read_text()
    assert lab.kill() == -signal.SIGKILL
    assert jobs(lab)[panda_id]["state"] == "running"
    again = Client(lab.start())
    assert lab.address.token_path.read_text() == token
    assert again.command(panda_id, "finished", job_output_report=report(job)) == "NULL"
    found = until(lab, panda_id, lambda job: job["state"] == "finished")
    assert found["reports"] == 1


def test_a_report_taken_before_the_kill_is_settled_after_it(tmp_path: Path) -> None:
    with LabProcess(tmp_path / "lab.sqlite", ["--adder-period", "0"]) as first:
        (panda_id,) = put(first)
        client = Client(first.address)
        (job,) = client.acquire()
        client.command(panda_id, "finished", job_output_report=report(job))
        first.kill()
        assert jobs(first)[panda_id]["state"] == "holding"
    with LabProcess(tmp_path / "lab.sqlite") as second:
        until(second, panda_id, lambda job: job["state"] == "finished")


@pytest.mark.parametrize(
    ("updates", "code"),
    [([], 102), ([{}], 100), ([{"pilot_error_diag": "odd"}], 101)],
)
def test_a_silent_job_is_given_up(tmp_path: Path, updates: list[dict[str, str]], code: int) -> None:
    limit = "--running-timeout" if updates else "--sent-timeout"
    options = [limit, "0.3"]
    with LabProcess(tmp_path / "lab.sqlite", options) as lab:
        (panda_id,) = put(lab)
        client = Client(lab.address)
        client.acquire()
        for fields in updates:
            client.command(panda_id, "running", **fields)
        found = until(lab, panda_id, lambda job: job["state"] == "failed")
        assert (found["job_dispatcher_error_code"], found["reports"]) == (code, 0)
        assert client.command(panda_id, "running") == "tobekilled"


def test_a_kill_reaches_the_pilot_with_its_next_heartbeat(lab: LabProcess, client: Client) -> None:
    (panda_id,) = put(lab)
    client.acquire()
    client.command(panda_id, "running")
    assert client.answer("job/kill", job_ids=[panda_id])["data"] == [True]
    assert client.command(panda_id, "running") == "tobekilled"
    client.command(panda_id, "failed", pilot_error_code=1144, job_output_report="{}")
    assert until(lab, panda_id, lambda job: job["state"] == "cancelled")["pilot_error_code"] == 1144


def test_a_user_may_fetch_an_own_job_but_not_report_it(lab: LabProcess) -> None:
    own, _other = put(lab, prodSourceLabel="user", prodUserID="Ann") + put(lab, prodSourceLabel="user")
    store = Store(lab.db)
    user = Client(lab.address, make_token(store, Grant("Ann"), time.time()), "lab")
    store.close()
    assert [job["PandaID"] for job in user.acquire(prod_source_label="user", n_jobs=5)] == [own]
    refusal = user.answer("pilot/update_job", job_id=own, job_status="running")
    assert refusal == {"success": False, "message": "production or pilot role required", "data": None}


@pytest.mark.parametrize(
    ("grant", "origin", "text"),
    [
        (Grant("Ann", lifetime_s=0.0), "lab", "Invalid token. Signature has expired"),
        (Grant("Ann"), "lab.production", "Not a member of the lab/production group"),
        (Grant("Ann"), "elsewhere.production", "Unknown vo : elsewhere"),
    ],
)
def test_a_token_that_does_not_fit_is_a_403(lab: LabProcess, grant: Grant, origin: str, text: str) -> None:
    store = Store(lab.db)
    client = Client(lab.address, make_token(store, grant, time.time()), origin)
    store.close()
    answer = client.call("pilot/acquire_jobs", site_name="x")
    assert (answer.status_code, answer.text) == (403, f"ERROR : Token authentication failed. {text}")


def test_the_token_is_for_its_owner_only(lab: LabProcess) -> None:
    path = lab.address.token_path
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_only_what_fits_is_given_out(lab: LabProcess, client: Client) -> None:
    put(lab, minRamCount=1000, maxDiskCount=100, maxWalltime=3600)
    for limit in ({"memory": 999}, {"disk_space": 99}, {"remaining_time": 3599}, {"resource_type": "MCORE"}):
        assert client.acquire(**limit) == []
    assert client.acquire(timeout=10) == []
    assert len(client.acquire(memory=1000, disk_space=100, remaining_time=3600)) == 1


def test_higher_priorities_come_first(lab: LabProcess, client: Client) -> None:
    low, high = put(lab) + put(lab, currentPriority=2000)
    assert [job["PandaID"] for job in client.acquire(n_jobs=2)] == [high, low]


def test_half_a_character_loses_the_update_like_a_nul(lab: LabProcess, client: Client) -> None:
    (panda_id,) = put(lab)
    client.acquire()
    for text in ("a\ud800", "a\0"):
        answer = client.answer("pilot/update_job", job_id=panda_id, job_status="running", job_output_report=text)
        assert answer["data"] == {"StatusCode": 30}
    assert jobs(lab)[panda_id]["state"] == "sent"


@pytest.mark.parametrize("shape", [[], ["--pilotwrap", '{"nodes":2}']])
def test_the_transformation_runs_the_jobs_command(lab: LabProcess, tmp_path: Path, shape: list[str]) -> None:
    script = tmp_path / "run"
    script.write_text(requests.get(f"{lab.address.url}/trf/run", timeout=10).text)
    found = subprocess.run(
        ["/bin/sh", script, *shape, "printf", "%s|", "a b", "$HOME"], capture_output=True, check=True
    )
    assert found.stdout == b"a b|$HOME|"


def test_files_go_in_and_out_by_plain_names_only(tmp_path: Path) -> None:
    with LabProcess(tmp_path / "lab.sqlite", ["--files", str(tmp_path / "files")]) as lab:
        url = f"{lab.address.url}/files"
        assert requests.put(f"{url}/lab/a.dat", data=b"x" * 100_000, timeout=10).status_code == 201
        assert requests.get(f"{url}/lab/a.dat", timeout=10).content == b"x" * 100_000
        assert requests.head(f"{url}/lab/a.dat", timeout=10).headers["Content-Length"] == "100000"
        assert requests.get(f"{url}/none", timeout=10).status_code == 404
        for name in (".hidden", "%2e%2e/lab.sqlite", "-rf", "a%00b"):
            assert requests.put(f"{url}/{name}", data=b"x", timeout=10).status_code == 400
        assert sorted(path.name for path in (tmp_path / "files").rglob("*")) == ["a.dat", "lab"]


def test_term_ends_the_server_cleanly(lab: LabProcess, client: Client) -> None:
    client.acquire()  # a connection that is kept open
    pid = lab.pid
    assert lab.stop() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/api/v1/system/is_alive", timeout=5).ok
    except requests.ConnectionError:
        return False


def test_the_server_ends_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from pilotwrap.lab.process import LabProcess\n"
        "lab = LabProcess(Path(sys.argv[1])); lab.start(); print(lab.address.url, flush=True); os._exit(9)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "lab.sqlite")]
    url = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()
    end = time.monotonic() + DEADLINE_S
    while answers(url):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_verbs_put_and_show_jobs_while_it_serves(lab: LabProcess, client: Client, tmp_path: Path) -> None:
    spec = tmp_path / "job.json"
    spec.write_text(json.dumps({"command": ["true"], "walltime_s": 60}))
    assert json.loads(verb("put", "--db", lab.db, spec).stdout) == [{"panda_id": 1, "attempt_nr": 1}]
    assert [job["maxWalltime"] for job in client.acquire()] == [60]
    (job,) = json.loads(verb("jobs", "--db", lab.db, "--json").stdout)
    assert (job["panda_id"], job["attempt_nr"], job["state"]) == (1, 1, "sent")


def test_a_token_made_on_the_command_line_is_good(lab: LabProcess, tmp_path: Path) -> None:
    words = ("--identity", "Pilot", "--role", "production", "--out", tmp_path / "t" / "token")
    credential = json.loads(verb("token", "--db", lab.db, *words).stdout)["credential"]
    client = Client(lab.address, Path(credential["path"]).read_text().strip(), credential["origin"])
    assert client.command(99, "running") == "tobekilled"


def test_the_jobs_of_a_database_that_is_not_there_are_bad_input(tmp_path: Path) -> None:
    found = verb("jobs", "--json", "--db", tmp_path / "none.sqlite")
    assert (found.returncode, "no lab database" in found.stderr) == (2, True)


def test_a_taken_port_and_a_foreign_file_are_bad_input(lab: LabProcess, tmp_path: Path) -> None:
    port = lab.address.url.rpartition(":")[2]
    assert verb("serve", "--db", tmp_path / "b.sqlite", "--port", port).returncode == 2
    (tmp_path / "text").write_text("no database" * 100)
    with pytest.raises(BadInputError, match="cannot be used as a lab database"):
        Store(tmp_path / "text")
    with pytest.raises(ServerError, match="the lab did not start"):
        LabProcess(tmp_path / "text").start()
