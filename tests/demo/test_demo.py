"""The demo as somebody sees it who has just installed pilotwrap."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from run.rig import FINAL, alive_under, states, until

from pilotwrap.lab.demo import TEXT, mpi_library

if TYPE_CHECKING:
    from run.rig import Ended

    from .conftest import Demo

REPOSITORY = Path(__file__).parents[2]
COUNT = 5 if mpi_library() is None else 6
EXPECTED = [
    ("counts words: an input and an output", "finished", "ok"),
    ("eight copies", "finished", "ok"),
    ("MPI, four ranks", "finished", "ok"),
    ("fails on purpose", "failed", "payload-exit"),
    ("outlives its wall time", "failed", "walltime"),
    ("leaves a daemon behind", "finished", "ok"),
]
TOOLS = ["setsid", "sh", "sleep", "sort", "tr", "uniq"]
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def without_mpi() -> list[tuple[str, str, str]]:
    return [row for row in EXPECTED if not row[0].startswith("MPI")]


def expected() -> list[tuple[str, str, str]]:
    return without_mpi() if mpi_library() is None else EXPECTED


def table(ended: Ended) -> list[tuple[str, str, str]]:
    said = json.loads(ended.out)
    assert said["good"] is (ended.code == 0)
    return [(row["title"], row["state"], row["reason"]) for row in said["jobs"]]


def each_has_one_end(jobs: list[dict[str, Any]]) -> None:
    for job in jobs:
        assert job["reports"] == 1, job
        assert [state for state in states(job) if state in FINAL] == [job["state"]], job
        assert states(job)[-1] == job["state"], job


def programs(folder: Path) -> Path:
    """Make a PATH of just what the demo's jobs call, and of `pilotwrap` as if it were installed."""
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or f"no {tool} here")
    (folder / "pilotwrap").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pilotwrap "$@"\n')
    (folder / "pilotwrap").chmod(0o755)
    return folder


def test_every_job_comes_to_its_end_once(demo: Demo) -> None:
    ended = demo.run("d", "--json")
    assert (ended.code, table(ended)) == (0, expected())
    assert json.loads(ended.out)["left_running"] == []
    each_has_one_end(demo.jobs("d"))
    assert [job["state"] for job in demo.jobs("d")] == [state for _title, state, _reason in expected()]
    assert not alive_under(demo.path)


def test_the_work_of_the_first_job_is_real(demo: Demo) -> None:
    assert demo.run("d", "--json").code == 0
    counted = (demo.path / "d" / "storage" / "words.txt").read_text().split()
    assert {word: int(number) for number, word in zip(counted[::2], counted[1::2], strict=True)} == Counter(
        TEXT.split()
    )
    first = demo.jobs("d")[0]
    assert first["files"]["words.txt"]["fsize"] == (demo.path / "d" / "storage" / "words.txt").stat().st_size
    logs = [name for name in first["files"] if name.startswith("log.")]
    assert len(logs) == 1
    assert (demo.path / "d" / "storage" / logs[0]).is_file()


