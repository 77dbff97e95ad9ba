"""A libnvidia-ml.so.1 that misbehaves as told, built here from fake_nvml.c."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    line = [compiler, "-w", "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(source)]
    subprocess.run(line, check=True)
    return folder


@pytest.fixture
def environment(library: Path) -> Callable[[str], Mapping[str, str]]:
    return lambda words: {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML": words}
