"""What several nodes yield: many random shapes from one head, and many small jobs from one controller a node.

    python benchmarks/shapes.py [--shapes 40] [--jobs 200] [--nodes 4]

On a real Slurm whose nodes are all this host (so the rates share its CPUs: compare them, don't quote them). Prints how
much of the node time random shapes used, and the rate of `true` as single-node jobs from a server: with one controller
on each node, with one on one node, and with one `srun` for each job from the head.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from real.slurm import Slurm, started

from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.store import Store

PROGRAM = [sys.executable, "-m", "pilotwrap", "run", "--json"]
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a shape runs on the average")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--sruns", type=int, default=40)
    parser.add_argument("--nodes", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, started(options.nodes) as slurm:
        home = Path(name)
        home.chmod(0o755)
        if options.shapes:
            shapes(slurm, home, options)
        if options.jobs:
            small(slurm, home, options)


def shapes(slurm: Slurm, home: Path, options: argparse.Namespace) -> None:
    chance, notes = random.Random(5), home / "notes"  # noqa: S311 - the same shapes in every run
    notes.mkdir()
    specs, asked = [], 0.0
    for _ in range(options.shapes):
        whole = chance.choice([True, False])
        nodes, cores = (chance.randint(1, options.nodes), CORES) if whole else (1, chance.randint(1, CORES))
        seconds = round(chance.uniform(0.5, 1.5) * options.seconds, 2)
        asked += nodes * cores * seconds
        command = ["sh", "-c", f"b=$(date +%s.%N); sleep {seconds}; echo $b $(date +%s.%N) > {notes}/$$-$b"]
        specs.append({"command": command, "nodes": nodes, "cpus_per_rank": cores, "walltime_s": 2 * seconds + 5})
    (home / "jobs.json").write_text(json.dumps(specs))
    run(slurm, home, [*PROGRAM, "--spec", str(home / "jobs.json"), "--run-dir", str(home / "runs")], options.nodes)
    ran = [tuple(map(float, path.read_text().split())) for path in notes.iterdir()]
    lasted = max(ended for _, ended in ran) - min(began for began, _ in ran)
    used = asked / (lasted * options.nodes * CORES)
    print(f"{options.shapes} random shapes on {options.nodes} nodes: {lasted:.1f} s, {used:.3f} of the node time used")


def small(slurm: Slurm, home: Path, options: argparse.Namespace) -> None:
    (home / "worker.json").write_text(json.dumps({"command": ["/bin/sh"], "cpus_per_rank": 1}))
    ways = {
        f"one controller on each of {options.nodes} nodes": (options.nodes, options.jobs, ["--controllers", "node"]),
        "one controller on one node": (1, options.jobs, []),
        "one srun a job, from the batch script": (options.nodes, options.sruns, None),
    }
    for what, (nodes, count, words) in ways.items():
        print(f"  {what:<42} {rate(slurm, home, nodes, count, words):>7.1f} jobs/s")


def rate(slurm: Slurm, home: Path, nodes: int, count: int, words: list[str] | None) -> float:
    if words is None:
        line = f"seq {count} | xargs -P {nodes * CORES} -I % srun -N1 -n1 --overlap --cpu-bind=none true"
        return count / run(slurm, home, ["sh", "-c", line], nodes)[0]
    with tempfile.TemporaryDirectory(dir=home) as name, LabProcess(Path(name) / "lab.db") as lab:
        store = Store(lab.db)
        put_jobs(store, [panda_job({"command": ["true"], "cpus_per_rank": 1}, "benchmark") for _ in range(count)])
        at = lab.address
        given = ["--server", at.url, "--panda-queue", at.panda_queue, "--credential", str(at.token_path)]
        given += ["--origin", at.origin, "--run-dir", str(Path(name) / "runs"), "--spec", str(home / "worker.json")]
        seconds, said = run(slurm, home, [*PROGRAM, *given, *words], nodes)
        reported = sum(job["reports"] == 1 for job in listed_jobs(store))
    if json.loads(said)["job_count"] != count or reported != count:
        sys.exit(f"not all jobs were run and reported once: {reported} of {count}; {said[:500]}")
    return count / seconds


def run(slurm: Slurm, home: Path, words: list[str], nodes: int) -> tuple[float, str]:
    """Run words in a batch job over so many nodes; return its seconds, without the queue's, and what it printed."""
    (home / "code").unlink(missing_ok=True)
    line = (
        f"{shlex.join(words)} > {home}/out 2> {home}/log; echo $? > {home}/code.part; date +%s.%N >> {home}/code.part"
    )
    script = f"#!/bin/sh\ncd {home}\ndate +%s.%N > begun\n{line}\nmv code.part code\n"
    job = slurm.sbatch(script, f"--nodes={nodes}", f"--ntasks-per-node={CORES}", "--time=60")
    while not (home / "code").exists():
        if slurm.state(job) in {"FAILED", "CANCELLED"}:
            sys.exit(slurm.output(job))
        time.sleep(0.2)
    code, ended = (home / "code").read_text().split()
    if code != "0":
        sys.exit(f"exit {code}: {(home / 'log').read_text()[-2000:]}")
    slurm.wait(job)
    return float(ended) - float((home / "begun").read_text()), (home / "out").read_text()


if __name__ == "__main__":
    main()
