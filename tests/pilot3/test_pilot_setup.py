"""Before any job is taken by a pilot: the refusals in their order, the Pythons, and the papers; against a real lab."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from controller.rig import head, new_run, panda_surroundings
from plan.facts import alike, allocation, node

from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.queuedata import Queue, queuedata_text
from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import PilotwrapError, UsageError
from pilotwrap.model.job import JobSpec
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.run import readiness
from pilotwrap.run.options import PilotOptions, RunOptions
from pilotwrap.run.pilot3 import setup as module
from pilotwrap.run.pilot3.setup import default_user, refuse_several_nodes, set_up
from pilotwrap.run.surroundings import Server

if TYPE_CHECKING:
    from pilotwrap.lab.process import Address
    from pilotwrap.lab.queuedata import QueueStatus
    from pilotwrap.run.pilot3.terms import PilotTerms

NOBODY = {"uid": 65534, "gid": 65534, "groups": [65534]}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    with LabProcess(tmp_path_factory.mktemp("lab") / "lab.sqlite", api="both") as process:
        yield process.address


@pytest.fixture
def pilot(tmp_path: Path) -> Path:
    return placed(tmp_path / "pilot3")


def placed(folder: Path, version: str = "3.7.0.36") -> Path:
    """A pilot as far as anybody looks who does not run it."""
    folder.mkdir(mode=0o755)
    (folder / "pilot.py").touch()
    (folder / "PILOTVERSION").write_text(version)
    return folder


def python(folder: Path, name: str, says: str) -> str:
    """A Python as far as it is asked for its version."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return str(path)


class Visit:
    """One call of `set_up`, all of whose parts are well until a test spoils some."""

    def __init__(self, folder: Path, lab: Address, pilot: Path) -> None:
        credential = Credential(kind="token", path=str(lab.token_path), origin=lab.origin)
        self.server = Server(lab.url, lab.panda_queue, credential)
        self.pilot = PilotOptions(source=str(pilot))
        self.programs = {"curl": "/usr/bin/curl"}
        self.run = new_run(folder)
        self.around: dict[str, Any] = {}

    def terms(self) -> PilotTerms:
        options = RunOptions(
            worker=JobSpec(command=("/bin/sh",)),
            server=self.server.url,
            panda_queue=self.server.panda_queue,
            credential=self.server.credential,
            run_dir=self.run.path.parents[1],
            pilot=self.pilot,
        )
        around = panda_surroundings(self.run, **{"server": self.server, **self.around})
        return set_up(around, options, Snapshot(programs=self.programs, variables={"PATH": "/opt/bin:/bin"}), {})

    def refusal(self) -> tuple[str, str]:
        with pytest.raises(PilotwrapError) as told:
            self.terms()
        assert not (self.run.path / "pilots").exists()
        return told.value.reason, str(told.value)

    def told(self, **more: object) -> None:
        self.pilot = self.pilot.model_copy(update=more)

    def asking(self, **more: Any) -> None:  # noqa: ANN401
        self.server = dataclasses.replace(self.server, **more)


@pytest.fixture
def visit(tmp_path: Path, lab: Address, pilot: Path) -> Visit:
    return Visit(tmp_path, lab, pilot)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="pilotwrap-setup-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestWell:
    def test_all_that_pilots_of_a_run_share(self, visit: Visit, pilot: Path) -> None:
        terms = visit.terms()
        assert (terms.found.directory, terms.found.version) == (str(pilot), (3, 7, 0, 36))
        assert (terms.api, terms.search_path, terms.x509_proxy) == ("current", "/opt/bin:/bin", None)
        assert terms.queue.name == visit.server.panda_queue
        assert Path(terms.python).name.startswith("python3")

    def test_a_server_with_legacy_calls_alone_is_known_as_such(self, tmp_path: Path, pilot: Path) -> None:
        with LabProcess(tmp_path / "lab.sqlite", api="legacy") as process:
            assert Visit(tmp_path, process.address, pilot).terms().api == "legacy"

    def test_the_queues_data_lies_ready_in_both_forms_for_us_alone(self, visit: Visit) -> None:
        terms = visit.terms()
        data = json.loads(terms.queuedata.read_text())
        assert data["state"] == "ACTIVE"
        assert json.loads(terms.schedconfig.read_text()) == {visit.server.panda_queue: data}
        assert (mode(terms.papers), mode(terms.queuedata), mode(terms.schedconfig)) == (0o700, 0o600, 0o600)

    def test_another_user_can_read_the_papers_and_list_none(self, open_folder: Path, lab: Address) -> None:
        visit = Visit(open_folder, lab, placed(open_folder / "pilot3"))
        visit.around["user"] = NOBODY
        terms = visit.terms()
        assert (mode(terms.papers), mode(terms.queuedata), mode(terms.schedconfig)) == (0o711, 0o644, 0o644)
        assert terms.found.directory == str(open_folder / "pilot3")

    def test_papers_that_are_there_already_are_not_taken_over(self, visit: Visit) -> None:
        (visit.run.path / "pilots").mkdir()
        with pytest.raises(PilotwrapError, match="cannot be written") as told:
            visit.terms()
        assert told.value.reason == "environment"


