"""The client, the spool and flush against the lab's server, which keeps the real one's rules."""

from __future__ import annotations

import json
import shlex
import time
from typing import TYPE_CHECKING

import pytest

from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import CredentialError
from pilotwrap.model.report import FileReport, JobReport
from pilotwrap.panda.client import Api, PandaClient, Wanted, connected
from pilotwrap.panda.flush import Errand, flush
from pilotwrap.panda.job import PandaJob, UnrunnableJob
from pilotwrap.panda.spool import AcquiredRecord, Acquisition, Spool, TerminalRecord
from pilotwrap.panda.update import Beat, beat_update, terminal_update

pytest.importorskip("starlette", reason="the lab is not installed: pip install 'pilotwrap[lab]'")
process = pytest.importorskip("pilotwrap.lab.process")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pilotwrap.lab.process import LabProcess


@pytest.fixture(params=["current-current", "legacy-legacy"])
def apis(request: pytest.FixtureRequest) -> list[str]:
    """Return which calls the server has, and which the client makes."""
    return str(request.param).split("-")


@pytest.fixture
def api(apis: list[str]) -> Api:
    return "legacy" if apis[1] == "legacy" else "current"


@pytest.fixture
def lab(tmp_path: Path, apis: list[str]) -> Iterator[LabProcess]:
    with process.LabProcess(tmp_path / "lab.sqlite", api=apis[0]) as started:
        yield started


@pytest.fixture
def credential(lab: LabProcess) -> Credential:
    return Credential(kind="token", path=str(lab.address.token_path), origin=lab.address.origin)


@pytest.fixture
def client(lab: LabProcess, credential: Credential, api: Api) -> PandaClient:
    return connected(lab.address.url, credential, api=api)


def soon() -> float:
    return time.monotonic() + 20


def put(tmp_path: Path, *specs: dict[str, object]) -> None:
    from pilotwrap.cli.main import main

    path = tmp_path / "jobs.json"
    path.write_text(json.dumps([{"schema": "pilotwrap.job/1", **spec} for spec in specs]))
    assert main(["lab", "put", "--db", str(tmp_path / "lab.sqlite"), str(path)]) == 0


def wanted(lab: LabProcess, n_jobs: int = 1) -> Wanted:
    return Wanted(
        panda_queue=lab.address.panda_queue, memory_mib=10**6, disk_mib=10**6, remaining_time_s=10**6, n_jobs=n_jobs
    )


def acquired(client: PandaClient, lab: LabProcess, n_jobs: int = 1) -> list[PandaJob]:
    jobs = client.acquire_jobs(wanted(lab, n_jobs), soon())
    assert not [job for job in jobs if isinstance(job, UnrunnableJob)]
    return [job for job in jobs if isinstance(job, PandaJob)]


def finished(job: PandaJob) -> JobReport:
    assert job.log is not None
    report = FileReport(guid=job.log.guid or "", size=1, adler32="00000001")
    files = dict.fromkeys([job.log.lfn, *(file.lfn for file in job.outputs)], report)
    return JobReport(panda_id=job.panda_id, attempt_nr=job.attempt_nr, state="finished", reason="ok", files=files)


def state_of(client: PandaClient, panda_id: int) -> str:
    """Wait until the lab's adder has made the state final."""
    end = time.monotonic() + 20
    while (state := client.job_status([panda_id], soon())[0].status) == "holding" and time.monotonic() < end:
        time.sleep(0.05)
    return state


def test_a_production_token_may_report(client: PandaClient) -> None:
    client.may_report(soon())


def test_no_job_is_no_error(client: PandaClient, lab: LabProcess) -> None:
    assert client.acquire_jobs(wanted(lab), soon()) == ()


def test_a_job_lives_from_put_to_finished(client: PandaClient, lab: LabProcess, tmp_path: Path) -> None:
    put(tmp_path, {"command": ["echo", "two words"], "ranks_per_node": 4, "outputs": [{"lfn": "out.dat"}]})
    (job,) = acquired(client, lab)
    assert job.shape is not None
    assert job.shape.ranks_per_node == 4
    assert shlex.split(job.parameters) == ["echo", "two words"]
    assert [file.lfn for file in job.outputs] == ["out.dat"]
    for state in ("starting", "running"):
        beat = Beat.model_validate({"panda_id": job.panda_id, "attempt_nr": 1, "state": state, "batch_id": "x_1"})
        assert client.update([beat_update(beat)], soon())[0].verdict == "ok"
    last = terminal_update(finished(job))
    assert client.update([last], soon())[0].verdict == "ok"
    assert state_of(client, job.panda_id) == "finished"
    assert client.update([last], soon())[0].verdict in {"already", "kill"}


def kill(lab: LabProcess, panda_id: int) -> None:
    import requests

    token = lab.address.token_path.read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "Origin": lab.address.origin, "Content-Type": "application/json"}
    body = json.dumps({"job_ids": [panda_id]})
    reply = requests.post(f"{lab.address.url}/api/v1/job/kill", data=body, headers=headers, timeout=20)
    assert reply.json()["data"] == [True]


