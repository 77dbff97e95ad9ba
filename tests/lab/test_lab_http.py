"""What the lab answers over real HTTP: the envelope, the failures beside it, and its files."""

from __future__ import annotations

import ast
import gzip
import http.client
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests
from run.rig import until

from pilotwrap.lab.calls import CALLS
from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.store import Store

from .client import Client, report

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    folder = tmp_path_factory.mktemp("http")
    with LabProcess(folder / "lab.sqlite", ["--files", str(folder / "files")]) as process:
        yield process


def headers(lab: LabProcess, **more: str) -> dict[str, str]:
    token = lab.address.token_path.read_text().strip()
    return {"Authorization": f"Bearer {token}", "Origin": lab.address.origin, **more}


def post(lab: LabProcess, name: str, body: bytes, **more: str) -> requests.Response:
    url = f"{lab.address.url}/api/v1/{name}"
    return requests.post(url, data=body, headers=headers(lab, **more), timeout=30)


def put(lab: LabProcess, count: int = 1) -> list[int]:
    with closing(Store(lab.db)) as store:
        jobs = [panda_job({"transformation": "x", "outFiles": "a"}, "test") for _ in range(count)]
        return [each["panda_id"] for each in put_jobs(store, jobs)]


def known(lab: LabProcess) -> dict[int, dict[str, Any]]:
    with closing(Store(lab.db)) as store:
        return {int(str(job["panda_id"])): dict(job) for job in listed_jobs(store)}


@pytest.mark.parametrize(
    ("name", "call"), [pytest.param("/".join(key), call, id="/".join(key)) for key, call in sorted(CALLS.items())]
)
def test_every_call_answers_the_wrong_verb_and_no_token_in_its_envelope(
    shared: LabProcess,
    name: str,
    call: Any,  # noqa: ANN401
) -> None:
    wrong = "GET" if call.method == "POST" else "POST"
    url = f"{shared.address.url}/api/v1/{name}"
    as_json = {"Accept": "application/json", "Content-Type": "application/json"}
    body = "{}" if wrong == "POST" else None
    answer = requests.request(wrong, url, data=body, headers=headers(shared, **as_json), timeout=30)
    assert answer.status_code == 200
    assert answer.json() == {"success": False, "message": f"expecting {call.method}, received {wrong}", "data": None}
    body = "{}" if call.method == "POST" else None
    nobody = requests.request(call.method, url, data=body, headers=as_json, timeout=30).json()
    expected = (True, "") if call.access == "anybody" else (False, "SSL secure connection is required")
    assert (nobody["success"], nobody["message"]) == expected


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["api/v1/pilot/steal", "api/v1/none/update_job", "server/panda/getJob", ""])
def test_what_is_not_served_is_forbidden_by_name(shared: LabProcess, method: str, path: str) -> None:
    answer = requests.request(method, f"{shared.address.url}/{path}", headers=headers(shared), timeout=30)
    assert (answer.status_code, answer.text) == (403, f"ERROR : method {path.rpartition('/')[2]} is forbidden")


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"{", "application/json", "ERROR : received invalid JSON"),
        (b"\xff", "application/json", "ERROR : received invalid JSON"),
        (b"[" * 100_000, "application/json", "ERROR : received invalid JSON"),
        (b"[1]", "application/json", "must be a mapping, not list"),
        (b'"x"', "application/json", "must be a mapping, not str"),
        (b"null", "application/json", "must be a mapping, not NoneType"),
    ],
)
def test_a_body_that_is_no_object_is_a_500_in_plain_text(shared: LabProcess, body: bytes, kind: str, said: str) -> None:
    answer = post(shared, "pilot/update_job", body, **{"Content-Type": kind})
    assert (answer.status_code, said in answer.text) == (500, True), answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_an_answer_is_a_python_repr_unless_json_is_asked_for(shared: LabProcess) -> None:
    url = f"{shared.address.url}/api/v1/system/is_alive"
    plain = requests.get(url, timeout=30).text
    assert ast.literal_eval(plain) == requests.get(url, headers={"Accept": "application/json"}, timeout=30).json()
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(plain)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "text/json", "Application/JSON"])
def test_json_under_another_name_is_not_read(shared: LabProcess, kind: str) -> None:
    answer = post(shared, "job/kill", b'{"job_ids": [1]}', **{"Content-Type": kind, "Accept": "application/json"})
    assert answer.json()["message"] == "Argument error: missing a required argument: 'job_ids'"


def test_a_form_is_all_text_and_so_refused_by_type(shared: LabProcess) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    answer = post(shared, "pilot/update_job", b"job_id=1&job_status=running", **kind)
    assert answer.json()["message"] == "Type error: 'job_id' must be of type int, got str."


