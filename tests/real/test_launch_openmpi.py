"""The real Open MPI and the real hydra: an MPI program over one host and over two, each rank through the shim."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from plan.facts import alike, allocation, job, node
from real import hosts
from real.mpi import SOURCE

from pilotwrap.host import __main__ as host_main
from pilotwrap.host.launch import own_environment
from pilotwrap.host.spawn import environment_of
from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import Flavour
from pilotwrap.model.plan import Plan
from pilotwrap.plan.plan import plan
from pilotwrap.plan.request import PlanRequest
from pilotwrap.run.orders import Payload, shim_file
from pilotwrap.run.results import shim_results
from pilotwrap.run.verdict import outcome, rank_outcome

PILOTWRAP = (sys.executable, "-m", "pilotwrap")
OPENMPI = ("mpiexec.openmpi", "mpicc.openmpi", "apt-get install openmpi-bin libopenmpi-dev gcc libc6-dev")
HYDRA = ("mpiexec.hydra", "mpicc.mpich", "apt-get install mpich libmpich-dev gcc libc6-dev")
PARTS: dict[Flavour, tuple[str, str, str]] = {"openmpi": OPENMPI, "hydra": HYDRA}


def compiled(flavour: Flavour, folder: Path) -> Path:
    """Return the MPI program for this MPI."""
    launcher, compiler, remedy = PARTS[flavour]
    if shutil.which(launcher) is None or shutil.which(compiler) is None:
        pytest.skip(f"no {launcher} with its compiler: as root, {remedy}")
    program = folder / "mpi_hello"
    subprocess.run([compiler, "-O1", "-o", str(program), str(SOURCE)], check=True, stdin=subprocess.DEVNULL)
    return program


class Launch:
    """A plan for these hosts and this launcher, and its shim's file."""

    def __init__(self, folder: Path, flavour: Flavour, nodes: tuple[str, ...], spec: JobSpec) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.results.mkdir()
        shim = (sys.executable, "-I", "-S", str(host_main.__file__), "shim", str(folder / "shim.json"))
        facts = node(tuple(map(str, sorted(os.sched_getaffinity(0)))), given=allocation(nodes), launcher="mpiexec")
        path = shutil.which(PARTS[flavour][0])
        facts = facts.model_copy(
            update={"launcher": facts.launcher.model_copy(update={"flavour": flavour, "path": path})}
        )
        self.plan: Plan = plan(PlanRequest(job=spec, allocation=alike(facts), shim=shim))
        order = shim_file(self.plan, Payload("j", str(folder), str(folder), None), str(self.results))
        (folder / "shim.json").write_text(json.dumps(order))

    def environment(self, **own: str) -> dict[str, str]:
        """Return what the starter gives the launcher."""
        launch = self.plan.launch
        order: dict[str, object] = {"keep": list(launch.keep), "unset": list(launch.unset), "env": launch.env}
        return environment_of(order, {**own_environment(), **own})

    def run(self, **own: str) -> "subprocess.CompletedProcess[str]":
        """Launch it on the first of two hosts."""
        remote = str(hosts.remote_shell(self.folder))
        ways = {"OMPI_MCA_plm_rsh_agent": remote, "HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": remote}
        quiet = {"OMPI_MCA_btl": "tcp,self", "OMPI_MCA_pml": "ob1", "OMPI_MCA_btl_tcp_if_include": "eth0"}
        return hosts.run_on_first(self.folder, self.plan.launch.argv, self.environment(**ways, **quiet, **own))

    def told(self) -> dict[int, dict[str, Any]]:
        """Return what the ranks have left about an end that was not good."""
        found = [json.loads(path.read_text()) for path in self.results.glob("rank-*.json")]
        return {result["rank"]: result for result in found}


@pytest.fixture
def two_hosts() -> tuple[str, ...]:
    """Give the names of two hosts that can be made here."""
    why = hosts.missing()
    if why:
        pytest.skip(why)
    return hosts.HOSTS


@pytest.mark.parametrize("flavour", PARTS)
def test_a_real_mpi_program_runs_over_two_hosts(flavour: Flavour, two_hosts: tuple[str, ...], tmp_path: Path) -> None:
    program = compiled(flavour, tmp_path)
    spec = job(command=[str(program)], mode="mpi", nodes=2, ranks_per_node=2, binding="none")
    launch = Launch(tmp_path, flavour, two_hosts, spec)
    done = launch.run()
    assert done.returncode == 0, (launch.plan.launch.argv, done)
    assert sorted(done.stdout.splitlines()) == [f"rank {rank} of 4 on node{rank // 2 + 1}" for rank in range(4)]
    assert launch.told() == {}