class TestRefusals:
    def test_each_is_seen_when_those_before_it_are_remedied(
        self, visit: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        good, spoilt = visit.server, dataclasses.replace(visit.server, panda_queue="NO_SUCH_QUEUE")
        monkeypatch.setattr(readiness, "PILOT_FREE_MIB", 10**9)
        visit.server = dataclasses.replace(spoilt, credential=Credential(kind="token", path="/nowhere/t", origin="a.b"))
        visit.around["allocation"] = alike(node(given=allocation(["node1"], time_left_s=40.0)))
        source = visit.pilot.source
        visit.told(source=str(tmp_path / "none"))
        visit.programs = {}
        monkeypatch.setattr(module, "SYSTEM_PYTHONS", ("/nowhere/python3",))
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        visit.around["host_argv"] = ("/nowhere/python3", "/starter.pyz")
        reasons = [visit.refusal()[0]]
        visit.server = spoilt
        reasons.append(visit.refusal()[0])
        visit.server = good
        reasons.append(visit.refusal()[0])
        del visit.around["allocation"]
        reasons.append(visit.refusal()[0])
        monkeypatch.setattr(readiness, "PILOT_FREE_MIB", 1)
        reasons.append(visit.refusal()[0])
        visit.told(source=source)
        reasons.append(visit.refusal()[1][:20])
        visit.programs = {"curl": "/usr/bin/curl"}
        reasons.append(visit.refusal()[1][:14])
        assert reasons == [
            *("credential", "panda-queue", "allocation", "environment", "pilot"),
            *("curl is not on PATH:", "no Python here"),
        ]

    def test_a_newer_pilot_does_without_curl(self, visit: Visit, tmp_path: Path) -> None:
        visit.programs = {}
        visit.told(source=str(placed(tmp_path / "newer", "3.11.5.1")))
        assert visit.terms().found.version == (3, 11, 5, 1)

    @pytest.mark.parametrize(("status", "state"), [("offline", "ACTIVE"), ("online", "INACTIVE")])
    def test_a_queue_of_whose_jobs_no_pilot_would_take_one(
        self,
        visit: Visit,
        tmp_path: Path,
        status: QueueStatus,
        state: str,
    ) -> None:
        text = queuedata_text(Queue(visit.server.panda_queue, status=status)).replace("ACTIVE", state)
        (tmp_path / "queue.json").write_text(text)
        visit.told(queuedata=str(tmp_path / "queue.json"))
        reason, words = visit.refusal()
        assert reason == "panda-queue"
        assert "offline" in words or "not active" in words

    def test_a_server_that_is_not_there(self, visit: Visit) -> None:
        visit.asking(url="http://127.0.0.1:9")
        assert visit.refusal()[0] == "server"

    def test_an_origin_that_is_missing(self, visit: Visit) -> None:
        visit.asking(credential=visit.server.credential.model_copy(update={"origin": None}))
        reason, words = visit.refusal()
        assert (reason, "origin" in words) == ("credential", True)

    def test_jobs_of_no_server_are_none_for_a_pilot(self, visit: Visit) -> None:
        visit.around["server"] = None
        with pytest.raises(UsageError, match="--server"):
            visit.terms()


class TestPythons:
    @pytest.fixture(autouse=True)
    def _alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")

    def found(self, visit: Visit, monkeypatch: pytest.MonkeyPatch, *paths: str) -> str:
        monkeypatch.setattr(module, "SYSTEM_PYTHONS", paths)
        return visit.terms().python

    def test_the_first_that_can_run_the_pilot_is_taken(
        self, visit: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        old, good = python(tmp_path, "old", "echo 3 6 15"), python(tmp_path, "good", "echo 3 9 1")
        new, other = python(tmp_path, "new", "echo 3 13 0"), python(tmp_path, "other", "echo 3 10 1")
        assert self.found(visit, monkeypatch, old, new, good, other) == good

    def test_one_that_says_nothing_usable_is_passed_over(
        self, visit: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(module, "PYTHON_S", 1.0)
        says = ("exec sleep 60", "echo Python 3.9.1", "echo 3 9 1; exit 1", ":")
        bad = [python(tmp_path, f"bad{number}", words) for number, words in enumerate(says)]
        good = python(tmp_path, "good", "echo 3 9 1")
        assert self.found(visit, monkeypatch, *bad, str(tmp_path), "/nowhere/python3", good) == good

    def test_the_hosts_own_comes_after_the_systems(
        self, visit: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        own = python(tmp_path, "own", "echo 3 9 1")
        visit.around["host_argv"] = (own, "/starter.pyz")
        assert self.found(visit, monkeypatch, "/nowhere/python3") == own

    def test_none_names_what_is_there_and_what_is_needed(
        self, visit: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(module, "SYSTEM_PYTHONS", (python(tmp_path, "old", "echo 3 6 15"),))
        visit.around["host_argv"] = ("/nowhere/python3", "/starter.pyz")
        reason, words = visit.refusal()
        assert reason == "pilot"
        assert f"3.6.15 at {tmp_path}/old" in words
        assert "3.7 to 3.12" in words

    def test_another_user_is_given_one_that_he_can_run(
        self, open_folder: Path, lab: Address, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        visit = Visit(open_folder, lab, placed(open_folder / "pilot3"))
        visit.around["user"] = NOBODY
        closed, opened = open_folder / "closed", open_folder / "opened"
        closed.mkdir(mode=0o700)
        opened.mkdir(mode=0o755)
        hidden, good = python(closed, "python3", "echo 3 9 1"), python(opened, "python3", "echo 3 9 1")
        link, private = opened / "link", python(opened, "private", "echo 3 9 1")
        link.symlink_to(hidden)
        Path(private).chmod(0o700)
        assert self.found(visit, monkeypatch, hidden, str(link), private, "/nowhere/python3", good) == good


class TestUser:
    def options(self, **more: Any) -> RunOptions:  # noqa: ANN401
        return RunOptions(run_dir=Path("/runs"), pilot=PilotOptions(), **more)

    @pytest.mark.parametrize(("uid", "user"), [(0, "nobody"), (1000, None)])
    def test_a_pilot_never_runs_as_root(self, monkeypatch: pytest.MonkeyPatch, uid: int, user: str | None) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        assert default_user(self.options()) == user
        assert default_user(self.options(payload_user="ann")) == "ann"
        assert default_user(self.options().model_copy(update={"pilot": None})) is None


class TestNodes:
    def test_one_controller_starts_no_pilots_on_other_nodes(self) -> None:
        several = head(hosts=("node1", "node2"))
        with pytest.raises(UsageError, match="here are 2") as told:
            refuse_several_nodes(several)
        assert "srun --ntasks-per-node=1" in str(told.value)

    def test_one_node_or_a_step_on_one_is_well(self) -> None:
        refuse_several_nodes(head())
        several = allocation(["node1", "node2"]).model_copy(update={"inside_step": True})
        refuse_several_nodes(node(given=several))


LOADS = """
import sys, threading
from types import SimpleNamespace
from pilotwrap.run.supply import make_sure

turned = threading.Event()
driver = SimpleNamespace(post=lambda deed: deed(), turn=lambda _: turned.set(), starter_lost=False, stopped=None)
make_sure(driver, lambda: turned.wait(30) and None, pilots=True)  # the server answers once somebody waits for it
print(*sys.modules)
"""


def test_what_comes_next_is_loaded_while_the_server_thinks_and_what_reads_a_pilot_s_log_is_not() -> None:
    said = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(said.stdout.split())
    assert {"pilotwrap.run.fetcher", "pilotwrap.panda.spool", "pilotwrap.run.pilot3.agent"} <= loaded
    assert {"pilotwrap.run.pilot3.log", "pilotwrap.run.pilot3.files", "pilotwrap.run.fanout"} & loaded == set()
