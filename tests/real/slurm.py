"""A real Slurm of several nodes on this one host: an own munged, one slurmctld and a slurmd for each node."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from real import processes

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol", "squeue", "scancel", "sinfo")
PACKAGES = "slurm-wlm munge"
KILL_WAIT_S = 5
CPUS_PER_NODE = 8
TERMINAL = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT")
)
# What the CPUs, ports and plug-ins are and why: CPU binding to invented CPUs cannot work (task/none), more CPUs than
# the host has are otherwise refused (config_overrides), and slurmd starts with a cgroup plug-in only, used or not.
CONFIGURATION = """\
ClusterName=pilotwrap
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge/socket
CredType=cred/munge
StateSaveLocation={home}/state
SlurmctldPidFile={home}/slurmctld.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdPidFile={home}/slurmd-%n.pid
SlurmdLogFile={home}/slurmd-%n.log
SlurmdSpoolDir={home}/spool-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
JobAcctGatherType=jobacct_gather/none
{settings}
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
MailProg=/bin/true
KillWait={kill_wait}
MinJobAge=300
NodeName=node[1-{count}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports}] CPUs={cpus} {node} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
{partitions}
"""

SETTINGS = {"TaskPlugin": "task/none", "SelectTypeParameters": "CR_CPU"}

CGROUP = "CgroupPlugin=cgroup/v1\nCgroupMountpoint={home}/cgroup\n"
"""A version-1 plug-in over an empty folder starts on any host and is never asked for anything."""


@dataclass(frozen=True)
class Variant:
    """What differs from the plain Slurm: lines of slurm.conf, and files beside it; `{home}` is its folder."""

    settings: Mapping[str, str] = field(default_factory=dict)
    node: str = ""
    """Words of the nodes' line, as `Gres=gpu:2`."""

    partitions: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    """By name: gres.conf, a prolog (made executable), or another cgroup.conf."""


PLAIN = Variant()


@dataclass(frozen=True)
class Slurm:
    """A running Slurm: `env` is the whole environment in which its clients work, `home` its state and logs."""

    home: Path
    env: Mapping[str, str]
    nodes: tuple[str, ...]

    def run(
        self, argv: Sequence[str], *, timeout_s: float = 60, check: bool = True, text_in: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in this Slurm's environment and return it with its text; stdin is empty unless given."""
        return subprocess.run(
            argv, env=self.env, input=text_in or "", capture_output=True, text=True, timeout=timeout_s, check=check
        )

    def sbatch(self, script: str, *options: str) -> int:
        """Submit a batch script's text (output: HOME/job-ID.out) and return its job id."""
        output = f"--output={self.home}/job-%j.out"
        return int(self.run(["sbatch", "--parsable", output, *options], text_in=script).stdout.split(";")[0])

    def output(self, job_id: int) -> str:
        """Return what a batch script has written to stdout and stderr so far."""
        path = self.home / f"job-{job_id}.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def state(self, job_id: int) -> str:
        """Return the job's state in Slurm's long word, as RUNNING or COMPLETED."""
        shown = self.run(["scontrol", "--oneliner", "show", "job", str(job_id)]).stdout
        return dict(word.split("=", 1) for word in shown.split() if "=" in word)["JobState"]

    def wait(self, job_id: int, *, timeout_s: float = 90) -> str:
        """Return the job's terminal state; TimeoutError when it has none by then."""
        return self.reach(job_id, TERMINAL, timeout_s=timeout_s)

    def reach(self, job_id: int, states: frozenset[str], *, timeout_s: float = 30) -> str:
        """Return the first of `states` that the job is seen in; TimeoutError when it is in none by then."""
        end = time.monotonic() + timeout_s
        while (state := self.state(job_id)) not in states:
            if time.monotonic() > end:
                raise TimeoutError(f"job {job_id} is still {state}: {self.output(job_id)[-2000:]}")
            time.sleep(0.1)  # Slurm tells nobody: it must be asked
        return state

    def cancel(self, job_id: int) -> None:
        """Cancel a job."""
        self.run(["scancel", str(job_id)], check=False)

    def cancel_all(self) -> None:
        """Cancel every job and wait until none is left in the queue."""
        self.run(["scancel", "--user=root"], check=False)
        _until(
            lambda: not self.run(["squeue", "-h"]).stdout.strip(), lambda: "Slurm's queue stays filled", timeout_s=30
        )


def why_not() -> str | None:
    """Return the sentence that says how to get a Slurm here, or None when one can be started."""
    missing = [program for program in PROGRAMS if _program(program) is None]
    if missing:
        return f"no {', '.join(missing)} here: as root, apt-get install --no-install-recommends {PACKAGES}"
    if os.geteuid() != 0:
        return "Slurm's daemons need root: run the tests as root"
    return None


@contextmanager
def started(node_count: int, variant: Variant = PLAIN) -> Iterator[Slurm]:
    """Start a Slurm with so many nodes, give it when all are idle, and end all of it."""
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="pilotwrap-slurm-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        home.chmod(0o755)
        slurm = _configured(home, node_count, variant)
        stack.callback(processes.end, f"SLURM_CONF={home}")
        for name, argv in _daemons(home, slurm.nodes):
            stack.enter_context(_daemon(name, argv, slurm))
        _until(lambda: _idle(slurm) == node_count, lambda: f"Slurm did not start: {_logs(home)}", timeout_s=30)
        stack.callback(slurm.cancel_all)
        yield slurm


@pytest.fixture(scope="session")
def slurm(request: pytest.FixtureRequest) -> Iterator[Slurm]:
    """Give a Slurm of two nodes, or of as many as an indirect parameter says."""
    if reason := why_not():
        pytest.skip(reason)
    with started(int(getattr(request, "param", 2))) as running:
        yield running


def _configured(home: Path, count: int, variant: Variant) -> Slurm:
    for name, mode in (("munge", 0o711), ("state", 0o700), ("cgroup", 0o755)):
        (home / name).mkdir()
        (home / name).chmod(mode)
    first, controller = _free_ports(count)
    text = CONFIGURATION.format(
        home=home,
        host=socket.gethostname().split(".")[0],
        controller_port=controller,
        count=count,
        ports=f"{first}-{first + count - 1}",
        cpus=CPUS_PER_NODE,
        kill_wait=KILL_WAIT_S,
        settings="\n".join(f"{key}={value}" for key, value in {**SETTINGS, **variant.settings}.items()),
        node=variant.node,
        partitions=variant.partitions,
    )
    for name, content in {"slurm.conf": text, "cgroup.conf": CGROUP, **variant.files}.items():
        (home / name).write_text(content.replace("{home}", str(home)))
        (home / name).chmod(0o755 if content.startswith("#!") else 0o644)
    (home / "munge/key").write_bytes(os.urandom(128))
    (home / "munge/key").chmod(0o400)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "PMI"))}
    path = kept.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin"
    nodes = tuple(f"node{number}" for number in range(1, count + 1))
    return Slurm(home, {**kept, "PATH": path, "SLURM_CONF": f"{home}/slurm.conf"}, nodes)


