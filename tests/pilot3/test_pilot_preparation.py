"""What lies ready for a pilot, what it is started with, and what it never gets."""

from __future__ import annotations

import dataclasses
import os
import stat
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from controller.rig import SERVER, new_run, panda_surroundings
from pilot3.pilotrig import NEW, OLD, QUEUE, staging, terms_of

from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import InternalError, PilotError, SiteEnvironmentError, StageInError
from pilotwrap.model.plan import Plan
from pilotwrap.plan.ledger import ledger_of
from pilotwrap.plan.pilotflags import FIXED_BASE_URL
from pilotwrap.run.options import PilotOptions
from pilotwrap.run.pilot3.desk import Errand
from pilotwrap.run.pilot3.preparation import CLOSING_S, NO_END_S, ORIGIN, Errands, prepare

if TYPE_CHECKING:
    from pilotwrap.run.job import Job
    from pilotwrap.run.rundir import RunDirectory
    from pilotwrap.run.surroundings import Surroundings

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user: run the tests as root")
NOBODY = {"uid": 65534, "gid": 65534, "groups": [65534]}
BRIDGE = "http://127.0.0.1:4711"
PROGRAM = b"#!/bin/sh\nexit 0\n"
VERSIONS = pytest.mark.parametrize("version", [OLD, NEW], ids=["3.7", "3.11"])


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Prepared:
    """One preparation: what was given, and the plan that came of it."""

    def __init__(self, run: RunDirectory, version: tuple[int, ...] = OLD, **terms: Any) -> None:  # noqa: ANN401
        self.around: Surroundings = panda_surroundings(run)
        self.terms = terms_of(run, version, **terms)
        self.entry: dict[str, object] = {}

    def surrounded(self, **more: object) -> Prepared:
        self.around = dataclasses.replace(self.around, **more)  # type: ignore[arg-type]
        return self

    def asked(self, **entry: object) -> Prepared:
        self.entry = entry
        return self

    def made(self) -> Prepared:
        self.job: Job = staging(self.around, ledger_of(self.around.allocation), **self.entry)  # type: ignore[arg-type]
        self.errand = Errand(self.job.name, 7, self.job.entry)
        self.papers = self.terms.papers / self.job.name
        given = Errands(self.errand, self.papers, BRIDGE, 4711)
        self.plan: Plan = prepare(self.job, self.around, self.terms, given)
        return self

    @property
    def env(self) -> dict[str, str]:
        return {**self.plan.launch.env, **self.plan.bindings[0].env}

    @property
    def flags(self) -> dict[str, str]:
        return dict(word.partition("=")[::2] for word in self.plan.command if word.startswith("--"))

    @property
    def transformation(self) -> object:
        return self.errand.entry["transformation"]

    def everything(self) -> str:
        """Return all that a pilot, or whoever sees it, could read of what was prepared but its own token."""
        files = [path for folder in (self.papers, self.job.directory) for path in folder.rglob("*") if path.is_file()]
        texts = [path.read_text() for path in files if path.name != "token"]
        return "\n".join([*texts, self.plan.to_json(), *map(str, files), str(dict(self.errand.entry))])


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return new_run(tmp_path)


@pytest.fixture
def trf(tmp_path: Path) -> Path:
    folder = tmp_path / "trf"
    folder.mkdir()
    (folder / "run.sh").write_bytes(PROGRAM)
    return folder


