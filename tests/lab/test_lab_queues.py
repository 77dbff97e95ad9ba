"""What a pilot reads about its queue, and the transformation that it asks for through a proxy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from pilotwrap.lab.desk import Desk
from pilotwrap.lab.legacycalls import legacy_answered
from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.queuedata import Queue, queuedata_text, schedconfig_text, storage_path, storage_text
from pilotwrap.lab.queues import tell_status
from pilotwrap.lab.store import Store
from pilotwrap.lab.tokens import Caller


def got(lab: LabProcess, path: str) -> requests.Response:
    return requests.get(f"{lab.address.url}/cache/{path}", timeout=30)


def verb(*words: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pilotwrap", "lab", "queue", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def told(*words: str | Path) -> dict[str, Any]:
    return dict(json.loads(verb(*words).stdout))


def test_a_queue_is_online_until_it_is_told_otherwise_also_while_the_server_runs(lab: LabProcess) -> None:
    queue = lab.address.panda_queue
    said = got(lab, f"schedconfig/{queue}.all.json").json()
    assert (said["nickname"], said["panda_resource"], said["state"], said["status"]) == (
        queue,
        queue,
        "ACTIVE",
        "online",
    )
    for status in ("offline", "test", "brokeroff", "online"):
        assert told("--db", lab.db, queue, "--status", status)["status"] == status
        assert got(lab, f"schedconfig/{queue}.json").json()[queue]["status"] == status


def test_an_unknown_queue_is_not_found_until_it_is_told_or_has_a_job(lab: LabProcess, store: Store) -> None:
    for name in ("TOLD", "ASKED"):
        assert got(lab, f"schedconfig/{name}.all.json").status_code == 404
    told("--db", lab.db, "TOLD")
    put_jobs(store, [panda_job({"command": ["true"]}, "test")], "ASKED")
    for name in ("TOLD", "ASKED"):
        assert got(lab, f"schedconfig/{name}.all.json").json()["status"] == "online"


def test_the_storage_is_the_folder_that_the_lab_was_told(lab: LabProcess, tmp_path: Path) -> None:
    assert set(got(lab, "ddmendpoints.json").json()["LAB"]["arprotocols"]["write_lan"]) == set()
    assert told("--db", lab.db, "Q", "--files", tmp_path / "se")["files"] == str(tmp_path / "se")
    (protocol,) = got(lab, "ddmendpoints.json").json()["LAB"]["arprotocols"]["write_lan"]
    assert protocol["endpoint"] + protocol["path"] == f"file://localhost{tmp_path}/se/"
    assert told("--db", lab.db, "Q")["files"] == str(tmp_path / "se")


def test_a_served_folder_is_the_storage_too(tmp_path: Path) -> None:
    with LabProcess(tmp_path / "lab.sqlite", ["--files", str(tmp_path / "se")]) as lab:
        (protocol,) = got(lab, "ddmendpoints.json").json()["LAB"]["arprotocols"]["pw"]
        assert protocol["path"] == f"{tmp_path}/se/"


def test_every_transfer_has_a_copytool_a_storage_and_a_protocol(tmp_path: Path) -> None:
    queue = json.loads(queuedata_text(Queue("Q")))
    storage = json.loads(storage_text(tmp_path))
    for names in (["pr", "pw", "pl", "w"], ["read_lan", "write_lan", "read_wan", "write_wan", "default"]):
        for name in names:
            assert queue["acopytools"][name] == ["mv"]
            assert [*storage] == queue["astorages"][name]
            assert storage["LAB"]["arprotocols"][name]
    assert "mv_final_destination" in queue["catchall"]
    assert json.loads(schedconfig_text(Queue("Q"))) == {"Q": queue}


def test_a_file_lies_where_rucio_would_put_it() -> None:
    # The example in the docstring of get_path in pilot3's pilot/user/generic/copytool_definitions.py.
    lfn = "user.jwebb2.66999._000001.top1outDS.tar"
    assert storage_path(lfn, "user.jwebb2") == f"user/jwebb2/01/9f/{lfn}"


def test_a_queue_in_test_gives_test_jobs_only(store: Store) -> None:
    put_jobs(
        store, [panda_job({"transformation": "t", "prodSourceLabel": label}, "test") for label in ("managed", "test")]
    )
    tell_status(store, Queue("LAB_QUEUE", "test"))
    desk = Desk(store, Caller("Lab Robot", "production"), 0.0)
    asked = {"siteName": "LAB_QUEUE", "prodSourceLabel": "managed"}
    answers = [json.loads(legacy_answered("getJob", desk, asked).encoded(as_json=True)[0]) for _ in range(2)]
    assert [answer.get("PandaID") for answer in answers] == [2, None]


def test_a_status_that_there_is_not_is_bad_input(tmp_path: Path) -> None:
    ended = verb("--db", tmp_path / "lab.sqlite", "Q", "--status", "open")
    assert (ended.returncode, "invalid choice" in ended.stderr) == (2, True)


@pytest.mark.parametrize(
    ("url", "status", "text"),
    [
        ("http://other.invalid:25080/trf/user/run", 200, "#!/bin/sh"),
        ("http://other.invalid/trf/run", 200, "#!/bin/sh"),
        ("http://other.invalid/cache/ddmendpoints.json", 403, "ERROR"),
        ("http://other.invalid/api/v1/system/is_alive", 403, "ERROR"),
    ],
)
def test_a_proxied_transformation_is_served_and_nothing_else(lab: LabProcess, url: str, status: int, text: str) -> None:
    answer = requests.get(url, proxies={"http": lab.address.url}, timeout=30)
    assert (answer.status_code, answer.text[: len(text)]) == (status, text)
