"""A pilotwrap worker in a batch job of the real Slurm, fed by the lab's server over real HTTP."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from real import processes
from real.slurm import Slurm

from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.store import Store

REPOSITORY = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "pilotwrap")
IN_A_STEP = ("srun", "--nodes=1", "--ntasks=1", "--overlap")
"""As a Globus Compute worker is started."""

ENDED = frozenset({"finished", "failed", "cancelled", "closed"})

Listed = Mapping[str, Any]


def until(true: Callable[[], bool], what: str, timeout_s: float = 30.0) -> float:
    """Wait until it is true and return how long that took."""
    begun = time.monotonic()
    while not true():
        if time.monotonic() > begun + timeout_s:
            raise TimeoutError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.02)  # files, processes and Slurm give no signal
    return time.monotonic() - begun


@dataclass
class Worker:
    """One run of pilotwrap as a batch job; its home holds all its files."""

    slurm: Slurm
    lab: LabProcess
    home: Path
    job_id: int = 0
    submitted: list[int] = field(default_factory=list)

    @property
    def queue(self) -> str:
        """Return this worker's own queue."""
        return f"Q_{self.home.name}"

    def put(self, command: Sequence[str], **shape: object) -> int:
        """Put a job into this worker's queue and return its panda_id."""
        job = panda_job({"command": list(command), **shape}, "test")  # type: ignore[dict-item]
        return put_jobs(Store(self.lab.db), [job], self.queue)[0]["panda_id"]

    def argv(self, *options: str) -> list[str]:
        """Return the command line of the worker."""
        at = self.lab.address
        (self.home / "storage").mkdir(exist_ok=True)
        (self.home / "storage.json").write_text(json.dumps({"": f"file://{self.home}/storage/"}))
        words = ["run", "--json", "--server", at.url, "--panda-queue", self.queue, "--credential", str(at.token_path)]
        words += ["--origin", at.origin, "--run-dir", str(self.home / "runs")]
        return [*PROGRAM, *words, "--storage", str(self.home / "storage.json"), *options]

    def start(
        self,
        *options: str,
        within: Sequence[str] = (),
        minutes: int = 5,
        lasting: bool = False,
        tasks_per_node: int = 4,
        asking: Sequence[str] = (),
    ) -> int:
        """Submit the batch job: its script becomes the starter, or the words of `within` and it.

        A `lasting` script outlives the starter, so that it is not Slurm who cleans up. `asking` are further options of
        sbatch, which overrule ours.
        """
        line = shlex.join([*within, *self.argv(*options)]) + " > report.json 2> log"
        line = f"{line}\necho $? > code\nexec sleep 600" if lasting else f"exec {line}"
        script = f"#!/bin/sh\ncd {shlex.quote(str(self.home))}\necho $$ > shell\n{line}\n"
        asked = (f"--nodes={len(self.slurm.nodes)}", f"--ntasks-per-node={tasks_per_node}", f"--time={minutes}")
        self.job_id = self.slurm.sbatch(script, *asked, *asking)
        self.submitted.append(self.job_id)
        return self.job_id

    def listed(self, panda_id: int) -> Listed:
        """Return the job as the server has it."""
        return next(job for job in listed_jobs(Store(self.lab.db)) if job["panda_id"] == panda_id)

    def told(self, panda_id: int) -> bool:
        """Tell whether the server has the job's terminal state."""
        return self.listed(panda_id)["state"] in ENDED

    def verdict(self, panda_id: int) -> Listed:
        """Wait for the job's terminal state at the server, which is `holding` for a moment, and return the job."""
        until(lambda: self.told(panda_id), f"told; {self.log}")
        return self.listed(panda_id)

    def report(self) -> Mapping[str, Any]:
        """Return the RunReport that the worker printed."""
        found: Mapping[str, Any] = json.loads((self.home / "report.json").read_text())
        return found

    def ended(self) -> str:
        """Wait for the batch job's end and return its state."""
        return self.slurm.wait(self.job_id)

    def done(self) -> None:
        """Wait for the starter's end in a lasting script."""
        until((self.home / "code").exists, f"the starter's end; {self.log}", 60)

    @property
    def log(self) -> str:
        """Return what the worker said on stderr."""
        path = self.home / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def run_dir(self) -> Path:
        """Return the run's directory."""
        return next((self.home / "runs").glob("??/*"))

    def printed(self, panda_id: int) -> list[str]:
        """Return the lines of a job's stdout so far."""
        return [line for path in (self.home / "runs").glob(f"??/*/jobs/{panda_id}-*/stdout") for line in _lines(path)]

    def running(self, panda_id: int, lines: int) -> None:
        """Wait until the job has printed so many lines."""
        until(lambda: len(self.printed(panda_id)) >= lines, f"{lines} lines of {panda_id}; {self.log}")

    def processes(self) -> dict[int, str]:
        """Return what lives of this batch job on either node, but a lasting script: ours, payloads', launcher's."""
        found = {pid: _command_line(pid) for pid in self._of(self.job_id)}
        return {pid: line for pid, line in found.items() if pid != self._shell}

    def _of(self, job_id: int) -> list[int]:
        """Return the processes of one job of this Slurm; another on this host has jobs of the same number."""
        own = set(processes.marked(f"SLURM_CONF={self.slurm.home}/"))
        return [pid for pid in processes.marked(f"SLURM_JOB_ID={job_id}\0") if pid in own]

    @property
    def _shell(self) -> int:
        return int((self.home / "shell").read_text()) if (self.home / "code").exists() else 0

    @property
    def starter(self) -> int:
        """Return the starter's process."""
        return self.one(" ".join([*PROGRAM, "run "]))

    @property
    def controller(self) -> int:
        """Return the controller's process."""
        return self.one(" ".join([*PROGRAM, "controller"]))

    def term(self) -> None:
        """Ask the starter to end."""
        os.kill(self.starter, signal.SIGTERM)

    @contextmanager
    def silent(self, node: str) -> Iterator[None]:
        """Have a node's daemon not answer for a while."""
        daemons = [pid for pid in processes.marked(f"SLURM_CONF={self.slurm.home}") if _is_daemon(pid, node)]
        for pid in daemons:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in daemons:
                os.kill(pid, signal.SIGCONT)

    def answers(self) -> int:
        """Return how many nodes have answered the survey."""
        return len(list((self.home / "runs").glob("??/*/survey/*.json")))

    def one(self, *words: str) -> int:
        """Return the process of this worker whose command line begins with any of these words."""
        found = [pid for pid, line in self.processes().items() if line.startswith(words)]
        if not found:
            raise LookupError(f"no process {words} in {self.processes()}")
        return min(found)

    def nothing_left(self, timeout_s: float = 10.0) -> float:
        """Wait until no process and no step is left, and return how long that took."""
        took = until(lambda: not self.processes(), "nothing left", timeout_s)
        until(lambda: not self.steps(), "no step left", timeout_s)
        return took

    def steps(self) -> list[str]:
        """Return the job's steps that Slurm still has, besides the batch script."""
        shown = self.slurm.run(["squeue", "-h", "-s", "-j", str(self.job_id), "-o", "%i"], check=False).stdout.split()
        return [step for step in shown if not step.endswith((".batch", ".extern"))]

    def begun_again(self) -> None:
        """Wait for the second life of a requeued job, sooner than after Slurm's two minutes.

        Those are there so that no node refuses it: whatever was submitted or begins in the second in which a node ended
        the first life, or before it, counts as that life ("already killed, do not launch batch job").
        """
        self.slurm.reach(self.job_id, frozenset({"PENDING"}))
        self.slurm.run(["scontrol", "update", f"jobid={self.job_id}", "StartTime=now+2"])
        begun = self.home / "runs"
        what = f"a second life; {self.log}"
        until(lambda: len(list(begun.glob("??/*/lock"))) > 1, what, 30)

    def flush(self) -> Mapping[str, Any]:
        """Send what the dead run left."""
        argv = [*PROGRAM, "flush", str(self.home / "runs"), "--json"]
        said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        found: Mapping[str, Any] = json.loads(said.stdout)
        return found

    def end(self) -> None:
        """End what a failed test left."""
        for job_id in self.submitted:
            self.slurm.cancel(job_id)
            for pid in self._of(job_id):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _is_daemon(pid: int, node: str) -> bool:
    line = _command_line(pid)
    return "slurmd " in line and f"-N {node} " in line


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """Give a running lab server."""
    with LabProcess(tmp_path_factory.mktemp("lab") / "lab.sqlite") as running:
        yield running


@pytest.fixture
def worker(slurm: Slurm, lab: LabProcess, tmp_path: Path) -> Iterator[Worker]:
    """Give a worker that is not started yet."""
    made = Worker(slurm, lab, tmp_path)
    yield made
    made.end()
