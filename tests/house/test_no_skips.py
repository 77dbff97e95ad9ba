import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
BODY = "import pytest\n\n\n{mark}\ndef test_it():\n    assert {truth}\n"
MARKS = {
    "skip": ("@pytest.mark.skip(reason='not here')", "True"),
    "expected-failure": ("@pytest.mark.xfail(strict=False)", "False"),
    "unexpected-pass": ("@pytest.mark.xfail(strict=False)", "True"),
}


def _ended(folder: Path, mark: str, truth: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_one.py").write_text(BODY.format(mark=mark, truth=truth))
    argv = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", *options]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.run(
        argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("kind", MARKS)
def test_what_did_not_run_fails_where_every_part_must_be_here(tmp_path: Path, kind: str) -> None:
    ended = _ended(tmp_path, *MARKS[kind], "--no-skips")
    assert ended.returncode == 1, ended.stdout
    assert "NOT RUN test_one.py::test_it" in ended.stdout


@pytest.mark.parametrize("kind", MARKS)
def test_what_did_not_run_passes_elsewhere(tmp_path: Path, kind: str) -> None:
    assert _ended(tmp_path, *MARKS[kind]).returncode == 0


def test_what_ran_passes_with_and_without(tmp_path: Path) -> None:
    assert _ended(tmp_path, "", "True", "--no-skips").returncode == 0
    assert _ended(tmp_path, "", "False").returncode == 1
