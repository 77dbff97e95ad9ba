"""A lab with jobs in it, and runs of the real program against it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = [sys.executable, "-m", "pilotwrap"]
FINAL = {"finished", "failed", "cancelled", "closed"}
PATIENCE_S = 60.0


def until(claim: Callable[[], Any], what: str = "", within_s: float = PATIENCE_S, every_s: float = 0.01) -> Any:  # noqa: ANN401
    """Return the first true value of a claim that is looked at again and again."""
    deadline = time.monotonic() + within_s
    while not (found := claim()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what or claim}"
        time.sleep(every_s)
    return found


def alive_under(folder: Path) -> dict[int, str]:
    """Return the processes that stand in a folder or name it in their words, other than this one."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            inside = (entry / "cwd").readlink().is_relative_to(folder)
            zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if not zombie and (inside or str(folder) in words):
            found[int(entry.name)] = words
    return found


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        assert self.out, self
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def line(self) -> str:
        """The one line that says what was wrong."""
        lines = [line for line in self.err.splitlines() if line.startswith("pilotwrap: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


@dataclass
class Run:
    """One `pilotwrap run`, living; `folder` is where it stands and where its run directories are."""

    child: subprocess.Popen[str]
    folder: Path

    @property
    def directory(self) -> Path | None:
        return next(iter(self.folder.glob("runs/??/*/lock")), Path("/nowhere/lock")).parent if self.made else None

    @property
    def made(self) -> bool:
        return any(self.folder.glob("runs/??/*/lock"))

    @property
    def journal(self) -> list[dict[str, Any]]:
        paths = self.folder.glob("runs/??/*/journal.jsonl")
        return [json.loads(line) for path in paths for line in path.read_bytes().split(b"\n")[:-1]]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.journal if event["event"] == name]

    @property
    def controller(self) -> int:
        """The controller's process id; 0 before it is there."""
        try:
            children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()
        except OSError:
            return 0
        for pid in children:
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"controller" in words:
                return int(pid)
        return 0

    def end(self, within_s: float = PATIENCE_S) -> Ended:
        try:
            out, err = self.child.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.communicate()
            raise
        return Ended(self.child.returncode, out, err)


@dataclass
class Rig:
    path: Path
    lab: LabProcess
    runs: list[Run] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.storage = self.path / "storage"
        self.storage.mkdir(exist_ok=True)
        self.map = self.path / "storage.json"
        self.map.write_text(json.dumps({"LAB": f"{self.storage.as_uri()}/"}))

    def put(self, *specs: dict[str, Any], queue: str = "") -> list[int]:
        jobs = [panda_job(spec, "test") for spec in specs]
        with closing(Store(self.lab.db)) as store:
            return [one["panda_id"] for one in put_jobs(store, jobs, queue)]

    def sh(self, script: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
        return {"command": ["sh", "-c", script], "cpus_per_rank": 1, **more}

    @property
    def server_words(self) -> list[str]:
        address = self.lab.address
        return [
            *("--server", address.url, "--panda-queue", address.panda_queue),
            *("--credential", str(address.token_path), "--origin", address.origin),
        ]

    def start(self, *words: str, folder: Path | None = None, prefix: tuple[str, ...] = ()) -> Run:
        """Start `run` with these words; with a lab's server and storage if no spec is among them."""
        folder = folder or self.path / f"run-{len(self.runs)}"
        folder.mkdir(exist_ok=True)
        given = [] if "--spec" in words or "--server" in words else [*self.server_words, "--storage", str(self.map)]
        argv = [*prefix, *PROGRAM, "run", *given, "--run-dir", str(folder / "runs"), *words]
        child = subprocess.Popen(
            argv,
            cwd=folder,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.runs.append(Run(child, folder))
        return self.runs[-1]

    def run(self, *words: str) -> Ended:
        return self.start(*words).end()

    def verb(self, *words: str) -> Ended:
        done = subprocess.run(
            [*PROGRAM, *words], cwd=self.path, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def flush(self, folder: Path, *words: str) -> Ended:
        return self.verb("flush", str(folder / "runs"), "--json", *words)

    @property
    def jobs(self) -> dict[int, dict[str, Any]]:
        with closing(Store(self.lab.db)) as store:
            return {int(str(job["panda_id"])): dict(job) for job in listed_jobs(store)}

    def job(self, panda_id: int) -> dict[str, Any]:
        return self.jobs[panda_id]

    def final(self, *panda_ids: int) -> list[dict[str, Any]]:
        """Wait until these jobs are in a final state, and return them."""
        until(lambda: all(self.job(one)["state"] in FINAL for one in panda_ids), f"{panda_ids} are final")
        return [self.job(one) for one in panda_ids]

    def kill_runs(self) -> None:
        """End what lives of the runs; a test's last net."""
        for run in self.runs:
            if run.child.poll() is None:
                run.child.kill()
            run.child.wait()
            for stream in (run.child.stdout, run.child.stderr):
                if stream:
                    stream.close()

    def nothing_left(self) -> None:
        for run in self.runs:
            until(lambda run=run: not alive_under(run.folder), f"nothing lives in {run.folder}", 15)


def rigs(path: Path, *options: str) -> Iterator[Rig]:
    """Yield a rig on a lab of its own; at its end nothing may live any more."""
    path.chmod(0o755)
    with LabProcess(path / "lab.sqlite", options) as lab:
        rig = Rig(path, lab)
        try:
            yield rig
        finally:
            rig.kill_runs()


def states(job: dict[str, Any]) -> list[str]:
    return [str(entry["state"]) for entry in job["history"]]
