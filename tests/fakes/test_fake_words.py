"""The stand-ins refuse what the real programs refuse, with their wording and code where public sources have them."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
JOBS = {
    "pals": {"PBS_JOBID": "1", "PBS_NODEFILE": "/dev/null"},
    "jsrun": {"LSB_JOBID": "1", "LSB_MCPU_HOSTS": "node1 2"},
    "aprun": {"COBALT_JOBID": "1", "COBALT_PARTNAME": "3-4"},
    "flux": {"FLUX_URI": "local:///run/flux/local"},
    "qstat": {"PBS_JOBID": "1", "PBS_NODEFILE": "/dev/null"},
}
REFUSED = [
    ("pals", "--mca a b true", 1, "mpiexec: unrecognized option '--mca'"),
    ("pals", "--bind-to none true", 1, "mpiexec: unrecognized option '--bind-to'"),
    ("pals", "-host node1:4 true", 1, "host is not in the allocation"),
    ("jsrun", "--bind-to none true", 1, "unrecognized option '--bind-to'"),
    ("jsrun", "-n3 -r2 true", 1, "do not divide 3 evenly"),
    ("aprun", "-L 3-9 -n 7 -N 1 true", 1, "claim exceeds reservation's node-count"),
    ("flux", "run --foo true", 2, "flux run: error: unrecognized arguments: --foo"),
    ("flux", "run -N2 -n4 --tasks-per-node=2 true", 1, "Per-resource options can't be used with per-task options."),
    ("flux", "run -N3 true", 1, "unsatisfiable request"),
    ("flux", "run -o no-such-option true", 1, "unknown shell option"),
    ("qstat", "-F json 1", 2, "conflicting options"),
    ("qstat", "-x -f -F json 2", 153, "Unknown Job Id 2"),
]


def call(name: str, words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, str(FOLDER / f"{name}.py"), *words.split()]
    return subprocess.run(argv, env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "words", "code", "said"), REFUSED)
def test_wrong_words_are_refused_as_by_the_real_one(name: str, words: str, code: int, said: str) -> None:
    done = call(name, words, **JOBS[name])
    assert done.returncode == code, done
    assert said in done.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [("pals", "true"), ("jsrun", "true"), ("aprun", "true"), ("flux", "run true")],
)
def test_nothing_is_launched_outside_of_an_allocation(name: str, words: str) -> None:
    assert call(name, words).returncode == 1


def test_pals_version_does_not_name_pals() -> None:
    assert call("pals", "--version").stdout.startswith("mpiexec version 1.")
