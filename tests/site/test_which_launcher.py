"""Which launcher is used, and whose `mpiexec` that is, from snapshots that differ in one thing."""

import pytest

from pilotwrap.detect.launcher import launcher
from pilotwrap.model.node import Allocation, SchedulerName
from pilotwrap.model.snapshot import CommandSaid, Snapshot

EVERYTHING = ("srun", "jsrun", "aprun", "flux", "mpiexec", "mpiexec.hydra", "mpiexec.openmpi", "ompi_info", "palstat")
SAID = {
    "hydra": "HYDRA build details:\n    Version:                                 4.0.2\n",
    "intel": "Intel(R) MPI Library for Linux* OS, Version 2021.11 Build 20231005\n",
    "openmpi-4-debian": "mpiexec (OpenRTE) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/\n",
    "openmpi-5": "mpirun (Open MPI) 5.0.7\n",
    "pals": "mpiexec version 1.8.0 revision 1.8.0.63.1\n",
    "openpbs's script": "pbs_version = 23.06.06\n",
}
"""As printed here (hydra, Debian's Open MPI), by openpbs `src/cmds/mpiexec.in`, or as quoted in public."""


def allocation(scheduler: SchedulerName) -> Allocation:
    return Allocation(
        scheduler=scheduler,
        job_id="1",
        nodes=("n1",),
        node_count=1,
        inside_step=False,
        time_left_s=None,
        kill_grace_s=10,
    )


def snapshot(*programs: str, folder: str = "/usr/bin", said: str | None = None) -> Snapshot:
    path = f"{folder}/mpiexec"
    asked = () if said is None else (CommandSaid(argv=(path, "--version"), exit=0, output=said),)
    return Snapshot(programs={name: f"{folder}/{name}" for name in programs}, commands=asked)


@pytest.mark.parametrize(
    ("scheduler", "command", "flavour"),
    [
        ("slurm", "srun", None),
        ("flux", "flux", None),
        ("lsf", "jsrun", None),
        ("cobalt", "aprun", None),
        ("none", "mpiexec", "hydra"),
    ],
)
def test_where_all_are_there_the_batch_system_s_own_is_used(
    scheduler: SchedulerName, command: str, flavour: str | None
) -> None:
    found = launcher(snapshot(*EVERYTHING), allocation(scheduler))
    assert (found.command, found.flavour) == (command, flavour)


@pytest.mark.parametrize("program", ["srun", "jsrun", "aprun", "flux"])
def test_a_launcher_that_is_only_installed_is_not_used_without_its_batch_system(program: str) -> None:
    assert launcher(snapshot(program), allocation("none")).command == "local"


@pytest.mark.parametrize(
    ("said", "flavour"),
    [
        ("hydra", "hydra"),
        ("intel", "hydra"),
        ("openmpi-4-debian", "openmpi"),
        ("openmpi-5", "openmpi"),
        ("pals", "pals"),
        ("openpbs's script", None),
    ],
)
def test_mpiexec_is_whose_it_says(said: str, flavour: str | None) -> None:
    found = launcher(snapshot("mpiexec", said=SAID[said]), allocation("pbs"))
    assert (found.command, found.flavour) == (("mpiexec", flavour) if flavour else ("local", None))


def test_openpbs_s_script_does_not_hide_an_mpi_that_has_a_name_of_its_own() -> None:
    found = launcher(snapshot("mpiexec", "mpiexec.hydra", said=SAID["openpbs's script"]), allocation("pbs"))
    assert (found.flavour, found.path) == ("hydra", "/usr/bin/mpiexec.hydra")


def test_pals_is_used_in_a_pbs_job_alone() -> None:
    assert launcher(snapshot("mpiexec", said=SAID["pals"]), allocation("none")).command == "local"


@pytest.mark.parametrize(("sign", "flavour"), [("ompi_info", "openmpi"), ("mpiexec.hydra", "hydra")])
def test_an_mpiexec_that_was_not_asked_is_known_by_what_lies_beside_it(sign: str, flavour: str) -> None:
    found = launcher(snapshot("mpiexec", sign, folder="/opt/mpi/bin"), allocation("none"))
    assert (found.command, found.flavour) == ("mpiexec", flavour)


def test_the_mpi_of_the_user_s_path_goes_before_one_that_only_has_a_name_of_its_own() -> None:
    both = snapshot("mpiexec", "ompi_info", folder="/opt/ompi/bin").programs | {
        "mpiexec.hydra": "/usr/bin/mpiexec.hydra"
    }
    found = launcher(Snapshot(programs=both), allocation("none"))
    assert (found.flavour, found.path) == ("openmpi", "/opt/ompi/bin/mpiexec")


def test_where_two_lie_beside_it_it_is_nobody_s_and_their_own_names_count() -> None:
    found = launcher(snapshot("mpiexec", "ompi_info", "mpiexec.hydra", "mpiexec.openmpi"), allocation("none"))
    assert found.path == "/usr/bin/mpiexec.hydra"
    alone = launcher(snapshot("mpiexec", "ompi_info", "palstat"), allocation("none"))
    assert alone.command == "local"
