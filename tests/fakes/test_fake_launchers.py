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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pilotwrap.detect.node import node_facts
from pilotwrap.host.observe import snapshot
from pilotwrap.model.snapshot import Snapshot

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
    nodes: tuple[str, ...] = ("node1", "node2")
    fakes: Mapping[str, str] = field(default_factory=dict)
    """What the stand-in is told of the nodes."""


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

    def __init__(self, site: Site, home: Path, spec: Mapping[str, object] | list[dict[str, object]]) -> None:
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
            told = {"FAKE_CALLS": f"{self.home}/calls", "FAKE_HELD": f"{self.home}/held", **self.site.fakes}
            words = " ".join(f"{name}={value}" for name, value in told.items())
            line = f'{words} exec {sys.executable} {FOLDER}/{PROGRAMS[name]}.py "$@"'
            path.write_text(f"#!/bin/sh\n{line}\n")
            path.chmod(0o755)

    def end(self, patience_s: float = 60) -> tuple[int, Mapping[str, Any]]:
        """Wait for its end and return the code and the report."""
        code = self.process.wait(patience_s)
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


CORES = len(node_facts(Snapshot.model_validate(snapshot(asked=False))).cpus.cores)
"""What this host shows, and so each node that is played here."""

SPAN = 'began=$(date +%s%N); sleep 0.2; echo "$(hostname) $(taskset -pc $$ | cut -d: -f2) $began $(date +%s%N)"'
"""Its node, its CPUs, and when it held them."""


def together(spans: list[tuple[int, int]]) -> int:
    """Return how many of these ran at a time at most."""
    return max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)


def held(run: Run) -> Mapping[str, list[tuple[str, int, int]]]:
    """Return who held which CPUs of each node, and when."""
    found: dict[str, list[tuple[str, int, int]]] = {}
    for line in run.printed:
        host, cpus, begin, end = line.split()
        found.setdefault(host, []).append((cpus, int(begin), int(end)))
    return found


def test_fifty_small_jobs_fill_four_nodes_of_a_flux_instance_side_by_side(tmp_path: Path) -> None:
    """Their begin and end are the payload's own words: no core is ever held twice."""
    nodes = ("node1", "node2", "node3", "node4")
    site = replace(SITES["flux"], nodes=nodes, fakes={"FAKE_NODES": ",".join(nodes), "FAKE_CORES": str(CORES)})
    jobs = [spec(SPAN, mode="copies", nodes=1, ranks_per_node=1) for _ in range(50)]
    run = Run(site, tmp_path, jobs)
    code, report = run.end(150)
    assert (code, report["reason"]) == (0, "ok"), run.words
    on = held(run)
    assert (sum(map(len, on.values())), set(on)) == (50, set(nodes))
    for spans in on.values():
        assert together([(begin, end) for _, begin, end in spans]) <= CORES
        for cpus in {cpus for cpus, _, _ in spans}:
            assert together([(begin, end) for its, begin, end in spans if its == cpus]) == 1
    launches = [call["argv"] for call in run.calls][1:]
    assert len(launches) == sum(len(spans) for node, spans in on.items() if node != "node1"), "the own node needs none"
    if CORES > 1:
        assert all("--cores=1" in argv and "--exclusive" not in argv for argv in launches)
        assert max(together([(begin, end) for _, begin, end in spans]) for spans in on.values()) > 1, "side by side"


def test_whole_nodes_and_parts_of_nodes_take_turns_in_flux(tmp_path: Path) -> None:
    site = replace(SITES["flux"], fakes={"FAKE_CORES": str(CORES)})
    jobs = [spec(SPAN, nodes=1, ranks_per_node=1, cpus_per_rank=cores) for cores in (1, CORES, 1, CORES, 1)]
    run = Run(site, tmp_path, jobs)
    code, report = run.end()
    assert (code, report["reason"]) == (0, "ok"), run.words
    assert len(run.printed) == 5


@pytest.mark.parametrize("name", ["aprun", "jsrun"])
def test_jobs_get_whole_nodes_one_after_the_other_where_the_launcher_shares_none(name: str, tmp_path: Path) -> None:
    run = Run(SITES[name], tmp_path, [spec(SPAN, mode="copies", nodes=1, ranks_per_node=1) for _ in range(5)])
    code, report = run.end()
    assert (code, report["reason"]) == (0, "ok"), run.words
    on = held(run)
    assert sorted(on) == list(SITES[name].nodes)
    assert all(together([(begin, end) for _, begin, end in spans]) == 1 for spans in on.values())


@pytest.mark.parametrize("name", sorted(SITES))
def test_a_node_that_does_not_answer_gets_no_rank(name: str, tmp_path: Path) -> None:
    dead, other = SITES[name].nodes if name == "jsrun" else reversed(SITES[name].nodes)
    run = Run(replace(SITES[name], fakes={"FAKE_DEAD": dead}), tmp_path, spec(TELL, nodes=1))
    code, _ = run.end()
    assert code == 0, run.words
    assert run.printed == [f"{rank} {rank} 2 {other}" for rank in range(2)]
    assert (name == "jsrun") == ("--erf_input" in run.calls[1]["argv"])
