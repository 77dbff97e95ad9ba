"""An unpacked pilot is compiled once, so that another user can read it, and never run."""

from __future__ import annotations

import sys
from pathlib import Path

from pilotwrap.plan.pilotflags import FoundPython
from pilotwrap.run.pilot3.bytecode import compile_for

PYTHON = FoundPython(path=sys.executable, version=tuple(sys.version_info[:3]))
TAG = sys.implementation.cache_tag


def unpacked(folder: Path) -> Path:
    (folder / "pilot" / "util").mkdir(parents=True)
    for name in ("pilot.py", "pilot/__init__.py", "pilot/util/__init__.py"):
        (folder / name).write_text("raise SystemExit(open('ran', 'w').close())\n")
    return folder


def compiled(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.pyc"))


def test_all_is_compiled_for_others_to_read_and_nothing_is_run(tmp_path: Path) -> None:
    home = unpacked(tmp_path)
    compile_for(PYTHON, str(home))
    assert len(compiled(home)) == 3
    for path in compiled(home):
        assert path.stat().st_mode & 0o044 == 0o044
        assert path.parent.stat().st_mode & 0o055 == 0o055
    assert not list(home.rglob("ran"))
    assert not Path("ran").exists()


def test_it_is_not_compiled_again(tmp_path: Path) -> None:
    home = unpacked(tmp_path)
    compile_for(PYTHON, str(home))
    first = {path: path.stat().st_mtime_ns for path in compiled(home)}
    compile_for(FoundPython(path="/no/python", version=PYTHON.version), str(home))
    compile_for(PYTHON, str(home))
    assert {path: path.stat().st_mtime_ns for path in compiled(home)} == first


def test_a_pilot_that_cannot_be_compiled_is_left_as_it_is(tmp_path: Path) -> None:
    home = unpacked(tmp_path)
    (home / "pilot" / "util" / "broken.py").write_text("print 'an old one'\n")
    compile_for(PYTHON, str(home))
    compile_for(FoundPython(path="/no/python", version=(3, 1)), str(home))
    assert home / "pilot" / "__pycache__" / f"__init__.{TAG}.pyc" in compiled(home)


def test_what_another_node_is_compiling_is_left_to_it(tmp_path: Path) -> None:
    home = unpacked(tmp_path)
    compile_for(FoundPython(path="/no/python", version=PYTHON.version), str(home))  # it has begun, and not ended
    compile_for(PYTHON, str(home))
    assert compiled(home) == []
