"""A run across the container wall: the starter on a host without pilotwrap, the controller inside an image."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from real import processes
from real.image import ONLY_HERE, Image
from run.rig import Ended, Rig, Run, alive_under, rigs, states, until

WAYS_IN = {
    "no such program": ("no-such-runtime IMAGE", "start no-such-runtime"),
    "no such image": ("ch-run {home}/nothing --", "before its first word"),
    "an option that the runtime does not know": ("ch-run --no-such-option {image} --", "before its first word"),
    "an image without pilotwrap": ("ch-run {image} -- env PATH=/nowhere", "before its first word"),
    "an environment that the runtime refuses": ("env -u USER ch-run {image} --", "before its first word"),
    "a program that only echoes": ("echo", "before its first word"),
    "a program that answers nonsense": ("sh -c 'echo {{nonsense; exec sleep 60'", "starter > starter.pyz"),
    "a program that answers other words": ("sh -c 'echo {{}}; exec sleep 60'", "starter > starter.pyz"),
    "a program that prints for ever": ("yes", "never starts pilotwrap"),
}


def host_pythons() -> dict[str, str]:
    """Return the system's Python, the oldest that a host may have where this machine has it, or at least our own."""
    pyenv = sorted(str(path) for path in (Path.home() / ".pyenv" / "versions").glob("3.6*/bin/python3"))
    found = {"system": ["/usr/bin/python3"], "3.6": [*pyenv, *filter(None, [shutil.which("python3.6")])]}
    ask = ["-I", "-S", "-c", "import json"]
    works = {
        name: [
            path for path in paths if Path(path).exists() and not subprocess.run([path, *ask], check=False).returncode
        ]
        for name, paths in found.items()
    }
    return {name: paths[-1] for name, paths in works.items() if paths} or {"own": sys.executable}


PYTHONS = host_pythons()


