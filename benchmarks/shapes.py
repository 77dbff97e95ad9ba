"""What several nodes yield: many random shapes from one head, and many small jobs from one controller a node.

    python benchmarks/shapes.py [--shapes 40] [--jobs 200] [--nodes 4] [--in-step]

On a real Slurm whose nodes are all this host (so the rates share its CPUs: compare them, don't quote them). Prints how
much of the node time random shapes used, whether any core was lent twice, and the rate of `true` as single-node jobs
from a server: with one controller on each node, with one on one node, and with one `srun` for each job from the head.
From the batch script, or with `--in-step` from inside a step of the job, as an endpoint's worker is started.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from batch import run
from real.slurm import Slurm, started
from turns import CORES, load

from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.store import Store

PROGRAM = [sys.executable, "-m", "pilotwrap", "run", "--json"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a shape runs on the average")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--sruns", type=int, default=40)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--in-step", action="store_true")
    options = parser.parse_args()
    print(f"from inside a step: {'yes' if options.in_step else 'no'}; {load()}", flush=True)
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
        script = f"b=$(date +%s.%N); sleep {seconds}; echo $b $(date +%s.%N) $SLURMD_NODENAME {cores} > {notes}/$$-$b"
        command = ["sh", "-c", script]
        specs.append({"command": command, "nodes": nodes, "cpus_per_rank": cores, "walltime_s": 2 * seconds + 5})
    (home / "jobs.json").write_text(json.dumps(specs))
    words = [*PROGRAM, "--spec", str(home / "jobs.json"), "--run-dir", str(home / "runs")]
    run(slurm, home, words, options.nodes, in_step=options.in_step)
    ran = [Rank(float(b), float(e), node, int(cores)) for b, e, node, cores in map(words_of, notes.iterdir())]
    lasted = max(rank.ended for rank in ran) - min(rank.began for rank in ran)
    used = asked / (lasted * options.nodes * CORES)
    print(f"{options.shapes} random shapes on {options.nodes} nodes: {lasted:.1f} s, {used:.3f} of the node time used")
    print(f"  at most {most(ran)} of a node's {CORES} cores at once, by the payloads' own clocks", flush=True)


class Rank(NamedTuple):
    """When a rank ran (seconds of the epoch), where, on how many cores."""

    began: float
    ended: float
    node: str
    cores: int


def words_of(path: Path) -> list[str]:
    return path.read_text().split()


def most(ran: Sequence[Rank]) -> int:
    """Return the most cores that ranks of one node held at once."""
    beside = ([b for b in ran if b.node == a.node and b.began <= a.began < b.ended] for a in ran)
    return max(sum(rank.cores for rank in ranks) for ranks in beside)


def small(slurm: Slurm, home: Path, options: argparse.Namespace) -> None:
    (home / "worker.json").write_text(json.dumps({"command": ["/bin/sh"], "cpus_per_rank": 1}))
    ways = {
        f"one controller on each of {options.nodes} nodes": (options.nodes, ["--controllers", "node"]),
        "one controller on one node": (1, []),
    }
    for what, (nodes, words) in ways.items():
        told(what, fetched(slurm, home, nodes, words, options))
    line = f"seq {options.sruns} | xargs -P {options.nodes * CORES} -I % srun -N1 -n1 --overlap --cpu-bind=none true"
    seconds, _ = run(slurm, home, ["sh", "-c", line], options.nodes, in_step=options.in_step)
    told("one srun a job", options.sruns / seconds)


def told(what: str, jobs_per_s: float) -> None:
    print(f"  {what:<42} {jobs_per_s:>7.1f} jobs/s", flush=True)


def fetched(slurm: Slurm, home: Path, nodes: int, words: list[str], options: argparse.Namespace) -> float:
    """Return the rate of jobs from a server, fetched, run and reported."""
    count: int = options.jobs
    with tempfile.TemporaryDirectory(dir=home) as name, LabProcess(Path(name) / "lab.db") as lab:
        store = Store(lab.db)
        put_jobs(store, [panda_job({"command": ["true"], "cpus_per_rank": 1}, "benchmark") for _ in range(count)])
        at = lab.address
        given = ["--server", at.url, "--panda-queue", at.panda_queue, "--credential", str(at.token_path)]
        given += ["--origin", at.origin, "--run-dir", str(Path(name) / "runs"), "--spec", str(home / "worker.json")]
        seconds, said = run(slurm, home, [*PROGRAM, *given, *words], nodes, in_step=options.in_step)
        reported = sum(job["reports"] == 1 for job in listed_jobs(store))
    if json.loads(said)["job_count"] != count or reported != count:
        sys.exit(f"not all jobs were run and reported once: {reported} of {count}; {said[:500]}")
    return count / seconds


if __name__ == "__main__":
    main()
