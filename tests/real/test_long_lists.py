"""The files that take the place of long lists of hosts, read by the real launchers."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from real.slurm import Slurm

from pilotwrap.model.plan import Launch
from pilotwrap.site.launchers import hydra, openmpi, srun
from pilotwrap.site.launchers import request as requests
from pilotwrap.site.launchers.listing import LauncherKind
from pilotwrap.site.launchers.request import LaunchRequest


def by_file(kind: LauncherKind, request: LaunchRequest, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """Return the launch with its file written, as if the list were a long one."""
    monkeypatch.setattr(requests, "WORD_MOST", 0)
    launch = kind.command(request)
    ((path, text),) = launch.files.items()
    Path(path).write_text(text)
    return launch


def asked(program: str, hosts: tuple[str, ...], folder: Path, *command: str) -> LaunchRequest:
    return LaunchRequest(
        program=program,
        hosts=hosts,
        hosts_file=str(folder / "job.hosts"),
        ranks_per_node=2,
        one_fails_all=False,
        command=command,
    )


def test_srun_takes_the_nodes_of_a_file(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked("srun", ("node2",), tmp_path, "printenv", "SLURMD_NODENAME")
    launch = by_file(srun, request, monkeypatch)
    assert slurm.run(["salloc", "--nodes=2", "--exclusive", *launch.argv]).stdout.split() == ["node2"] * 2
    both = by_file(srun, request.model_copy(update={"hosts": slurm.nodes}), monkeypatch)
    assert sorted(slurm.run(["salloc", "--nodes=2", "--exclusive", *both.argv]).stdout.split()) == sorted(
        slurm.nodes * 2
    )


@pytest.mark.parametrize(("kind", "program"), [(hydra, "mpiexec.hydra"), (openmpi, "mpiexec.openmpi")])
def test_mpiexec_takes_the_hosts_of_a_file(
    kind: LauncherKind, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"no {program} here: as root, apt-get install --no-install-recommends mpich openmpi-bin")
    here = socket.gethostname()
    launch = by_file(kind, asked(path, (here,), tmp_path, "hostname"), monkeypatch)
    env = {**os.environ, **launch.env}
    done = subprocess.run(launch.argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, [here] * 2), done