def test_what_it_tells_to_do_next_can_be_done(demo: Demo) -> None:
    found = programs(demo.path / "bin")
    ended = demo.run("d")
    assert ended.code == 0, ended
    assert ended.out.count("as it must") == COUNT
    assert "nothing is left running" in ended.out
    next_steps = re.findall(r"^(?:What happened, in a sentence:|Next: your own job) +(.+)$", ended.out, re.MULTILINE)
    assert len(next_steps) == 2, ended.out
    home = demo.path / "elsewhere"
    home.mkdir()
    environment = {**os.environ, "PATH": f"{found}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    for line in next_steps:
        command = ["/bin/sh", "-c", line]
        done = subprocess.run(
            command, cwd=home, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (line, done)
    assert [path.read_text() for path in home.glob("pilotwrap-runs/*/*/jobs/*/stdout")] == [f"{socket.gethostname()}\n"]


def test_without_an_mpi_five_jobs_run_and_it_says_how_to_get_one(demo: Demo) -> None:
    demo.environment["PATH"] = str(programs(demo.path / "bin"))
    ended = demo.run("d")
    assert ended.code == 0, ended
    assert ended.out.count("as it must") == 5
    assert "no MPI is here, so its job was left out: apt-get install mpich" in ended.out
    assert "MPI, four ranks" not in ended.out
    each_has_one_end(demo.jobs("d"))


@pytest.mark.skipif(mpi_library() is None, reason="no MPICH: apt-get install mpich")
def test_with_an_mpi_nothing_is_said_to_be_missing(demo: Demo) -> None:
    ended = demo.run("d")
    assert ended.out.count("as it must") == 6
    assert "apt-get" not in ended.out


def test_without_a_folder_it_makes_one_and_names_it(demo: Demo) -> None:
    demo.environment["TMPDIR"] = str(demo.path)
    argv = [sys.executable, "-m", "pilotwrap", "demo", "--json"]
    environment = {**os.environ, **demo.environment}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    (made,) = demo.path.glob("pilotwrap-demo-*")
    assert json.loads(done.stdout)["directory"] == str(made)
    assert made.stat().st_mode & 0o777 == 0o700


def test_two_demos_beside_each_other_do_not_meet(demo: Demo) -> None:
    children = {name: demo.start(name, "--json") for name in ("one", "two")}
    for name, child in children.items():
        assert table(demo.end(child)) == expected()
        each_has_one_end(demo.jobs(name))
    assert not alive_under(demo.path)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_demo_told_to_end_leaves_nothing_and_reports_what_it_began(demo: Demo, number: signal.Signals) -> None:
    child = demo.start("d")
    until(lambda: any(job["state"] == "running" for job in demo.jobs("d")), "a job runs")
    child.send_signal(number)
    ended = demo.end(child)
    assert ended.code == 128 + number
    assert ended.line == f"pilotwrap: ended by signal {int(number)}; nothing is left running"
    demo.nothing_left("d")
    begun = [job for job in demo.jobs("d") if job["state"] != "activated"]
    assert begun
    for job in begun:
        assert job["reports"] == 1, job


def test_a_terminals_interrupt_reaches_the_run_and_not_the_server(demo: Demo) -> None:
    child = demo.start("d")
    until(lambda: any(job["state"] == "running" for job in demo.jobs("d")), "a job runs")
    os.killpg(child.pid, signal.SIGINT)
    ended = demo.end(child)
    assert ended.code == 130
    assert "nothing is left running" in ended.err
    demo.nothing_left("d")
    assert all(job["reports"] == 1 for job in demo.jobs("d") if job["state"] != "activated")


def test_a_demo_told_to_end_before_its_jobs_begin_runs_none_to_its_end(demo: Demo) -> None:
    child = demo.start("d")
    until((demo.path / "d" / "storage").is_dir, "it has begun")
    child.send_signal(signal.SIGTERM)
    ended = demo.end(child)
    assert ended.code == 143
    demo.nothing_left("d")
    assert all(job["reports"] == 1 for job in demo.jobs("d") if job["state"] not in {"activated", "sent"})
    assert any(job["state"] == "activated" for job in demo.jobs("d")) or not demo.jobs("d")


def test_a_demo_that_is_killed_takes_its_server_with_it(demo: Demo) -> None:
    child = demo.start("d")
    until(lambda: any(job["state"] == "running" for job in demo.jobs("d")), "a job runs")
    alive = alive_under(demo.path / "d")
    run = min(pid for pid, words in alive.items() if " pilotwrap run " in words)
    child.kill()
    child.wait()
    until(lambda: not any(" lab serve " in words for words in alive_under(demo.path / "d").values()), "no server")
    os.kill(run, signal.SIGTERM)  # it would go on, and try to report until its deadline
    demo.nothing_left("d")


def test_a_folder_of_an_earlier_demo_is_left_as_it_is(demo: Demo) -> None:
    assert demo.run("d", "--json").code == 0
    before = (demo.path / "d" / "lab.db").read_bytes()
    again = demo.run("d")
    assert again.code == 2
    assert re.search(r"bad-input: .*/d holds an earlier demo; name a new folder with --dir$", again.line)
    assert (demo.path / "d" / "lab.db").read_bytes() == before


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_bad_input(demo: Demo, name: str) -> None:
    (demo.path / "file").touch()
    ended = demo.run(name, "--json")
    assert ended.code == 2
    assert "cannot be used" in ended.line
    assert json.loads(ended.out)["reason"] == "bad-input"


def ordinary_python() -> str | None:
    """Return a Python of this one's version that everybody may run; None: there is none."""
    version = sysconfig.get_python_version()
    script = "import sysconfig; print(sysconfig.get_python_version())"
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        argv = [candidate, "-I", "-c", script]
        try:
            done = subprocess.run(argv, user=65534, capture_output=True, text=True, timeout=60, check=False)
        except OSError:
            continue
        if done.stdout.strip() == version:
            return candidate
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else: sudo")
def test_an_ordinary_user_has_the_same_demo(demo: Demo, tmp_path: Path) -> None:
    python = ordinary_python()
    if python is None:
        pytest.skip("no Python of this version that everybody may run: make the environment with /usr/bin/python3")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("pytest", "test_", "popen")):
            folder.chmod(folder.stat().st_mode | 0o011)
    library = tmp_path / "library"
    unneeded = shutil.ignore_patterns("__pycache__", "mypy*", "ruff*", "pip*", "hypothesis*", "tests")
    shutil.copytree(sysconfig.get_path("purelib"), library, ignore=unneeded)
    shutil.copytree(REPOSITORY / "pilotwrap", library / "pilotwrap", ignore=unneeded, dirs_exist_ok=True)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
    demo.path, demo.python, demo.user = home, python, pwd.getpwnam("nobody").pw_uid
    demo.environment = {"PYTHONPATH": str(library), "HOME": str(home), "TMPDIR": str(home)}
    ended = demo.run("d", "--json")
    assert (ended.code, table(ended)) == (0, expected()), ended
    each_has_one_end(demo.jobs("d"))
    assert {path.stat().st_uid for path in (home / "d").rglob("*")} == {demo.user}
    assert not alive_under(home)
