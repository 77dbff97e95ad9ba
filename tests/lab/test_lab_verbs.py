"""`pilotwrap lab …` as a person and a script meet it."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import requests
from run.rig import Ended

from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from pilotwrap.lab.process import LabProcess

PROGRAM = [sys.executable, "-m", "pilotwrap", "lab"]
GOOD = {"command": ["true"]}


def lab_verb(*words: str | Path) -> Ended:
    argv = [*PROGRAM, *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_jobs_put_in_are_listed_and_printed(tmp_path: Path) -> None:
    db = tmp_path / "lab.sqlite"
    one, two = written(tmp_path / "1.json", GOOD), written(tmp_path / "2.json", [GOOD, {"transformation": "t"}])
    put = lab_verb("put", "--db", db, one, two)
    assert (put.code, put.err) == (0, "")
    assert json.loads(put.out) == [{"panda_id": number, "attempt_nr": 1} for number in (1, 2, 3)]
    listed = json.loads(lab_verb("jobs", "--db", db, "--json").out)
    assert [(job["panda_id"], job["state"], job["reports"]) for job in listed] == [
        (number, "activated", 0) for number in (1, 2, 3)
    ]
    assert [[entry["state"] for entry in job["history"]] for job in listed] == [["activated"]] * 3
    lines = lab_verb("jobs", "--db", db).out.splitlines()
    assert [line.split()[:3] for line in lines] == [[str(number), "activated", "0"] for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "bad.json is not JSON"),
        ("", "bad.json is not JSON"),
        ({"command": []}, "bad.json: command is not a list of words"),
        ({"command": ["true", 3]}, "bad.json: command is not a list of words"),
        ({"command": ["true"], "nodse": 2}, "bad.json: nodse is not a key that the lab can store"),
        ({"command": ["true"], "ranks_per_node": -1}, "bad.json: ranks_per_node is -1, not a positive integer"),
        ({"transformation": "x", "maxWalltime": "1"}, "bad.json: maxWalltime is not an integer"),
        ({}, "bad.json is no job"),
        (None, "bad.json is no job"),
        ([GOOD, 3], "bad.json is no job"),
    ],
)
def test_a_bad_file_puts_nothing_in_and_is_named(tmp_path: Path, content: object, said: str) -> None:
    db = tmp_path / "lab.sqlite"
    good = written(tmp_path / "good.json", GOOD)
    ended = lab_verb("put", "--db", db, "--json", good, written(tmp_path / "bad.json", content))
    assert ended.code == 2
    assert said in ended.line
    assert json.loads(ended.out)["reason"] == "bad-input"
    with closing(Store(db)) as store:
        assert listed_jobs(store) == []


def test_deep_json_is_bad_input(tmp_path: Path) -> None:
    deep = written(tmp_path / "deep.json", "[" * 100_000)
    ended = lab_verb("put", "--db", tmp_path / "lab.sqlite", deep)
    assert (ended.code, "deep.json is not JSON" in ended.line) == (2, True)


def test_a_job_goes_to_the_queue_that_is_said_where_it_names_none(tmp_path: Path) -> None:
    db = tmp_path / "lab.sqlite"
    own = written(tmp_path / "own.json", [GOOD, {"transformation": "t", "computingSite": "OWN"}])
    assert lab_verb("put", "--db", db, "--panda-queue", "SAID", own).code == 0
    with closing(Store(db)) as store:
        assert [row["site"] for row in store.rows("SELECT site FROM jobs ORDER BY panda_id")] == ["SAID", "OWN"]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("other",),
        ("put", "--db", "x"),
        ("jobs",),
        ("token", "--db", "x"),
        ("serve", "--db", "x", "--port", "many"),
        ("serve", "--db", "x", "--api", "old"),
        ("serve", "--db", "x", "--sent-timeout", "soon"),
    ],
)
def test_words_that_are_missing_or_wrong_end_with_2_and_the_usage(words: tuple[str, ...]) -> None:
    ended = lab_verb(*words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("usage: ")


@pytest.mark.parametrize("words", [("jobs",), ("put", "job.json"), ("token", "--identity", "A", "--out", "t")])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, words: tuple[str, ...]) -> None:
    text = written(tmp_path / "text", "no database\n" * 100)
    written(tmp_path / "job.json", GOOD)
    kind, *rest = (str(tmp_path / word) if word in {"job.json", "t"} else word for word in words)
    ended = lab_verb(kind, "--db", text, *rest)
    assert (ended.code, "bad-input" in ended.line) == (2, True)
    assert text.read_text() == "no database\n" * 100
    assert not (tmp_path / "t").exists()


def test_a_server_says_one_line_and_ends_with_0_on_either_signal(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        argv = [*PROGRAM, "serve", "--db", str(tmp_path / "lab.sqlite"), "--panda-queue", "QUEUE"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            ready = json.loads(child.stdout.readline())
            assert requests.get(f"{ready['url']}/api/v1/system/is_alive", timeout=10).status_code == 200
            child.send_signal(number)
            rest, err = child.communicate(timeout=30)
        assert (child.returncode, rest, err) == (0, "", "")
        assert ready["panda_queue"] == "QUEUE"
        assert ready["credential"]["origin"] == "lab.production"


def test_a_server_remembers_its_queue_and_put_follows_it(tmp_path: Path) -> None:
    from pilotwrap.lab.process import LabProcess

    db, job = tmp_path / "lab.sqlite", written(tmp_path / "job.json", GOOD)
    with LabProcess(db, ["--panda-queue", "FIRST"]) as first:
        assert first.address.panda_queue == "FIRST"
    with LabProcess(db) as again:
        assert again.address.panda_queue == "FIRST"
    assert lab_verb("put", "--db", db, job).code == 0
    with closing(Store(db)) as store:
        assert [row["site"] for row in store.rows("SELECT site FROM jobs")] == ["FIRST"]


def test_a_lifeline_that_ends_ends_the_server(tmp_path: Path) -> None:
    argv = [*PROGRAM, "serve", "--db", str(tmp_path / "lab.sqlite"), "--lifeline"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        child.stdin.write("still here\n")
        child.stdin.flush()
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(30) == 0


@pytest.mark.parametrize(
    ("words", "origin", "roles"),
    [
        ((), "lab", ""),
        (("--role", "production"), "lab.production", "production"),
        (("--vo", "atlas", "--role", "pilot", "--role", "production"), "atlas.pilot", "pilot production"),
    ],
)
def test_a_token_names_its_origin_and_is_its_owners(
    tmp_path: Path, words: tuple[str, ...], origin: str, roles: str
) -> None:
    db, out = tmp_path / "lab.sqlite", tmp_path / "folder" / "token"
    ended = lab_verb("token", "--db", db, "--identity", "Ann", "--out", out, *words)
    assert ended.code == 0
    assert json.loads(ended.out) == {"credential": {"kind": "token", "path": str(out), "origin": origin}}
    assert out.stat().st_mode & 0o777 == 0o600
    assert out.parent.stat().st_mode & 0o777 == 0o700
    token = out.read_text().strip()
    assert token not in ended.out + ended.err
    body = token.split(".")[1]
    said = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert said["sub"] == "Ann"
    assert abs(said["exp"] - time.time() - 86400) < 60
    with closing(Store(db)) as store:
        row = store.row("SELECT roles FROM tokens WHERE token = ?", token)
    assert row is not None
    assert row["roles"] == roles


def test_a_token_of_no_lifetime_has_expired(lab: LabProcess, tmp_path: Path) -> None:
    words = ("--identity", "Ann", "--role", "production", "--expires-in", "0", "--out", tmp_path / "t" / "token")
    assert lab_verb("token", "--db", lab.db, *words).code == 0
    token = (tmp_path / "t" / "token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "Origin": "lab.production"}
    answer = requests.get(f"{lab.address.url}/api/v1/pilot/get_job_status?job_ids=1", headers=headers, timeout=10)
    assert (answer.status_code, answer.text.endswith("Signature has expired")) == (403, True)


def test_a_database_in_no_folder_is_bad_input(tmp_path: Path) -> None:
    job = written(tmp_path / "job.json", GOOD)
    ended = lab_verb("put", "--db", tmp_path / "none" / "lab.sqlite", job)
    assert (ended.code, "bad-input" in ended.line) == (2, True)
