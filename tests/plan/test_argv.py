"""Two jobs through every launcher, compared word by word with its golden file."""

import json
from pathlib import Path

import pytest
from golden.compare import FOLDER, Compare

import pilotwrap.site.launchers
from pilotwrap.model.errors import LauncherError
from pilotwrap.site.launchers.listing import LAUNCHERS, LauncherKind
from pilotwrap.site.launchers.request import LaunchRequest

KINDS = {kind.FLAVOUR or kind.NAME: kind for kind in LAUNCHERS}
NOT_LAUNCHERS = {"__init__", "listing", "request", "version"}
HOSTS = ("nid00001", "nid00002", "nid00010")
SHIM = ("/usr/bin/python3", "/runs/job/starter.pyz", "shim", "/runs/job/shim.json")


def request(kind: LauncherKind, job: str) -> LaunchRequest:
    program = f"/usr/bin/{next(iter(kind.PROGRAMS), 'mpiexec')}"
    if job == "minimal":
        return LaunchRequest(
            program=program, hosts=(HOSTS[0],), here=HOSTS[0], ranks_per_node=1, one_fails_all=False, command=SHIM
        )
    return LaunchRequest(
        program=program,
        hosts=HOSTS,
        here=HOSTS[0],
        ranks_per_node=4,
        one_fails_all=True,
        gpus_per_node=4,
        mpi_types=("none", "cray_shasta", "pmi2"),
        options=("--label", "a b;$c"),
        command=SHIM,
    )


@pytest.mark.parametrize("name", KINDS)
def test_a_launcher_is_called_as_its_manual_says(name: str, golden: Compare) -> None:
    kind = KINDS[name]
    jobs = {job: kind.command(request(kind, job)) for job in ("minimal", "full")}
    said = {job: {"argv": launch.argv, "env": launch.env, "unset": launch.unset} for job, launch in jobs.items()}
    golden(f"argv/{name}.json", json.dumps({"source": kind.SOURCE, **said}, indent=1) + "\n")


def test_every_file_of_the_folder_is_listed_and_has_its_golden_file() -> None:
    folder = Path(pilotwrap.site.launchers.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - NOT_LAUNCHERS == set(KINDS)
    assert {path.stem for path in (FOLDER / "argv").glob("*.json")} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_the_shim_comes_last_and_a_user_s_options_after_ours(name: str) -> None:
    argv = KINDS[name].command(request(KINDS[name], "full")).argv
    assert argv[-len(SHIM) :] == SHIM
    options = argv.index("--label")
    assert argv[options + 1] == "a b;$c"
    rest = argv[options + 2 : -len(SHIM)]
    assert not rest or rest[0] == "/bin/sh", "what starts a rank, and no option of the launcher, follows them"


@pytest.mark.parametrize("name", KINDS)
def test_the_launcher_binds_nothing_for_the_shim_does(name: str) -> None:
    words = " ".join(KINDS[name].command(request(KINDS[name], "full")).argv)
    off = ("--cpu-bind=none", "-bind-to none", "--cpu-bind none", "--bind none", "-cc none", "cpu-affinity=off")
    assert any(one in words for one in off), words


def test_the_own_host_alone_is_reached_without_a_remote_shell_and_another_one_is_not() -> None:
    here = request(KINDS["hydra"], "minimal")
    there = here.model_copy(update={"here": HOSTS[1]})
    assert "fork" in KINDS["hydra"].command(here).argv
    assert KINDS["hydra"].command(there).argv[1:3] == ("-hosts", HOSTS[0])


def test_jsrun_which_chooses_its_hosts_refuses_to_leave_one_out() -> None:
    asked = request(KINDS["jsrun"], "full").model_copy(update={"aside": ("nid00007",)})
    with pytest.raises(LauncherError, match="nid00007, which is set aside"):
        KINDS["jsrun"].command(asked)


def test_aprun_refuses_a_node_without_a_number() -> None:
    asked = request(KINDS["aprun"], "full").model_copy(update={"hosts": ("nid00001", "login1")})
    with pytest.raises(LauncherError, match="'login1' has none"):
        KINDS["aprun"].command(asked)


@pytest.mark.parametrize("own", ["--mpi=pmix", "--mpi"])
def test_srun_s_mpi_type_of_the_user_is_not_overridden(own: str) -> None:
    asked = request(KINDS["srun"], "full").model_copy(update={"options": (own,)})
    assert [word for word in KINDS["srun"].command(asked).argv if word.startswith("--mpi")] == [own]


def test_asking_twice_gives_the_same() -> None:
    for kind in LAUNCHERS:
        assert kind.command(request(kind, "full")) == kind.command(request(kind, "full"))
