"""A small MPI program, compiled with the MPICH of this host."""

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("mpi_hello.c")
PACKAGES = "mpich libmpich-dev gcc libc6-dev"


@pytest.fixture(scope="session")
def mpi_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the compiled `mpi_hello`: prints its rank, adds up the ranks, fails on a wrong sum."""
    compiler = shutil.which("mpicc.mpich")
    if compiler is None or shutil.which("gcc") is None:
        pytest.skip(f"no MPICH compiler here: as root, apt-get install --no-install-recommends {PACKAGES}")
    program = tmp_path_factory.mktemp("mpi") / "mpi_hello"
    subprocess.run([compiler, "-O1", "-o", str(program), str(SOURCE)], check=True, stdin=subprocess.DEVNULL)
    return program
