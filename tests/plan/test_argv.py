"""Two jobs through every launcher, compared word by word with its golden file."""

import json
from pathlib import Path

import pytest
from golden.compare import FOLDER, Compare

import pilotwrap.site.launchers
from pilotwrap.site.launchers.listing import LAUNCHERS, LauncherKind
from pilotwrap.site.launchers.request import LaunchRequest

KINDS = {kind.FLAVOUR or kind.NAME: kind for kind in LAUNCHERS}
SOURCES = {"srun": "srun(1) of Slurm 22.05", "hydra": "mpiexec.hydra -help of MPICH 4.0"}
NOT_LAUNCHERS = {"__init__", "listing", "request"}
SHIM = ("/usr/bin/python3", "/runs/job/starter.pyz", "shim", "/runs/job/shim.json")


def request(kind: LauncherKind, job: str) -> LaunchRequest:
    program = f"/usr/bin/{kind.PROGRAMS[0]}"
    if job == "minimal":
        return LaunchRequest(program=program, hosts=("node1",), ranks_per_node=1, one_fails_all=False, command=SHIM)
    return LaunchRequest(
        program=program,
        hosts=("node1", "node2", "node3"),
        ranks_per_node=4,
        one_fails_all=True,
        mpi_types=("none", "cray_shasta", "pmi2"),
        options=("--label", "a b;$c"),
        command=SHIM,
    )


@pytest.mark.parametrize("job", ["minimal", "full"])
@pytest.mark.parametrize("name", KINDS)
def test_a_launcher_is_called_as_its_manual_says(name: str, job: str, golden: Compare) -> None:
    launch = KINDS[name].command(request(KINDS[name], job))
    found = {"source": SOURCES[name], "argv": launch.argv, "env": launch.env, "unset": launch.unset}
    golden(f"argv/{name}-{job}.json", json.dumps(found, indent=1) + "\n")


def test_every_file_of_the_folder_is_listed_and_has_its_two_golden_files() -> None:
    folder = Path(pilotwrap.site.launchers.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - NOT_LAUNCHERS == set(KINDS)
    expected = {f"{name}-{job}" for name in KINDS for job in ("minimal", "full")}
    assert {path.stem for path in (FOLDER / "argv").glob("*.json")} == expected


@pytest.mark.parametrize("name", KINDS)
def test_the_shim_comes_last_and_a_user_s_options_before_it(name: str) -> None:
    argv = KINDS[name].command(request(KINDS[name], "full")).argv
    assert argv[-len(SHIM) :] == SHIM
    assert argv[-len(SHIM) - 2 : -len(SHIM)] == ("--label", "a b;$c")


@pytest.mark.parametrize("own", ["--mpi=pmix", "--mpi"])
def test_srun_s_mpi_type_of_the_user_is_not_overridden(own: str) -> None:
    asked = request(KINDS["srun"], "full").model_copy(update={"options": (own,)})
    assert [word for word in KINDS["srun"].command(asked).argv if word.startswith("--mpi")] == [own]


def test_asking_twice_gives_the_same() -> None:
    for kind in LAUNCHERS:
        assert kind.command(request(kind, "full")) == kind.command(request(kind, "full"))
