"""What the step that pilotwrap's plan makes costs beside plain `srun` of the same ranks, and what a whole job costs.

    python benchmarks/launch.py [--rounds 11] [--jobs 20] [--in-step] [--besides CHECKOUT]

On a real Slurm of four nodes, all of them this host, so that its cores are shared by all ranks of a step: two ranks of
two nodes have a core each, as on a real node; eight are so many interpreters one after the other on two cores. As root.

Each round takes turns: `srun … true`; the plan's own line with `true` and with a bare interpreter in place of its shim;
the plan's line, its shim compiled, as a run over several nodes starts it, out of the package, and out of the one-file
starter; the shims of another checkout too, if there is one. "A core a rank" is a model of a real node: `sleep` in the
shim's place, for as long as one shim takes here by itself (the least of several). Then so many jobs of a running `run`,
without its start, and plain `srun` as often.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import batch
from real.slurm import started
from turns import Call, load, took

from pilotwrap.cli.inspect import snapshot_here
from pilotwrap.detect.node import node_facts
from pilotwrap.detect.survey import allocation_of_all
from pilotwrap.host.spawn import environment_of
from pilotwrap.model.job import JobSpec
from pilotwrap.model.plan import Plan
from pilotwrap.plan.plan import plan
from pilotwrap.plan.request import PlanRequest
from pilotwrap.run.orders import Payload, shim_file

NODES = 4
SHAPES = ((2, 1), (2, 4), (4, 4))
"""Nodes, and ranks on each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--jobs", type=int, default=20, help="jobs of the running `run`; 0: leave them out")
    parser.add_argument("--besides", type=Path, help="another checkout, whose shims are measured too")
    parser.add_argument("--in-step", action="store_true", help="all of it from inside a step of the batch job")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        shims = shims_of(options.inside, Path(__file__).parents[1], "")
        if options.besides:
            shims |= shims_of(options.inside, options.besides, f", {options.besides.name}")
        inside(options.inside, options.rounds, options.jobs, shims)
        return
    with tempfile.TemporaryDirectory() as name, started(NODES) as slurm:
        home = Path(name)
        home.chmod(0o755)
        words = [sys.executable, __file__, "--inside", name, "--rounds", str(options.rounds)]
        words += ["--jobs", str(options.jobs)]
        words += ["--besides", str(options.besides)] if options.besides else []
        print(load())
        print(batch.run(slurm, home, words, NODES, in_step=options.in_step)[1])


def shims_of(home: Path, checkout: Path, mark: str) -> dict[str, list[str]]:
    """Return what starts a checkout's shim but for its file, in each way that it has."""
    python = [sys.executable, "-I", "-S"]
    folder = Path(tempfile.mkdtemp(dir=home))
    package, archive = str(checkout / "pilotwrap/host/__main__.py"), folder / "starter.pyz"
    archive.write_bytes(subprocess.check_output([sys.executable, "-m", "pilotwrap", "starter"], cwd=checkout))
    found = {
        "of the package": [*python, package, "shim"],
        "of the one file": [*python, str(archive), "shim"],
    }
    subprocess.run([*python, package, "compile", str(folder)], check=False, stderr=subprocess.DEVNULL)
    if (folder / "shim.py").exists():
        found = {"compiled": [*python, str(folder / "shim.py")], **found}
    return {name + mark: words for name, words in found.items()}


def inside(home: Path, rounds: int, jobs: int, shims: Mapping[str, Sequence[str]]) -> None:
    """Measure, as a process of the batch job."""
    for nodes, each in SHAPES:
        plain, *others = took(rounds, launches(home, nodes, each, shims)).items()
        at_best = 1000 * plain[1].least
        print(f"{nodes} nodes, {nodes * each} ranks: {plain[0]} {1000 * plain[1].median:.0f} ms, {at_best:.0f} at best")
        for name, one in others:
            more, least = 1000 * (one.median - plain[1].median), one.least / plain[1].least
            print(f"  {name:<48} x {one.median / plain[1].median:.2f}  {more:+6.1f} ms; at best x {least:.2f}")
    if jobs:
        whole(home, rounds, jobs)


