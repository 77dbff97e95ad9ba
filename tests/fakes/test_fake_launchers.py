"""Whole runs under launchers and batch systems that cannot be had: by programs that take the real one's words alone.

Each rank has the name of its node by a UTS namespace of its own, which only root may make.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
PILOTWRAP = (sys.executable, "-m", "pilotwrap")
TELL = 'echo "$PILOTWRAP_RANK $PILOTWRAP_LOCAL_RANK $PILOTWRAP_SIZE $(hostname)"'
PROGRAMS = {"mpiexec": "pals", "jsrun": "jsrun", "aprun": "aprun", "flux": "flux", "qstat": "qstat", "bjobs": "bjobs"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives ranks the names of hosts: sudo")


@dataclass(frozen=True)
class Site:
    """A batch system's environment: two nodes, and the host where its script runs."""

    launcher: str
    variables: Mapping[str, str]
    script_on: str
    nodes: tuple[str, str] = ("node1", "node2")


SITES = {
    "pals": Site(
        "mpiexec", {"PBS_JOBID": "1.pbs", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_NODEFILE": "{nodefile}"}, "node1"
    ),
    "jsrun": Site("jsrun", {"LSB_JOBID": "1", "LSB_MCPU_HOSTS": "batch1 1 node1 2 node2 2"}, "batch1"),
    "aprun": Site("aprun", {"COBALT_JOBID": "1", "COBALT_PARTNAME": "3-4"}, "mom1", ("nid00003", "nid00004")),
    "flux": Site("flux", {"FLUX_URI": "local:///run/flux/local"}, "node1"),
}


class Run:
    """One `pilotwrap run` of a spec at such a site."""

    def __init__(self, site: Site, home: Path, spec: Mapping[str, object]) -> None:
        self.home, self.site = home, site
        (home / "nodefile").write_text("".join(f"{node}\n" for node in site.nodes))
        (home / "job.json").write_text(json.dumps(spec))
        self._programs(["qstat", "bjobs", site.launcher])
        words = [*PILOTWRAP, "run", "--spec", str(home / "job.json"), "--run-dir", str(home / "runs"), "--json"]
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', site.script_on, *words]
        own = {name: text.format(nodefile=home / "nodefile") for name, text in site.variables.items()}
        env = {"PATH": f"{home}/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(home), **own}
        out, err = (home / "out").open("wb"), (home / "err").open("wb")
        self.process = subprocess.Popen(named, env=env, cwd=home, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        out.close()
        err.close()

    def _programs(self, names: list[str]) -> None:
        (self.home / "bin").mkdir()
        for name in names:
            path = self.home / "bin" / name
            line = f'FAKE_CALLS={self.home}/calls exec {sys.executable} {FOLDER}/{PROGRAMS[name]}.py "$@"'
            path.write_text(f"#!/bin/sh\n{line}\n")
            path.chmod(0o755)

    def end(self) -> tuple[int, Mapping[str, Any]]:
        """Wait for its end and return the code and the report."""
        code = self.process.wait(60)
        text = (self.home / "out").read_text()
        assert text, self.words
        report: Mapping[str, Any] = json.loads(text)
        return code, report

    @property
    def words(self) -> str:
        """Return all that was said, for a failed test."""
        paths = [self.home / "err", *(self.home / "runs").glob("??/*/survey.out"), *self._outputs("stderr")]
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')}" for path in paths)

    def _outputs(self, name: str) -> list[Path]:
        return sorted((self.home / "runs").glob(f"??/*/jobs/*/{name}"))

    @property
    def printed(self) -> list[str]:
        """Return what the ranks have printed so far."""
        return sorted(line for path in self._outputs("stdout") for line in path.read_text().splitlines())

    @property
    def calls(self) -> list[Mapping[str, Any]]:
        """Return the launcher's calls, the survey's first."""
        return [json.loads(line) for line in (self.home / "calls").read_text().splitlines()]


def spec(script: str, **shape: object) -> dict[str, object]:
    return {
        "command": ["sh", "-c", script],
        "mode": "mpi",
        "nodes": 2,
        "ranks_per_node": 2,
        "cpus_per_rank": 1,
        **shape,
    }


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest) -> Site:
    return SITES[request.param]


def until(true: Callable[[], bool], what: Callable[[], str]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, what()
        time.sleep(0.02)  # a file gives no signal


def test_four_ranks_over_two_nodes_know_who_they_are(site: Site, tmp_path: Path) -> None:
    run = Run(site, tmp_path, spec(TELL))
    code, report = run.end()
    assert (code, report["reason"]) == (0, "ok"), run.words
    assert run.printed == [f"{rank} {rank % 2} 4 {site.nodes[rank // 2]}" for rank in range(4)]
    survey, launch = run.calls
    assert [host for _, _, host in survey["ranks"]] == list(site.nodes)
    assert launch["ranks"] == [[rank, rank % 2, site.nodes[rank // 2]] for rank in range(4)]


def test_a_failing_rank_is_named_with_its_node_and_its_code(site: Site, tmp_path: Path) -> None:
    run = Run(site, tmp_path, spec('[ "$PILOTWRAP_RANK" != 3 ] || exit 7; sleep 1'))
    code, report = run.end()
    assert (code, report["reason"]) == (1, "payload-exit"), run.words
    own = {"reason": "payload-exit", "exit_code": 7, "count": 1, "examples": [f"{site.nodes[1]}:3"]}
    assert own in report["ranks"], report


@pytest.mark.parametrize("name", sorted(set(SITES) - {"aprun"}))
def test_a_failing_rank_ends_the_others_where_the_launcher_can(name: str, tmp_path: Path) -> None:
    """All but aprun, which has no such option (aprun(1)): there MPI does it."""
    run = Run(SITES[name], tmp_path, spec('[ "$PILOTWRAP_RANK" != 3 ] || exit 7; sleep 300'))
    code, report = run.end()
    assert (code, report["reason"]) == (1, "payload-exit"), run.words


def test_term_ends_all_ranks_and_the_run_says_cancelled(site: Site, tmp_path: Path) -> None:
    run = Run(site, tmp_path, spec('echo "$$"; sleep 300'))
    until(lambda: len(run.printed) == 4, lambda: run.words)
    run.process.send_signal(signal.SIGTERM)
    code, report = run.end()
    assert (code, report["reason"]) == (143, "cancelled"), run.words
    assert [pid for pid in run.printed if Path(f"/proc/{pid}").exists()] == []


def test_a_job_that_is_not_for_this_host_alone_goes_through_the_launcher(tmp_path: Path) -> None:
    run = Run(SITES["jsrun"], tmp_path, spec(TELL, mode="copies", nodes=1))
    code, _ = run.end()
    assert code == 0, run.words
    assert run.printed == ["0 0 2 node1", "1 1 2 node1"], "the launch node gets no ranks"