@pytest.mark.parametrize("apis", ["current-current", "both-legacy"], indirect=True)
def test_a_killed_job_hears_of_it_and_is_stored_as_cancelled(
    client: PandaClient, lab: LabProcess, tmp_path: Path
) -> None:
    put(tmp_path, {"command": ["true"]})
    (job,) = acquired(client, lab)
    beat = beat_update(Beat(panda_id=job.panda_id, attempt_nr=job.attempt_nr, state="running"))
    assert client.update([beat], soon())[0].verdict == "ok"
    kill(lab, job.panda_id)
    assert client.update([beat], soon())[0].verdict == "kill"
    report = finished(job).model_copy(update={"state": "cancelled", "reason": "cancelled"})
    assert client.update([terminal_update(report)], soon())[0].accepted
    assert state_of(client, job.panda_id) == "cancelled"


def other_token(
    lab: LabProcess, tmp_path: Path, roles: tuple[str, ...], api: Api, lifetime_s: float = 3600
) -> PandaClient:
    from pilotwrap.lab.store import Store
    from pilotwrap.lab.tokens import Grant, make_token, write_token

    store = Store(lab.db)
    path = tmp_path / "other" / "token"
    write_token(make_token(store, Grant("somebody", "lab", roles, lifetime_s), time.time()), path)
    store.close()
    origin = ".".join(["lab", *(roles or ("user",))[:1]])
    return connected(lab.address.url, Credential(kind="token", path=str(path), origin=origin), api=api)


@pytest.mark.parametrize("roles", [("user",), ("pilot",)])
def test_a_token_that_may_fetch_but_not_report_is_found_out_before_any_job(
    lab: LabProcess, tmp_path: Path, roles: tuple[str, ...], api: Api
) -> None:
    with pytest.raises(CredentialError, match="may not report on jobs, so none is fetched"):
        other_token(lab, tmp_path, roles, api).may_report(soon())


def test_an_expired_token_is_found_out_without_the_server(lab: LabProcess, tmp_path: Path, api: Api) -> None:
    with pytest.raises(CredentialError, match="expired at"):
        other_token(lab, tmp_path, ("production",), api, -5).may_report(soon())


def test_a_vo_that_is_not_the_tokens_is_refused(lab: LabProcess, credential: Credential, api: Api) -> None:
    stranger = connected(lab.address.url, credential.model_copy(update={"origin": "elsewhere.production"}), api=api)
    with pytest.raises(CredentialError, match="--origin"):
        stranger.may_report(soon())


def test_the_entry_of_a_job_is_whole_and_its_worker_told_of(
    client: PandaClient, lab: LabProcess, tmp_path: Path
) -> None:
    put(tmp_path, {"command": ["true"]})
    (entry,) = client.acquire_entries(wanted(lab), soon())
    assert entry.keys() > {"PandaID", "jobDefinitionID", "cmtConfig", "prodDBlocks", "destinationSE"}
    assert client.worker_status(7, "harvester", "started", "node1", soon()) is True


def test_the_states_of_several_jobs_are_told_apart(client: PandaClient, lab: LabProcess, tmp_path: Path) -> None:
    put(tmp_path, *[{"command": ["true"]}] * 2)
    (job,) = acquired(client, lab)
    found = client.job_status([1, 2, 99999], soon())
    assert [each.status for each in found if each.panda_id == job.panda_id] == ["sent"]
    assert sorted(each.status for each in found) == ["activated", "not found", "sent"]
    assert found[2].status == "not found"


def test_a_server_that_dies_and_returns_is_told_late(
    client: PandaClient, lab: LabProcess, apis: list[str], tmp_path: Path
) -> None:
    put(tmp_path, {"command": ["true"]})
    (job,) = acquired(client, lab)
    port = lab.address.url.rpartition(":")[2]
    lab.kill()
    answer = client.update([terminal_update(finished(job))], time.monotonic() + 1)[0]
    assert answer.verdict == "unreachable"
    with process.LabProcess(lab.db, ["--port", port], api=apis[0]):
        assert client.update([terminal_update(finished(job))], soon())[0].verdict == "ok"
        assert state_of(client, job.panda_id) == "finished"


def test_several_jobs_are_told_in_one_call(client: PandaClient, lab: LabProcess, tmp_path: Path) -> None:
    put(tmp_path, *[{"command": ["true"]}] * 5)
    jobs = acquired(client, lab, 5)
    answers = client.update([terminal_update(finished(job)) for job in jobs], soon())
    assert [answer.verdict for answer in answers] == ["ok"] * 5


def test_flush_tells_what_a_dead_run_left(
    client: PandaClient, credential: Credential, lab: LabProcess, tmp_path: Path, api: Api
) -> None:
    put(tmp_path, *[{"command": ["true"]}] * 3)
    jobs = acquired(client, lab, 3)
    spool = Spool(tmp_path / "runs" / "aa" / "aa11")
    spool.append(
        [
            AcquiredRecord(
                acquisition=Acquisition(
                    server=lab.address.url, panda_queue=lab.address.panda_queue, credential=credential,
                    panda_id=job.panda_id, attempt_nr=job.attempt_nr, batch_id="n_1", at=time.time(), api=api,
                )
            )
            for job in jobs
        ]
    )  # fmt: skip
    spool.append([TerminalRecord(report=finished(jobs[0])), TerminalRecord(report=finished(jobs[1]))])
    spool.close()
    client.update([terminal_update(finished(jobs[1]))], soon())  # told, but the run died before it knew
    result = flush(tmp_path / "runs", Errand(connected, time.time(), soon()))
    assert (result.told, result.orphans, result.left) == (3, 1, ())
    assert [state_of(client, job.panda_id) for job in jobs] == ["finished", "finished", "failed"]
    assert flush(tmp_path / "runs", Errand(connected, time.time(), soon())).told == 0
