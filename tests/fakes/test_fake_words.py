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
    ("flux", "run -N3 -n3 true", 1, "unsatisfiable request"),
    ("flux", "run -N1 --cores=65 --tasks-per-node=1 true", 1, "unsatisfiable request"),
    ("flux", "run -N1 -x --requires=hosts:node[3-4] true", 1, "unsatisfiable request"),
    ("flux", "run -N2 --tasks-per-node=1 true", 1, "Specifying nnodes also requires ncores or exclusive"),
    ("flux", "run -N2 --cores=3 --tasks-per-node=1 true", 1, "must be evenly divisible by node count"),
    ("flux", "run -x -n1 true", 1, "exclusive can only be set with a node count"),
    ("flux", "run --cores=2 --gpus-per-node=1 true", 1, "gpus-per-node requires --nodes"),
    ("flux", "run -N1 --cores=1 --gpus-per-node=1 true", 1, "unsatisfiable request"),
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


PREAMBLE = "cpu_index_using: logical\noverlapping_rs: allow\noversubscribe_cpu: allow\noversubscribe_gpu: allow\n"
RANK = "rank: {}: {{ host: {}; cpu: {{0-7}} ; gpu: {{0-5}} }}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PREAMBLE + RANK.format(0, 1), ""),
        (PREAMBLE + RANK.format(0, 1) + RANK.format(1, 1), ""),
        (PREAMBLE + RANK.format(0, 1).rstrip(), "does not end with a line break"),
        (PREAMBLE + RANK.format(1, 1), "invalid line"),
        (PREAMBLE + RANK.format(0, 0), "invalid line"),
        (PREAMBLE + RANK.format(0, 2), "invalid line"),
        (PREAMBLE.replace("logical", "some") + RANK.format(0, 1), "invalid line"),
        (PREAMBLE.replace("cpu: allow", "cpu: error") + RANK.format(0, 1) + RANK.format(1, 1), "overlaps"),
        ("cpu_index_using: logical\n" + RANK.format(0, 1) + RANK.format(1, 1), "overlaps"),
    ],
)
def test_a_resource_file_of_jsrun_is_as_users_publish_them(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "erf").write_text(text)
    done = call("jsrun", f"--erf_input {tmp_path}/erf true", **JOBS["jsrun"])
    assert (done.returncode, said in done.stderr) == (1 if said else 0, True), done


def test_a_host_file_of_pals_has_a_host_a_line(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("node1\nnode2\n")
    (tmp_path / "hosts").write_text("# two\nnode1\n\nnode2\n")
    job = {"PBS_JOBID": "1", "PBS_NODEFILE": f"{tmp_path}/nodes"}
    words = f"-n 2 --ppn 1 --hostfile {tmp_path}/hosts printenv PALS_NODEID"
    assert sorted(call("pals", words, **job).stdout.split()) == ["0", "1"]
    (tmp_path / "hosts").write_text("node1 slots=2\n")
    assert "not in the allocation" in call("pals", words, **job).stderr


def test_pals_version_does_not_name_pals() -> None:
    assert call("pals", "--version").stdout.startswith("mpiexec version 1.")
