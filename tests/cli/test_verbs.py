"""The program as a person and a script meet it: help, errors in a line, one JSON object."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from run.rig import Ended, Rig, rigs, until

from pilotwrap.cli.main import VERBS
from pilotwrap.cli.schema import NAMES

REASON_LINE = re.compile(r"pilotwrap: .+")


def pilotwrap(*words: str, cwd: Path | None = None) -> Ended:
    argv = [sys.executable, "-m", "pilotwrap", *words]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({"command": ["sh", "-c", "echo hello"], "cpus_per_rank": 1}))
    return path


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_of_every_verb_has_an_example(verb: str) -> None:
    ended = pilotwrap(verb, "--help")
    assert ended.code == 0, ended
    assert "example: " in ended.out
    assert ended.err == ""


@pytest.mark.parametrize("kind", ["serve", "put", "jobs", "token"])
def test_help_of_every_part_of_the_lab_has_an_example(kind: str) -> None:
    ended = pilotwrap("lab", kind, "--help")
    assert (ended.code, f"example: pilotwrap lab {kind} " in ended.out) == (0, True)


def test_the_overview_names_every_verb() -> None:
    ended = pilotwrap("--help")
    assert ended.code == 0
    assert all(f"  {verb} " in ended.out for verb in VERBS)
    assert "example: " in ended.out
    assert pilotwrap().code == 2


def test_the_version_is_one_line() -> None:
    ended = pilotwrap("--version")
    assert re.fullmatch(r"pilotwrap \d+\.\d+\.\d+\S*\n", ended.out)
    assert ended.code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["fly"],
        ["run", "--no-such-option"],
        ["run", "--jobs", "0", "--spec", "x"],
        ["run", "--jobs", "-1"],
        ["run", "--heartbeat", "soon"],
        ["run"],
        ["run", "--agent", "other"],
        ["run", "--enter"],
        ["plan"],
        ["plan", "--spec"],
        ["schema", "no-such-value"],
        ["lab", "fly"],
        ["lab"],
        ["why"],
        ["flush"],
        ["why", "."],
        ["inspect", "--from", "absent.json"],
        ["plan", "--spec", "absent.json"],
        ["run", "--spec", "absent.json"],
        ["lab", "put", "--db", "x.sqlite", "absent.json"],
        ["lab", "jobs", "--db", "absent.sqlite"],
        ["inspect", "--sysroot", "absent"],
        ["run", "--server", "http://127.0.0.1:1"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_understood_is_exit_2_and_one_line(words: list[str], tmp_path: Path) -> None:
    ended = pilotwrap(*words, cwd=tmp_path)
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    told = [line for line in ended.err.splitlines() if line.startswith("pilotwrap") and "usage: pilotwrap" not in line]
    assert len(told) == 1, ended.err
    assert ended.out == ""


def one_object(text: str) -> Any:  # noqa: ANN401
    assert text.endswith("\n")
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_json_is_one_object_and_nothing_else(job: Path, tmp_path: Path) -> None:
    assert one_object(pilotwrap("inspect", "--json").out)["schema"] == "pilotwrap.node/1"
    assert one_object(pilotwrap("plan", "--spec", str(job), "--json").out)["schema"] == "pilotwrap.plan/1"
    ran = one_object(pilotwrap("run", "--spec", str(job), "--json", cwd=tmp_path).out)
    assert (ran["schema"], ran["state"]) == ("pilotwrap.report/1", "finished")
    assert one_object(pilotwrap("why", ran["run_dir"], "--json").out)["state"] == "finished"
    assert one_object(pilotwrap("flush", str(tmp_path / "pilotwrap-runs"), "--json").out)["left"] == []
    assert one_object(pilotwrap("run", "--spec", "absent.json", "--json").out)["reason"] == "bad-input"
    assert one_object(pilotwrap("plan", "--spec", "absent.json", "--json").out)["reason"] == "bad-input"
    assert one_object(pilotwrap("why", str(tmp_path / "absent"), "--json").out)["reason"] == "bad-input"


def test_a_snapshot_gives_the_same_facts_as_the_node_did(tmp_path: Path) -> None:
    snapshot = tmp_path / "node.json"
    here = pilotwrap("inspect", "--snapshot", str(snapshot), "--json")
    again = pilotwrap("inspect", "--from", str(snapshot), "--json")
    assert here.code == again.code == 0
    assert one_object(here.out) == one_object(again.out)
    assert pilotwrap("inspect", "--from", str(snapshot)).out


def test_a_snapshot_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PANDA_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "SLURM_JWT"):
        monkeypatch.setenv(name, "hush-hush")
    monkeypatch.setenv("https_proxy", "http://me:hush-hush@proxy.example.org:3128")
    pilotwrap("inspect", "--snapshot", str(tmp_path / "node.json"))
    assert "hush-hush" not in (tmp_path / "node.json").read_text()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_schema_is_a_json_schema(name: str) -> None:
    schema = one_object(pilotwrap("schema", name).out)
    assert schema["type"] == "object"
    assert schema["properties"]
    assert schema["$id"] == f"pilotwrap.{name}/1"
    for reference in re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(schema)):
        assert reference in schema["$defs"]


def test_plan_explains_every_decision_and_gives_a_line_to_run(job: Path) -> None:
    ended = pilotwrap("plan", "--spec", str(job), "--explain")
    assert ended.code == 0
    assert "echo hello" in ended.out
    decisions = one_object(pilotwrap("plan", "--spec", str(job), "--json").out)["because"]
    assert decisions
    assert all(decision["decision"] in ended.out for decision in decisions)


def test_plan_refuses_more_than_the_node_has(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({"command": ["true"], "cpus_per_rank": 100_000}))
    ended = pilotwrap("plan", "--spec", str(path))
    assert ended.code == 2
    assert "bad-input" in ended.line


def test_machines_lists_names_that_plan_takes(job: Path) -> None:
    ended = pilotwrap("machines")
    assert ended.code == 0
    names = [line.split()[0] for line in ended.out.splitlines() if line[:1].isalpha()]
    assert names
    assert any(pilotwrap("plan", "--spec", str(job), "--machine", name).code == 0 for name in names)


def test_the_starter_is_a_file_that_this_python_runs(tmp_path: Path) -> None:
    packed = subprocess.run([sys.executable, "-m", "pilotwrap", "starter"], capture_output=True, check=True, timeout=60)
    again = subprocess.run([sys.executable, "-m", "pilotwrap", "starter"], capture_output=True, check=True, timeout=60)
    assert packed.stdout == again.stdout
    (tmp_path / "starter.pyz").write_bytes(packed.stdout)
    argv = [sys.executable, "-I", "-S", "starter.pyz", "observe"]
    seen = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    (tmp_path / "node.json").write_bytes(seen.stdout)
    assert pilotwrap("inspect", "--from", str(tmp_path / "node.json"), "--json").code == 0


# ---- why


@pytest.fixture
def rig(tmp_path: Path) -> Any:  # noqa: ANN401
    for made in rigs(tmp_path):
        yield made
        made.nothing_left()


def why(rig: Rig, directory: Path | str) -> Any:  # noqa: ANN401
    told = rig.verb("why", str(directory))
    assert told.code == 0
    assert told.out.strip()
    said = one_object(rig.verb("why", str(directory), "--json").out)
    assert said["sentence"] in " ".join(told.out.split())
    assert said["remedy"]
    return said


def test_why_of_a_finished_and_of_a_failed_run(rig: Rig) -> None:
    rig.put(rig.sh("true"))
    assert why(rig, rig.run("--json").report["run_dir"])["reason"] == "ok"
    rig.put(rig.sh("echo my last words >&2; exit 3"))
    said = why(rig, rig.run("--json").report["run_dir"])
    assert (said["state"], said["reason"]) == ("failed", "payload-exit")
    assert "my last words" in str(said["last_words"])


def test_why_of_a_running_and_of_a_dead_run(rig: Rig) -> None:
    (one,) = rig.put(rig.sh("sleep 300"))
    run = rig.start("--json")
    until(lambda: run.events("Started"))
    directory = run.directory
    assert directory is not None
    assert why(rig, directory)["state"] == "running"
    assert rig.flush(run.folder).report["living"] == 1
    os.kill(run.controller, 9)
    assert run.end().code == 70
    said = why(rig, directory)
    assert said["state"] == "died"
    assert "pilotwrap flush" in said["remedy"]
    assert said["unreported"]
    assert rig.flush(run.folder).report["told"] == 1
    assert rig.final(one)[0]["state"] == "failed"
    assert why(rig, directory)["unreported"] == []


# ---- the demo


def test_the_demo_ends_well_and_leaves_nothing(tmp_path: Path) -> None:
    since = time.monotonic()
    ended = pilotwrap("demo", "--dir", str(tmp_path / "demo"), "--json")
    assert ended.code == 0, ended
    said = one_object(ended.out)
    assert said["good"]
    assert said["left_running"] == []
    assert time.monotonic() - since < 60
