"""The shim's compiled modules: used by the Python that compiled them, and by no other."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SHIM = "shim.py"
CODES = "shim.codes"


def compile_by(python: str, starter: Path, **more: int) -> Path:
    """Return the folder that holds what this Python has compiled."""
    folder = starter.parent / "run"
    folder.mkdir()
    subprocess.run([python, "-I", "-S", str(starter), "compile", str(folder)], check=True, **more)  # type: ignore[call-overload]
    return folder


def exit_code(python: str, folder: Path) -> int:
    """Run a rank that ends with 7."""
    order = {"protocol": 1, "rank": ["R"], "local_rank": ["R"], "argv": ["/bin/sh", "-c", "exit 7"], "keep": ["PATH"]}
    (folder / "order.json").write_text(json.dumps(order))
    argv = [python, "-I", "-S", str(folder / SHIM), str(folder / "order.json")]
    return subprocess.run(argv, env={**os.environ, "R": "0"}, capture_output=True, check=False, timeout=60).returncode


def test_the_python_that_compiled_them_needs_nothing_else(starter: Path, python: str) -> None:
    folder = compile_by(python, starter)
    starter.unlink()
    assert exit_code(python, folder) == 7


def test_every_python_runs_what_one_has_compiled_another_one_the_sources(starter: Path, python: str) -> None:
    folder = compile_by(sys.executable, starter)
    assert exit_code(python, folder) == 7


GARBLED: dict[str, Callable[[bytes], bytes]] = {
    "another Python's": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda _data: b"",
    "one bit": lambda data: data[:-2000] + bytes([data[-2000] ^ 1]) + data[-1999:],
    "zeroes": lambda data: data[:4096] + bytes(len(data) - 4096),
}


@pytest.mark.parametrize("garble", GARBLED.values(), ids=GARBLED.keys())
def test_what_is_not_whole_is_never_run(starter: Path, garble: Callable[[bytes], bytes]) -> None:
    folder = compile_by(sys.executable, starter)
    codes = folder / CODES
    codes.write_bytes(garble(codes.read_bytes()))
    assert exit_code(sys.executable, folder) == 7
    starter.unlink()
    assert exit_code(sys.executable, folder) == 2  # Python's own, for a file that is not there


def test_a_missing_file_is_no_harm(starter: Path) -> None:
    folder = compile_by(sys.executable, starter)
    (folder / CODES).unlink()
    assert exit_code(sys.executable, folder) == 7


def test_all_may_read_and_nobody_else_may_write_them(starter: Path) -> None:
    folder = compile_by(sys.executable, starter, umask=0o077)
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in (SHIM, CODES)] == [0o644, 0o644]
    assert sorted(path.name for path in folder.iterdir()) == [CODES, SHIM]


def test_names_that_are_not_ascii_do_no_harm(starter: Path, python: str) -> None:
    folder = compile_by(python, starter)
    odd = os.fsencode(starter.parent) + b"/r\xc3\xbcn \xff'\""
    folder.rename(os.fsdecode(odd))
    again = Path(os.fsdecode(odd))
    subprocess.run([python, "-I", "-S", str(starter), "compile", str(again)], check=True, env={"LC_ALL": "C"})
    starter.unlink()
    assert exit_code(python, again) == 7


def test_a_folder_that_takes_nothing_is_said(starter: Path) -> None:
    argv = [sys.executable, "-I", "-S", str(starter), "compile", str(starter.parent / "missing")]
    said = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr.count("\n")) == (1, 1)
    assert "No such file" in said.stderr


def test_what_a_shim_says_arrives_whole(starter: Path, python: str) -> None:
    folder = compile_by(python, starter)
    argv = [python, "-I", "-S", str(folder / SHIM), str(folder / "missing.json")]
    said = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert said.returncode == 122
    assert said.stderr.startswith("pilotwrap shim: cannot use ")
    assert said.stderr.endswith("\n")
