"""Words run in a batch job of the tests' Slurm, and the seconds that they took there."""

import shlex
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from real.slurm import TERMINAL, Slurm
from real.worker import IN_A_STEP
from turns import CORES


def run(slurm: Slurm, home: Path, words: list[str], nodes: int, *, in_step: bool = False) -> tuple[float, str]:
    """Run words in a batch job over so many nodes; return its seconds, without the queue's, and what it printed.

    `in_step`: by a step of the batch job, as an endpoint's worker is started, and not by its shell.
    """
    (home / "code").unlink(missing_ok=True)
    line = shlex.join([*(IN_A_STEP if in_step else ()), *words])
    line = f"{line} > {home}/out 2> {home}/log; echo $? > {home}/code.part; date +%s.%N >> {home}/code.part"
    script = f"#!/bin/sh\ncd {home}\ndate +%s.%N > begun\n{line}\nmv code.part code\n"
    job = slurm.sbatch(script, f"--nodes={nodes}", f"--ntasks-per-node={max(CORES, 4)}", "--time=60")
    while not (home / "code").exists():
        if slurm.state(job) in TERMINAL - {"COMPLETED"}:
            sys.exit(slurm.output(job))
        time.sleep(0.2)
    code, ended = (home / "code").read_text().split()
    if code != "0":
        sys.exit(f"exit {code}: {(home / 'out').read_text()[-2000:]} {(home / 'log').read_text()[-2000:]}")
    slurm.wait(job)
    return float(ended) - float((home / "begun").read_text()), (home / "out").read_text()
