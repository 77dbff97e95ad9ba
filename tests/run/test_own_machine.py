"""A machine that nobody has seen is brought up by one file: drafted from a node, corrected, obeyed by a real run."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pilotwrap.cli.inspect import snapshot_here

from .rig import PROGRAM, Ended

CPUS = sorted(os.sched_getaffinity(0))
SHOWS = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]
RESERVED = 'reserved_cpus = ""'

pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="one core cannot be kept while another works: needs two CPUs")


class Site:
    """A folder with a spec, and a configuration directory that is not there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configuration = folder / "config/pilotwrap/machines"
        self.spec = folder / "job.json"
        self.spec.write_text(json.dumps({"command": SHOWS, "cpus_per_rank": 1}))

    def verb(self, *words: str) -> Ended:
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        env["XDG_CONFIG_HOME"] = str(self.folder / "config")
        argv = [*PROGRAM, *words]
        done = subprocess.run(argv, cwd=self.folder, env=env, capture_output=True, text=True, timeout=60, check=False)
        return Ended(done.returncode, done.stdout, done.stderr)

    def draft(self) -> str:
        """Return the draft of this node as one of an unknown machine, made from its snapshot."""
        (self.folder / "node.json").write_text(snapshot_here().to_json())
        ended = self.verb("inspect", "--from", "node.json", "--draft", "draft.toml")
        assert ended.code == 0, ended
        return (self.folder / "draft.toml").read_text()

    def edited(self) -> str:
        """Return it with the first CPU kept for the system."""
        text = self.draft()
        assert RESERVED in text
        return text.replace(RESERVED, f'reserved_cpus = "{CPUS[0]}"').replace('"my-machine"', '"mine"')

    def configure(self, text: str) -> None:
        self.configuration.mkdir(parents=True)
        (self.configuration / "mine.toml").write_text(text)

    def cpu(self, *words: str) -> int:
        """Run the job; return the CPU that it was bound to."""
        ended = self.verb("run", "--json", "--spec", str(self.spec), "--run-dir", "runs", *words)
        assert ended.code == 0, ended
        shown = json.loads((Path(ended.report["run_dir"]) / "jobs/spec-0/stdout").read_text())
        assert len(shown) == 1
        return int(shown[0])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_from_a_node_s_snapshot_by_an_edited_draft_to_a_run_that_obeys_it(site: Site) -> None:
    assert site.cpu() == CPUS[0]
    (site.folder / "draft.toml").write_text(site.edited())
    assert site.cpu("--machine", "draft.toml") == CPUS[1]


def test_a_machine_file_beside_the_spec_is_named_without_its_path(site: Site) -> None:
    (site.folder / "near").mkdir()
    (site.folder / "near/mine.toml").write_text(site.edited())
    site.spec = site.spec.rename(site.folder / "near/job.json")
    assert site.cpu("--machine", "mine") == CPUS[1]


def test_one_s_own_machine_is_recognised_by_a_run_and_by_doctor(site: Site) -> None:
    site.configure(site.edited())
    assert site.cpu() == CPUS[1]
    node = next(check for check in site.verb("doctor", "--json").report["checks"] if check["name"] == "node")
    assert f": {len(CPUS) - 1} cores" in node["detail"]
    assert site.verb("doctor", "--machine", "localhost").out.splitlines()[0].endswith(f": {len(CPUS)} cores")


def test_an_image_need_not_see_the_configuration_directory(site: Site) -> None:
    site.configure(site.edited())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    elsewhere = shlex.join(["env", "XDG_CONFIG_HOME=/nowhere", "HOME=/nowhere", f"PATH={path}"])
    assert site.cpu("--enter", elsewhere) == CPUS[1]


@pytest.mark.parametrize("named", [True, False], ids=["named", "one of one's own"])
def test_a_wrong_machine_file_ends_a_run_before_anything(site: Site, *, named: bool) -> None:
    site.configure(site.draft().replace("threads_per_core = ", "threads_per_core = 'two' # "))
    words = ("--machine", "config/pilotwrap/machines/mine.toml") if named else ()
    ended = site.verb("run", "--spec", str(site.spec), "--run-dir", "runs", *words)
    assert (ended.code, ended.out) == (2, "")
    assert "/mine.toml is wrong at node.threads_per_core: it is 'two'; a whole number is expected" in ended.line
    assert not (site.folder / "runs").exists()


@pytest.mark.parametrize("verb", ["run", "doctor"])
def test_a_machine_that_is_not_known_is_bad_input(site: Site, verb: str) -> None:
    words = ("--spec", str(site.spec)) if verb == "run" else ()
    ended = site.verb(verb, *words, "--machine", "nowhere")
    assert ended.code == 2
    assert "no machine 'nowhere' is known" in ended.line


def test_an_image_that_lacks_the_named_file_says_so(site: Site) -> None:
    way = f"env PATH={Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = site.verb("run", "--spec", str(site.spec), "--machine", "gone.toml", "--enter", way)
    assert ended.code == 2
    assert "there is no such file inside the image" in ended.line
    assert str(site.folder) in ended.line


@pytest.mark.parametrize("content", [b"\xff", None])
def test_a_file_of_one_s_own_that_is_no_text_is_named(site: Site, content: bytes | None) -> None:
    site.configuration.mkdir(parents=True)
    path = site.configuration / "mine.toml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    ended = site.verb("run", "--spec", str(site.spec))
    assert ended.code == 2
    assert f"the machine file {path} cannot be read" in ended.line


def test_a_server_that_does_not_answer_brings_the_missing_proxy_to_mind(site: Site) -> None:
    token = site.folder / "token"
    token.touch(mode=0o600)
    token.write_text("opaque\n")
    words = ["--server", "http://127.0.0.1:1", "--panda-queue", "Q", "--credential", str(token), "--origin", "lab.test"]
    ended = site.verb("run", *words, "--machine", "aurora")
    assert ended.code == 4
    assert "a node of aurora reaches servers outside by a proxy only, and none is set: set http_proxy" in ended.line
    assert "proxy" not in site.verb("run", *words, "--machine", "localhost").line