@pytest.mark.parametrize("flavour", PARTS)
def test_each_rank_is_on_the_cores_that_were_promised_on_either_host(
    flavour: Flavour, two_hosts: tuple[str, ...], tmp_path: Path
) -> None:
    compiled(flavour, tmp_path)
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("only one CPU here")
    line = 'echo "$PILOTWRAP_RANK $PILOTWRAP_LOCAL_RANK $(grep -o "list:.*" /proc/self/status | head -n 1)"'
    spec = job(command=["sh", "-c", line], mode="mpi", nodes=2, ranks_per_node=2, cpus_per_rank=1)
    launch = Launch(tmp_path, flavour, two_hosts, spec)
    done = launch.run()
    bound = {one.local_rank: one.cpus for one in launch.plan.bindings}
    said = [line.replace("list:\t", "") for line in done.stdout.splitlines()]
    assert sorted(said) == [f"{rank} {rank % 2} {bound[rank % 2]}" for rank in range(4)], done


FAILING = {
    "before MPI begins": "exit 3",
    "within MPI": "{program} die",
    "by a signal": "kill -SEGV $$",
}


@pytest.mark.parametrize("way", FAILING)
@pytest.mark.parametrize("failing", [0, 3])
@pytest.mark.parametrize("flavour", PARTS)
def test_a_rank_that_fails_ends_the_others_on_both_hosts_at_once(
    flavour: Flavour, failing: int, way: str, two_hosts: tuple[str, ...], tmp_path: Path
) -> None:
    program = compiled(flavour, tmp_path)
    fails = FAILING[way].format(program=program)
    stays = f"exec {program} {hosts.MARK}" if way == "within MPI" else f"exec sleep {hosts.MARK}"
    line = f"if [ $PILOTWRAP_RANK = {failing} ]; then {fails}; else {stays}; fi"
    spec = job(command=["sh", "-c", line], mode="mpi", nodes=2, ranks_per_node=2, binding="none")
    launch = Launch(tmp_path, flavour, two_hosts, spec)
    began = time.monotonic()
    done = launch.run()
    assert time.monotonic() - began < 15, done
    assert " left" not in done.stdout, done
    told = outcome([rank_outcome(None, "node1", {"exit_code": done.returncode})], shim_results(launch.results))
    host = two_hosts[failing // 2]
    code, how = (139, "was ended by signal 11") if way == "by a signal" else (3, "exited with code 3")
    assert (told.exit_code, told.detail) == (code, f"the payload {how} (rank {failing} on {host})"), (done, told)


def test_open_mpi_ends_all_ranks_with_one_in_mode_mpi_and_none_in_mode_copies(
    two_hosts: tuple[str, ...], tmp_path: Path
) -> None:
    compiled("openmpi", tmp_path)
    last = {"mpi": "exec sleep 300", "copies": "sleep 1; echo well"}
    for mode, then in last.items():
        folder = tmp_path / mode
        folder.mkdir()
        line = f"[ $PILOTWRAP_RANK != 3 ] || exit 7; {then}"
        spec = job(command=["sh", "-c", line], mode=mode, nodes=2, ranks_per_node=2, binding="none")
        launch = Launch(folder, "openmpi", two_hosts, spec)
        done = launch.run()
        told = launch.told()
        assert (told[3]["exit_code"], told[3]["host"]) == (7, "node2"), (done, told)
        # Open MPI's KILL may be faster than what an ended rank has to say of itself
        expected = set(told) >= {3} if mode == "mpi" else set(told) == {3}
        assert expected, (done, told)
        assert done.stdout.count("well") == (0 if mode == "mpi" else 3), (done, told)


def test_a_whole_run_on_this_host_uses_the_open_mpi_of_the_user_s_path(tmp_path: Path) -> None:
    program = compiled("openmpi", tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, target in {"mpiexec": "mpiexec.openmpi", "ompi_info": "ompi_info"}.items():
        real = shutil.which(target)
        if real is None:
            pytest.skip(f"no {target}: as root, {OPENMPI[2]}")
        (programs / name).write_text(f'#!/bin/sh\nexec {real} "$@"\n')
        (programs / name).chmod(0o755)
    (tmp_path / "job.json").write_text(
        json.dumps({"command": [str(program)], "mode": "mpi", "ranks_per_node": 2, "binding": "none"})
    )
    words = ["run", "--spec", str(tmp_path / "job.json"), "--run-dir", str(tmp_path / "runs"), "--json"]
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "OMPI_MCA_pml": "ob1"}
    done = subprocess.run(
        [*PILOTWRAP, *words], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done
    (said,) = (tmp_path / "runs").glob("??/*/jobs/*/stdout")
    here = os.uname().nodename
    assert sorted(said.read_text().splitlines()) == [f"rank {rank} of 2 on {here}" for rank in range(2)]
    plans = (path.read_text() for path in (tmp_path / "runs").glob("??/*/plans/*.json"))
    assert any("started by openmpi" in text for text in plans)
