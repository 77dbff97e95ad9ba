"""What the host's tests share: a starter to talk to, and the Pythons that this machine has."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from talk import Talk

from pilotwrap.host import __main__ as host_main
from pilotwrap.host import pack

OLD_AND_NEW = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13")


def pythons() -> dict[str, str]:
    """Return an interpreter for each version that can be found, along PATH or where pyenv puts them."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    places = sorted(str(path) for path in (Path.home() / ".pyenv" / "versions").glob("3.*/bin/python3"))
    for version in OLD_AND_NEW:
        own = [place for place in places if f"/{version}." in place]
        path = shutil.which(f"python{version}")
        candidates = own or ([path] if path else [])
        if candidates and runs(candidates[-1], version):
            found.setdefault(version, candidates[-1])
    return found


def runs(python: str, version: str) -> bool:
    """Whether this is that Python, and no stand-in that only complains."""
    command = [python, "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.stdout.strip() == version


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for `python` under every Python of the host's range that this machine has; one is always there."""
    if "python" in metafunc.fixturenames:
        found = pythons()
        metafunc.parametrize("python", found.values(), ids=found.keys())


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the shim's program, its modules compiled by this Python."""
    folder = tmp_path_factory.mktemp("compiled")
    subprocess.run([sys.executable, "-I", "-S", host_main.__file__, "compile", str(folder)], check=True)
    return folder / "shim.py"


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    """Return the one-file starter."""
    path = tmp_path / "starter.pyz"
    path.write_bytes(pack.packed())
    return path


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    """A starter under this Python."""
    link = Talk(tmp_path)
    yield link
    link.close()