@dataclass
class Wall(Rig):
    """A rig whose runs are started on the host by the one file alone, and enter the image."""

    python: str = ""
    starter: Path = Path()
    image: Image = field(default_factory=lambda: Image(Path()))
    enter: str = ""

    def start(self, *words: str, folder: Path | None = None, prefix: tuple[str, ...] = ()) -> Run:
        folder = folder or self.path / f"run-{len(self.runs)}"
        folder.mkdir(exist_ok=True)
        given = [] if "--spec" in words or "--server" in words else [*self.server_words, "--storage", str(self.map)]
        enter = self.enter or shlex.join(self.image.enter)
        where = [] if "--run-dir" in words else ["--run-dir", str(folder / "runs")]
        argv = [*prefix, self.python, "-I", str(self.starter), "run", "--enter", enter, *given, *where, *words]
        child = subprocess.Popen(
            argv,
            cwd=folder,
            env={**self.image.env, "WALL": str(self.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self.runs.append(Run(child, folder))
        return self.runs[-1]

    def verb(self, *words: str) -> Ended:
        done = self.image.run(["pilotwrap", *words])
        return Ended(done.returncode, done.stdout, done.stderr)

    def spec(self, script: str, folder: Path | None = None) -> str:
        path = (folder or self.path) / "job.json"
        path.write_text(json.dumps(self.sh(script)))
        return str(path)

    def nothing_left(self) -> None:
        def alive() -> dict[int, str]:
            entered = dict.fromkeys(processes.marked(f"WALL={self.path}\x00"), "entered")
            return {**entered, **{pid: line for run in self.runs for pid, line in alive_under(run.folder).items()}}

        until(lambda: not alive(), f"nothing lives: {alive()}", 30)


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a folder that ch-run shows to the image by itself."""
    with tempfile.TemporaryDirectory(prefix="pilotwrap-wall-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture(params=PYTHONS)
def wall(request: pytest.FixtureRequest, image: Image, printed_starter: Path, home: Path) -> Iterator[Wall]:
    """Give a rig under each of the host's Pythons."""
    yield from walls(PYTHONS[request.param], image, printed_starter, home)


@pytest.fixture
def one_wall(image: Image, printed_starter: Path, home: Path) -> Iterator[Wall]:
    """Give a rig under one Python, where it does not matter which."""
    yield from walls(next(iter(PYTHONS.values())), image, printed_starter, home)


def walls(python: str, image: Image, starter: Path, home: Path) -> Iterator[Wall]:
    for rig in rigs(home):
        made = Wall(rig.path, rig.lab, rig.runs, python=python, starter=starter, image=image)
        try:
            yield made
            made.nothing_left()
        finally:
            processes.end(f"WALL={home}\0")


@pytest.fixture
def hidden(image: Image) -> Iterator[Path]:
    """Give a folder that the image does not see, unless it is bound: the image has a place for that."""
    with tempfile.TemporaryDirectory(prefix="pilotwrap-hidden-", dir="/var/tmp") as path:
        inside = image.directory / path.lstrip("/")
        yield Path(path)
        shutil.rmtree(inside, ignore_errors=True)


def bound(wall: Wall, folder: Path) -> str:
    """Return the way into the image with a folder bound, for which ch-run needs a place in the image."""
    (wall.image.directory / str(folder).lstrip("/")).mkdir(parents=True, exist_ok=True)
    return shlex.join(["ch-run", "--bind", f"{folder}:{folder}", str(wall.image.directory), "--"])


def mounts(pid: int | str = "self") -> str:
    return str(Path(f"/proc/{pid}/ns/mnt").readlink())


# ---- what runs where


def test_the_host_s_python_knows_no_pilotwrap(wall: Wall) -> None:
    tried = subprocess.run([wall.python, "-I", "-c", "import pilotwrap"], capture_output=True, check=False)
    assert b"ModuleNotFoundError" in tried.stderr


def test_the_payload_runs_on_the_host_and_the_controller_in_the_image(wall: Wall) -> None:
    script = f"readlink /proc/self/ns/mnt; ls {ONLY_HERE}; until test -e go; do sleep 0.05; done"
    run = wall.start("--spec", wall.spec(script), "--json")
    until(lambda: list(run.folder.glob("runs/??/*/jobs/*/stdout")), "the payload's first words")
    assert mounts(run.controller) != mounts(), "the controller is not in the image"
    assert Path(f"/proc/{run.controller}/root{ONLY_HERE}").exists()
    (stdout,) = run.folder.glob("runs/??/*/jobs/*/stdout")
    until(lambda: stdout.read_text().endswith("\n"), "its whole line")
    (run.folder / "go").touch()
    ended = run.end()
    assert (ended.code, ended.report["state"]) == (0, "finished"), ended
    assert stdout.read_text() == mounts() + "\n", "the payload is not on the host"
    assert "No such file" in (stdout.with_name("stderr")).read_text()


def test_a_panda_job_is_fetched_run_staged_and_reported(wall: Wall) -> None:
    text = b"b\na\n"
    (wall.storage / "in.txt").write_bytes(text)
    given = {"lfn": "in.txt", "size": len(text), "adler32": f"{zlib.adler32(text):08x}", "endpoint": "LAB"}
    made = {"lfn": "out.txt", "endpoint": "LAB"}
    work = "sort in.txt > out.txt; readlink /proc/self/ns/mnt"
    (job,) = wall.put(wall.sh(work, inputs=[given], outputs=[made]))
    ended = wall.run("--json")
    assert ended.code == 0, ended
    assert wall.final(job)[0]["state"] == "finished"
    assert wall.job(job)["reports"] == 1
    assert (wall.storage / "out.txt").read_text() == "a\nb\n"
    (log,) = wall.storage.glob("*.tgz")
    with tarfile.open(log) as opened:
        (name,) = [name for name in opened.getnames() if name.endswith("stdout")]
        member = opened.extractfile(name)
        assert member is not None
        assert member.read().decode().strip() == mounts()


def test_relative_names_mean_the_folder_where_the_starter_stands(wall: Wall) -> None:
    folder = wall.path / "here"
    folder.mkdir()
    wall.spec("pwd", folder)
    run = wall.start("--spec", "job.json", "--run-dir", "runs", "--json", folder=folder)
    ended = run.end()
    assert ended.code == 0, ended
    (stdout,) = folder.glob("runs/??/*/jobs/*/stdout")
    assert stdout.read_text() == f"{folder}\n"


# ---- deaths


@pytest.mark.parametrize("victim", ["starter", "controller"])
def test_a_kill_of_either_side_leaves_nothing_on_both_and_is_told_once(wall: Wall, victim: str) -> None:
    (job,) = wall.put(wall.sh("setsid sleep 301 & trap '' TERM; sleep 302 & wait; sleep 303"))
    run = wall.start("--json")
    until(lambda: run.events("Started"), "it runs")
    assert mounts(run.controller) != mounts()
    os.kill(run.child.pid if victim == "starter" else run.controller, signal.SIGKILL)
    wall.nothing_left()
    ended = run.end()
    assert ended.code == (-signal.SIGKILL if victim == "starter" else 70)
    assert victim == "starter" or "pilotwrap flush" in ended.line
    flushed = wall.flush(run.folder)
    assert flushed.code == 0, flushed
    assert (wall.final(job)[0]["state"], wall.job(job)["reports"]) == ("failed", 1)
    assert wall.flush(run.folder).report["told"] == 0


def test_term_to_the_starter_is_told_within_5_s(wall: Wall) -> None:
    (job,) = wall.put(wall.sh("sleep 300"))
    run = wall.start("--json")
    until(lambda: "running" in states(wall.job(job)), "it runs")
    run.child.terminate()
    until(lambda: wall.job(job)["reports"], "told", 5)
    assert run.end().code == 143
    assert wall.final(job)[0]["state"] == "failed"


# ---- what one side does not see


def refused(ended: Ended, code: int, reason: str, folder: Path) -> None:
    """Check the exit code, the reason, and that the one line says what to bind."""
    assert ended.code == code, ended
    assert (ended.report["reason"], ended.report["jobs"]) == (reason, [])
    assert f"bind {folder} into the image" in ended.line


def copied(wall: Wall, hidden: Path, option: str) -> Sequence[str]:
    """Return the words of a run for which one thing lies where the image does not see it."""
    words = dict(zip(wall.server_words[::2], wall.server_words[1::2], strict=True)) | {"--storage": str(wall.map)}
    if option == "--spec":
        return ["--spec", wall.spec("true", hidden)]
    if option == "folder":
        (hidden / "map.json").write_text(json.dumps({"LAB": f"file://{hidden}/"}))
        return [word for pair in (words | {"--storage": str(hidden / "map.json")}).items() for word in pair]
    shutil.copy(words[option], hidden / "file")
    return [word for pair in (words | {option: str(hidden / "file")}).items() for word in pair]


@pytest.mark.parametrize(
    ("option", "code", "reason"),
    [("--spec", 2, "bad-input"), ("--storage", 2, "bad-input"), ("--credential", 3, "credential")],
)
def test_a_file_that_the_image_does_not_see_is_named_with_the_remedy(
    one_wall: Wall, hidden: Path, option: str, code: int, reason: str
) -> None:
    (job,) = one_wall.put(one_wall.sh("true"))
    words = copied(one_wall, hidden, option)
    refused(one_wall.run(*words, "--json"), code, reason, hidden)
    assert states(one_wall.job(job))[-1] == "activated", "no job was taken"
    one_wall.enter = bound(one_wall, hidden)
    assert one_wall.run(*words, "--json").code == 0


def test_a_storage_folder_that_the_image_does_not_see_is_found_before_any_job_is_taken(
    one_wall: Wall, hidden: Path
) -> None:
    (job,) = one_wall.put(one_wall.sh("true"))
    words = list(copied(one_wall, hidden, "folder"))
    place = words.index("--storage") + 1
    words[place] = shutil.copy(words[place], one_wall.path / "map.json")
    refused(one_wall.run(*words, "--json"), 2, "bad-input", hidden)
    assert states(one_wall.job(job))[-1] == "activated", "no job was taken"


@pytest.mark.parametrize(("writable", "reason"), [("", "environment"), ("--write", "image")])
def test_a_run_directory_that_only_one_side_has_is_found_before_any_job_is_taken(
    one_wall: Wall, hidden: Path, writable: str, reason: str
) -> None:
    (job,) = one_wall.put(one_wall.sh("true"))
    one_wall.enter = " ".join(["ch-run", writable, str(one_wall.image.directory), "--"])
    runs = str(hidden / "runs")
    refused(one_wall.run("--run-dir", runs, "--json"), 3, reason, hidden / "runs")
    assert states(one_wall.job(job))[-1] == "activated", "no job was taken"
    one_wall.enter = bound(one_wall, hidden)
    assert one_wall.run("--run-dir", runs, "--json").code == 0
    assert one_wall.final(job)[0]["state"] == "finished"


# ---- what does not fit together


def test_an_old_starter_and_a_new_image_end_with_the_line_that_refreshes(one_wall: Wall) -> None:
    text = one_wall.starter.read_text()
    assert text.count("PROTOCOL = 1\\n") == 1
    old = one_wall.path / "old.pyz"
    old.write_text(text.replace("PROTOCOL = 1\\n", "PROTOCOL = 0\\n"))
    one_wall.starter = old
    ended = one_wall.run("--spec", one_wall.spec("true"))
    assert ended.code == 3, ended
    assert "pilotwrap starter > starter.pyz" in ended.line


@pytest.mark.parametrize("way", WAYS_IN)
def test_a_wrong_way_in_is_one_line_and_exit_3(one_wall: Wall, way: str) -> None:
    enter, said = WAYS_IN[way]
    one_wall.enter = enter.format(home=one_wall.path, image=one_wall.image.directory)
    ended = one_wall.run("--spec", one_wall.spec("true"))
    assert ended.code == 3, ended
    assert said in ended.line
    assert ended.out == ""