def launches(home: Path, nodes: int, each: int, shims: Mapping[str, Sequence[str]]) -> dict[str, Call]:
    """Return the ways to start so many ranks of `true`, plain `srun` first."""
    made = planned(home, nodes, each)
    line, order_file = made.launch.argv[:-1], made.launch.argv[-1]
    order: dict[str, object] = {"keep": ["*"], "unset": list(made.launch.unset), "env": made.launch.env}
    ours = environment_of(order, dict(os.environ))
    count = f"--ntasks={nodes * each}"
    ways = {
        "plain srun": timed(["srun", f"--nodes={nodes}", count, "--overlap", "true"], dict(os.environ)),
        "the plan's options, true": timed([*line, "true"], ours),
        "the plan's options, a bare interpreter": timed([*line, sys.executable, "-I", "-S", "-c", "pass"], ours),
    }
    for name, shim in shims.items():
        seconds = alone([*shim, order_file], ours)
        ways[f"the plan's step (its shim, {name})"] = timed([*line, *shim, order_file], ours)
        ways[f"  with a core a rank: {1000 * seconds:.1f} ms, {name}"] = timed([*line, "sleep", f"{seconds:.4f}"], ours)
    return ways


def alone(shim: Sequence[str], env: Mapping[str, str]) -> float:
    """Return the seconds that one shim takes by itself, beyond its payload."""
    numbers = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "1"}
    with_it, without = timed(shim, {**env, **numbers}), timed(["true"], env)
    return min(with_it() for _ in range(40)) - min(without() for _ in range(40))


def planned(home: Path, nodes: int, each: int) -> Plan:
    """Return the plan of that many ranks, its shim's file written: the last word."""
    path = home / f"{nodes}x{each}.shim.json"
    job = JobSpec(command=("true",), nodes=nodes, ranks_per_node=each, mode="mpi")
    allocation = allocation_of_all(node_facts(snapshot_here()))
    made = plan(PlanRequest(job=job, allocation=allocation, shim=(str(path),)))
    results = home / "ranks"
    results.mkdir(exist_ok=True)
    path.write_text(json.dumps(shim_file(made, Payload("launch", str(home), str(home), None), str(results))))
    return made


def timed(words: Iterable[str], env: Mapping[str, str]) -> Call:
    """Return what runs a command, and returns its seconds."""

    def call() -> float:
        began = time.perf_counter()
        subprocess.run([*words], check=True, env=env, stdin=subprocess.DEVNULL)
        return time.perf_counter() - began

    return call


def whole(home: Path, rounds: int, jobs: int) -> None:
    """Print what one more job of a running `run` costs, and one more plain `srun`, of all nodes both."""
    spec = {"command": ["true"], "mode": "mpi", "nodes": NODES, "ranks_per_node": 1}
    calls: dict[str, Call] = {}
    for count in (1, jobs + 1):
        path = home / f"{count}.json"
        path.write_text(json.dumps([spec] * count))
        words = ["run", "--json", "--spec", str(path), "--run-dir", str(home / "runs")]
        calls[f"run {count}"] = timed(
            ["sh", "-c", '"$@" > /dev/null', "sh", sys.executable, "-m", "pilotwrap", *words], os.environ
        )
    plain = f"for i in $(seq {jobs}); do srun --nodes={NODES} --ntasks={NODES} --overlap true; done"
    calls["srun"] = timed(["sh", "-c", plain], os.environ)
    seconds = {name: one.median for name, one in took(max(2, rounds // 3), calls).items()}
    each, srun = (seconds[f"run {jobs + 1}"] - seconds["run 1"]) / jobs, seconds["srun"] / jobs
    print(f"one more job of {NODES} nodes and {NODES} ranks in a running run, {jobs} of them, one at a time")
    print(f"  {1000 * each:.0f} ms, plain srun {1000 * srun:.0f} ms: x {each / srun:.2f}")
    print(f"  the run of one job as a whole: {seconds['run 1']:.2f} s")


if __name__ == "__main__":
    main()
