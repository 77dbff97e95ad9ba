"""How many trivial PanDA jobs a node runs and reports in a second, against GNU parallel running the same.

    python benchmarks/throughput.py [--jobs 1000] [--rounds 3]

The embedded server, on the same machine, hands out jobs of one core whose payload is `true`; all are fetched, run and
reported. GNU parallel runs `true` as often, with as many jobs at a time. Both take turns; prints rates and the ratio,
and where the CPU time went.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.store import Store

TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if shutil.which("parallel") is None:
        sys.exit("GNU parallel is missing: apt-get install parallel")
    ours, theirs, spent = [], [], {}
    for _ in range(options.rounds):
        theirs.append(options.jobs / parallel(options.jobs))
        seconds, spent = pilotwrap(options.jobs)
        ours.append(options.jobs / seconds)
    rate, other = statistics.median(ours), statistics.median(theirs)
    print(f"{options.jobs} times `true`, {len(os.sched_getaffinity(0))} CPUs, medians of {options.rounds} rounds")
    print(f"  {'GNU parallel':<14} {other:>7.0f} jobs/s")
    print(f"  {'pilotwrap':<14} {rate:>7.0f} jobs/s   {rate / other:.2f} of it, with fetching, logs and reports")
    print(
        "CPU milliseconds a job in the last round: "
        + ", ".join(f"{k} {1000 * v / options.jobs:.1f}" for k, v in spent.items())
    )


def parallel(jobs: int) -> float:
    """Return the seconds that GNU parallel takes."""
    width = len(os.sched_getaffinity(0))
    began = time.monotonic()
    subprocess.run(["parallel", f"-j{width}", "true", ":::", *map(str, range(jobs))], check=True)
    return time.monotonic() - began


def pilotwrap(jobs: int) -> tuple[float, dict[str, float]]:
    """Return the seconds from start to end of a run that takes all jobs, and the CPU seconds of each program."""
    with tempfile.TemporaryDirectory() as name:
        db = Path(name) / "lab.db"
        with LabProcess(db) as lab:
            store = Store(db)
            put_jobs(store, [panda_job({"command": ["true"]}, "benchmark") for _ in range(jobs)])
            where = lab.address
            command = [sys.executable, "-m", "pilotwrap", "run", "--server", where.url, "--json"]
            command += ["--panda-queue", where.panda_queue, "--credential", str(where.token_path)]
            command += ["--origin", where.origin, "--run-dir", str(Path(name) / "runs")]
            server, before = cpu_of(lab.pid), os.times()
            began = time.monotonic()
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            seconds = time.monotonic() - began
            after = os.times()
            spent = {
                "starter, controller and payloads": after.children_user
                + after.children_system
                - before.children_user
                - before.children_system,
                "server": cpu_of(lab.pid) - server,
            }
            report = json.loads(done.stdout)
            reported = sum(job["reports"] == 1 for job in listed_jobs(store))
    if report["state"] != "finished" or report["job_count"] != jobs or reported != jobs:
        sys.exit(f"not all jobs were finished and reported once: {report['state']}, {reported} of {jobs}")
    return seconds, spent


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
