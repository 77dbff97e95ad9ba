"""The host's room runs on nothing but a Python of 3.6 or newer: on each that this machine has."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
IMPORT_ALL = """\
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


def _modules() -> list[str]:
    files = (path.relative_to(REPOSITORY) for path in sorted((REPOSITORY / "pilotwrap/host").rglob("*.py")))
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]


def _candidates() -> list[str]:
    named = [shutil.which(f"python3.{minor}") for minor in range(6, 20)]
    kept = _home().glob(".pyenv/versions/3.*/bin/python3")
    installed = [path for path in Path("/usr/bin").glob("python3*") if re.fullmatch(r"python3(\.\d+)?", path.name)]
    return [sys.executable, *(path for path in named if path), *map(str, (*kept, *installed))]


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # an account without a home
        return Path("/nonexistent")


def _version(python: str) -> str | None:
    """Return major.minor; None for what does not start (a version manager's shim) or is too old."""
    script = "import sys; print('%d.%d' % sys.version_info[:2]); sys.exit(sys.version_info < (3, 6))"
    try:
        argv = [python, "-I", "-S", "-c", script]
        shown = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return None
    return shown.stdout.strip() if shown.returncode == 0 else None


def _pythons() -> dict[str, str]:
    found = {version: python for python in reversed(_candidates()) if (version := _version(python))}
    return dict(sorted(found.items(), key=lambda item: int(item[0].split(".")[1])))


PYTHONS = _pythons()


@pytest.mark.parametrize("version", PYTHONS)
def test_every_module_of_the_host_s_room_is_imported(version: str) -> None:
    argv = [PYTHONS[version], "-I", "-S", "-B", "-W", "error", "-c", IMPORT_ALL, str(REPOSITORY), *_modules()]
    ended = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_the_host_s_room_has_modules() -> None:
    assert "pilotwrap.host" in _modules()