def _daemons(home: Path, nodes: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    munge = [f"--{kind}={home}/munge/{name}" for kind, name in MUNGE_FILES]
    yield "munged", [_path("munged"), "--foreground", "--force", *munge]
    yield "slurmctld", [_path("slurmctld"), "-D"]
    for node in nodes:
        yield node, [_path("slurmd"), "-D", "-N", node]


MUNGE_FILES = (
    ("key-file", "key"),
    ("socket", "socket"),
    ("pid-file", "pid"),
    ("log-file", "log"),
    ("seed-file", "seed"),
)


@contextmanager
def _daemon(name: str, argv: list[str], slurm: Slurm) -> Iterator[None]:
    with (slurm.home / f"{name}.console").open("wb") as console:
        process = subprocess.Popen(
            argv, env=slurm.env, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
        )
    try:
        if name == "munged":
            _until(
                (slurm.home / "munge/socket").exists, lambda: f"munged did not start: {_logs(slurm.home)}", timeout_s=10
            )
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _idle(slurm: Slurm) -> int:
    shown = slurm.run(["sinfo", "-h", "-N", "-p", "main", "-o", "%T"], check=False).stdout.split()
    return shown.count("idle")


def _until(true: Callable[[], bool], otherwise: Callable[[], str], *, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(otherwise())
        time.sleep(0.05)  # the daemons give no signal when they are ready


def _logs(home: Path) -> str:
    return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-600:]}" for path in home.glob("*.console"))


def _free_ports(count: int) -> tuple[int, int]:
    """Return the first of `count` neighbouring free ports for the nodes, and the one behind them."""
    for first in range(20000 + os.getpid() * 37 % 10000, 60000, count + 1):
        if all(_is_free(port) for port in range(first, first + count + 1)):
            return first, first + count
    raise OSError("no free ports for Slurm")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin")


def _path(name: str) -> str:
    found = _program(name)
    if found is None:
        raise FileNotFoundError(name)
    return found