@pytest.fixture
def server(trf: Path) -> Iterator[str]:
    """A server that has the transformation."""
    handler = partial(Quiet, directory=str(trf.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{started.server_address[1]}"
        started.shutdown()
        thread.join()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestStarted:
    @VERSIONS
    def test_it_is_sent_to_the_bridge_with_a_token_of_its_own(
        self, run: RunDirectory, version: tuple[int, ...]
    ) -> None:
        done = Prepared(run, version).made()
        assert done.plan.command[:2] == ("/usr/bin/python3", "/opt/pilot3/pilot.py")
        assert (done.flags["--url"], done.flags["--port"]) == ("http://127.0.0.1", "4711")
        assert (done.flags["--queue"], done.flags["--pilot-user"]) == ("TEST_QUEUE", "generic")
        assert done.env["PANDA_AUTH_ORIGIN"] == ORIGIN
        assert Path(done.env["PANDA_AUTH_TOKEN"]).read_text() == done.errand.token
        assert done.env["PILOT_NOKILL"] == "1"
        assert done.plan.agent.kind == "pilot3"
        assert (done.plan.ranks, done.plan.teller) == (1, "panda")

    @VERSIONS
    def test_nothing_of_the_servers_credential_and_no_secret_of_the_bridge_is_written_down(
        self, run: RunDirectory, version: tuple[int, ...], tmp_path: Path, trf: Path
    ) -> None:
        credential = tmp_path / "server-token"
        credential.write_text("hush-server-token")
        known = dataclasses.replace(SERVER, credential=Credential(kind="token", path=str(credential), origin="a.b"))
        options = PilotOptions(baseurls=(f"{trf.as_uri()}/",))
        done = Prepared(run, version, options=options).surrounded(server=known)
        done.asked(transformation=f"{trf.as_uri()}/run.sh").made()
        text = done.everything()
        assert "run.sh" in text
        for word in ("hush", "server-token", "a.b", done.errand.token):
            assert word not in text
        assert done.errand.secret not in done.plan.to_json()
        assert done.errand.token not in " ".join((*done.plan.command, *done.env, *done.env.values()))

    def test_its_directory_is_its_own_and_it_reads_the_queues_data_from_files(self, run: RunDirectory) -> None:
        done = Prepared(run).made()
        assert done.flags["--workdir"] == str(done.job.directory / "pilot") == done.env["HOME"]
        assert done.flags["--queuedata-url"] == str(done.terms.queuedata)
        assert done.env["LOCAL_AGIS_SCHEDCONF"] == str(done.terms.schedconfig)
        assert list((done.job.directory / "pilot").iterdir()) == []

    def test_the_plan_is_kept_as_it_was_made(self, run: RunDirectory) -> None:
        done = Prepared(run).made()
        path = run.path / "plans" / "7-1.json"
        assert Plan.model_validate_json(path.read_bytes()) == done.plan
        assert mode(path) == 0o600
        assert any("PILOT_NOKILL" in one.decision for one in done.plan.because)

    def test_it_may_live_until_the_allocations_end(self, run: RunDirectory) -> None:
        assert Prepared(run).made().flags["--lifetime"] == str(NO_END_S)

    def test_it_does_not_end_itself_before_we_end_it(self, run: RunDirectory) -> None:
        done = Prepared(run).surrounded(stop_at=time.monotonic() + 500.5).made()
        assert 500 + 180 < int(done.flags["--lifetime"]) <= 500 + CLOSING_S

    def test_harvesters_ids_and_the_node_are_told(self, run: RunDirectory) -> None:
        known = dataclasses.replace(SERVER, harvester_id="h-1", worker_id=42, prod_source_label="user")
        done = Prepared(run).surrounded(server=known).made()
        assert (done.env["HARVESTER_ID"], done.env["HARVESTER_WORKER_ID"]) == ("h-1", "42")
        assert (done.env["PANDA_HOSTNAME"], done.flags["--joblabel"]) == ("node1", "user")
        other = Prepared(new_run(run.path)).made()
        assert not {"HARVESTER_ID", "HARVESTER_WORKER_ID"} & other.env.keys()

    def test_what_the_user_adds_comes_last(self, run: RunDirectory) -> None:
        done = Prepared(run, options=PilotOptions(words=("--debug",), plugin="rubin")).made()
        assert done.plan.command[-1] == "--debug"
        assert done.flags["--pilot-user"] == "rubin"
        with pytest.raises(PilotError, match="--url"):
            Prepared(new_run(run.path), options=PilotOptions(words=("--url=http://x",))).made()

    def test_no_proxy_of_the_sites_stands_between_it_and_the_bridge(self, run: RunDirectory) -> None:
        done = Prepared(run)
        network = done.around.allocation.head.network.model_copy(update={"no_proxy": ".site.example"})
        facts = done.around.allocation.head.model_copy(update={"network": network})
        done.surrounded(allocation=done.around.allocation.model_copy(update={"head": facts})).made()
        assert done.env["no_proxy"] == done.env["NO_PROXY"] == ".site.example,127.0.0.1,localhost"
        assert Prepared(new_run(run.path)).made().env["no_proxy"] == "127.0.0.1,localhost"


class TestTransformation:
    def test_an_old_pilot_finds_it_in_the_folder_where_it_looks_first(self, run: RunDirectory, trf: Path) -> None:
        options = PilotOptions(baseurls=(f"{trf.as_uri()}/",))
        done = Prepared(run, options=options).asked(transformation=f"{trf.as_uri()}/run.sh").made()
        assert done.transformation == f"{FIXED_BASE_URL}/{done.errand.secret}/run.sh"
        assert done.env["HARVESTER_WORKDIR"] == str(done.papers)
        assert (done.papers / "run.sh").read_bytes() == PROGRAM
        assert done.errand.documents == {"run.sh": PROGRAM}
        assert "http_proxy" not in done.env

    def test_or_it_fetches_it_through_the_bridge_as_its_proxy(self, run: RunDirectory, trf: Path) -> None:
        options = PilotOptions(baseurls=(f"{trf.as_uri()}/",), by_proxy=True)
        done = Prepared(run, options=options).asked(transformation=f"{trf.as_uri()}/run.sh").made()
        assert done.env["http_proxy"] == BRIDGE
        assert "HARVESTER_WORKDIR" not in done.env

    def test_a_new_pilot_is_told_of_the_bridge_as_its_only_base(self, run: RunDirectory, trf: Path) -> None:
        options = PilotOptions(baseurls=(f"{trf.as_uri()}/", "https://trf.example.org/"))
        done = Prepared(run, NEW, options=options).asked(transformation=f"{trf.as_uri()}/run.sh").made()
        assert done.transformation == f"{BRIDGE}/open/{done.errand.secret}/run.sh"
        assert done.flags["--baseurls"] == f"{BRIDGE}/open"

    def test_it_may_come_from_the_server_itself(self, run: RunDirectory, server: str) -> None:
        known = dataclasses.replace(SERVER, url=server)
        done = Prepared(run).surrounded(server=known).asked(transformation=f"{server}/trf/run.sh").made()
        assert done.errand.documents == {"run.sh": PROGRAM}

    @VERSIONS
    @pytest.mark.parametrize("where", ["https://evil.example.org/run.sh", f"{SERVER.url}0/run.sh", "true"])
    def test_one_from_elsewhere_is_left_to_the_pilot(
        self, run: RunDirectory, version: tuple[int, ...], where: str
    ) -> None:
        options = PilotOptions(baseurls=("https://trf.example.org/",))
        done = Prepared(run, version, options=options).asked(transformation=where).made()
        assert done.transformation == where
        assert done.errand.documents == {}
        assert not {"HARVESTER_WORKDIR", "http_proxy"} & done.env.keys()
        assert done.flags.get("--baseurls") == ("https://trf.example.org/" if version == NEW else None)

    def test_one_that_is_not_there_ends_the_job_before_a_pilot_is_started(self, run: RunDirectory, trf: Path) -> None:
        options = PilotOptions(baseurls=(f"{trf.as_uri()}/",))
        with pytest.raises(StageInError, match=r"nothing\.sh"):
            Prepared(run, options=options).asked(transformation=f"{trf.as_uri()}/nothing.sh").made()

    def test_the_servers_entry_is_not_changed(self, run: RunDirectory, trf: Path) -> None:
        """Two errands share it where a job is prepared anew."""
        options = PilotOptions(baseurls=(f"{trf.as_uri()}/",))
        done = Prepared(run, options=options).asked(transformation=f"{trf.as_uri()}/run.sh").made()
        assert done.job.entry["transformation"] == f"{trf.as_uri()}/run.sh"
        assert {**done.errand.entry, "transformation": ""} == {**done.job.entry, "transformation": ""}


class TestProxy:
    @pytest.fixture
    def proxy(self, tmp_path: Path) -> Path:
        path = tmp_path / "x509up"
        path.write_text("a certificate and its key")
        path.chmod(0o600)
        return path

    def test_a_copytool_that_shows_it_to_a_storage_gets_a_copy(self, run: RunDirectory, proxy: Path) -> None:
        queue = QUEUE.model_copy(update={"writes": ("mv", "rucio")})
        done = Prepared(run, queue=queue, x509_proxy=str(proxy)).made()
        copy = Path(done.env["X509_USER_PROXY"])
        assert copy == done.papers / "x509proxy"
        assert (copy.read_text(), mode(copy)) == (proxy.read_text(), 0o600)
        assert "--noproxyverification" not in done.flags

    def test_one_that_does_not_gets_none(self, run: RunDirectory, proxy: Path) -> None:
        done = Prepared(run, x509_proxy=str(proxy)).made()
        assert "X509_USER_PROXY" not in done.env
        assert [path.name for path in done.papers.iterdir()] == ["token"]
        assert "--noproxyverification" in done.flags

    def test_one_that_is_gone_is_told(self, run: RunDirectory, tmp_path: Path) -> None:
        queue = QUEUE.model_copy(update={"reads": ("rucio",)})
        with pytest.raises(SiteEnvironmentError) as told:
            Prepared(run, queue=queue, x509_proxy=str(tmp_path / "gone")).made()
        assert "No such file" in str(told.value)


class TestRights:
    def test_nobody_else_reads_what_a_pilot_is_given(self, run: RunDirectory) -> None:
        done = Prepared(run).made()
        assert {mode(path) for path in (done.papers, done.job.directory, done.job.directory / "pilot")} == {0o700}
        assert mode(done.papers / "token") == 0o600

    @AS_ROOT
    def test_all_that_a_pilot_needs_is_its_users_and_the_plan_is_not(self, run: RunDirectory, trf: Path) -> None:
        options = PilotOptions(baseurls=(f"{trf.as_uri()}/",))
        done = Prepared(run, options=options).surrounded(user=NOBODY).asked(transformation=f"{trf.as_uri()}/run.sh")
        done.made()
        given = (done.papers, done.job.directory)
        theirs = [path for folder in given for path in (folder, *folder.rglob("*"))]
        assert {path.name for path in theirs} >= {"token", "run.sh", "pilot", "7-1"}
        assert {path.stat().st_uid for path in theirs} == {65534}
        ours = (run.path / "plans" / "7-1.json", done.terms.papers)
        assert {path.stat().st_uid for path in ours} == {0}

    def test_a_folder_that_is_there_already_is_not_taken_over(self, run: RunDirectory) -> None:
        done = Prepared(run)
        (done.terms.papers / "7-1").mkdir()
        with pytest.raises(SiteEnvironmentError, match="File exists"):
            done.made()

    def test_without_a_server_there_is_no_pilot(self, run: RunDirectory) -> None:
        with pytest.raises(InternalError):
            Prepared(run).surrounded(server=None).made()