def test_a_zipped_body_is_read_and_a_false_one_is_a_500(shared: LabProcess) -> None:
    kind = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    body = gzip.compress(json.dumps({"job_id": 10**9, "job_status": "running"}).encode())
    assert post(shared, "pilot/update_job", body, **kind).json()["data"] == {"StatusCode": 0, "command": "tobekilled"}
    assert post(shared, "pilot/update_job", b"no gzip", **kind).status_code == 500
    assert post(shared, "pilot/update_job", body[:-9], **kind).status_code == 500


def test_both_names_of_the_api_are_the_same(shared: LabProcess) -> None:
    url = f"{shared.address.url}/api/latest/pilot/get_job_status?job_ids=999999999&job_ids=7777777"
    found = requests.get(url, headers=headers(shared, Accept="application/json"), timeout=30).json()["data"]
    assert found == [{"job_id": one, "status": "not found", "attempt_number": 0} for one in (999999999, 7777777)]


def raw(lab: LabProcess, method: str, path: str) -> int:
    """Ask for a path as it stands: requests would tidy it up."""
    parts = urlsplit(lab.address.url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)) as connection:
        connection.request(method, path, body=b"x" if method == "PUT" else None)
        return connection.getresponse().status


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
@pytest.mark.parametrize(
    "name",
    ["../lab.sqlite", "%2e%2e/lab.sqlite", "a/../../lab.sqlite", "a//b", "/etc/passwd", ".hid", "-x", "a b", "a%00b"],
)
def test_no_name_leads_out_of_the_folder(shared: LabProcess, method: str, name: str) -> None:
    before = shared.db.stat().st_ino
    assert raw(shared, method, f"/files/{name}".replace(" ", "%20")) == 400
    assert shared.db.stat().st_ino == before


def test_a_line_feed_in_a_name_is_no_file(shared: LabProcess) -> None:
    assert {raw(shared, method, "/files/a%0ab") for method in ("GET", "HEAD", "PUT")} == {404}
    assert not list((shared.db.parent).rglob("*\n*"))


def test_a_file_is_replaced_as_a_whole_and_no_part_is_left(shared: LabProcess) -> None:
    url = f"{shared.address.url}/files/deep/er/a.dat"
    for content in (b"x" * 300_000, b"", b"second"):
        assert requests.put(url, data=content, timeout=30).status_code == 201
        assert requests.get(url, timeout=30).content == content
        head = requests.head(url, timeout=30)
        assert (head.headers["Content-Length"], head.content) == (str(len(content)), b"")
    assert [path.name for path in (shared.db.parent / "files" / "deep" / "er").iterdir()] == ["a.dat"]
    assert requests.head(f"{url}.none", timeout=30).status_code == 404
    assert requests.delete(url, timeout=30).status_code == 405


def test_jobs_put_in_while_many_acquire_are_given_out_once(lab: LabProcess) -> None:
    def take(_number: int) -> list[int]:
        client = Client(lab.address)
        return [job["PandaID"] for _ in range(10) for job in client.acquire(n_jobs=3)]

    with ThreadPoolExecutor(6) as pool:
        takers = [pool.submit(take, number) for number in range(5)]
        wanted = [panda_id for _ in range(10) for panda_id in put(lab, 3)]
        taken = [panda_id for taker in takers for panda_id in taker.result()]
    taken += [job["PandaID"] for job in Client(lab.address).acquire(n_jobs=100)]
    assert sorted(taken) == sorted(wanted)
    assert {job["state"] for job in known(lab).values()} == {"sent"}


def test_what_was_answered_before_a_kill_is_known_after_it(lab: LabProcess) -> None:
    put(lab, 30)
    jobs = {job["PandaID"]: job for job in Client(lab.address).acquire(n_jobs=30)}
    answered: dict[int, str] = {}

    def tell(panda_id: int) -> None:
        client = Client(lab.address)
        try:
            client.command(panda_id, "running", attempt_nr=1)
            answered[panda_id] = "running"
            client.command(panda_id, "finished", attempt_nr=1, job_output_report=report(jobs[panda_id]))
            answered[panda_id] = "finished"
        except requests.RequestException:
            return

    with ThreadPoolExecutor(4) as pool:
        told = [pool.submit(tell, panda_id) for panda_id in jobs]
        until(lambda: len(answered) >= 8, "some were answered", every_s=0.001)
        assert lab.kill() == -signal.SIGKILL
        for each in told:
            each.cancel()
    assert len(answered) < len(jobs), "the kill came too late to show anything"
    lab.start()
    for panda_id, state in answered.items():
        history = [entry["state"] for entry in known(lab)[panda_id]["history"]]
        assert ("holding" if state == "finished" else "running") in history, (panda_id, state, history)
    done = {panda_id for panda_id, state in answered.items() if state == "finished"}
    until(lambda: all(known(lab)[panda_id]["state"] == "finished" for panda_id in done), "the Adder has ended them")
    for panda_id in done:
        again = Client(lab.address).command(panda_id, "finished", attempt_nr=1, job_output_report="{}")
        assert again in {"alreadydone", "tobekilled"}
        assert known(lab)[panda_id]["reports"] == 1
