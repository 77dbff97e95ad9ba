"""The one-file starter: the same bytes everywhere, runs everywhere, and opens little."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from detect.systree import SysTree
from talk import ROOT, Talk, relay

from pilotwrap import __version__
from pilotwrap.host import __main__ as host_main
from pilotwrap.host import pack

PACK = """
import sys
sys.path.insert(0, sys.argv[1])
from pilotwrap.host import pack
sys.stdout.buffer.write(pack.packed())
"""
STATS = "stat,lstat,fstat,newfstatat,statx"
COUNTED = f"open,openat,{STATS},readlink,readlinkat,access,faccessat,faccessat2,getdents,getdents64"
CONTROLLER = '#!/bin/sh\nread hello\nread snapshot\necho \'{"do":"finish","exit_code":0,"output":null}\'\n'


def test_every_python_packs_the_same_bytes(python: str) -> None:
    packed = subprocess.run([python, "-I", "-S", "-c", PACK, str(ROOT)], capture_output=True, check=True).stdout
    assert packed == pack.packed()


def test_it_holds_every_module_but_its_maker() -> None:
    held = {name for name, _text in pack.members()}
    modules = {f"pilotwrap.host.{path.stem}" for path in Path(pack.__file__).parent.glob("*.py")}
    assert modules - held == {"pilotwrap.host.pack", "pilotwrap.host.__init__"}


def test_the_verb_prints_it() -> None:
    argv = [sys.executable, "-m", "pilotwrap", "starter"]
    printed = subprocess.run(argv, capture_output=True, check=True, cwd=ROOT).stdout
    assert printed == pack.packed()
    ast.parse(printed)


def test_it_runs_under_every_python_without_the_package(starter: Path, python: str) -> None:
    for flags in ([], ["-I", "-S"]):
        said = subprocess.run([python, *flags, str(starter), "--version"], capture_output=True, text=True, check=True)
        assert said.stdout == f"pilotwrap {__version__}\n"


def test_files_beside_it_are_not_imported(starter: Path) -> None:
    (starter.parent / "select.py").write_text("raise SystemExit('the wrong one')")
    said = subprocess.run([sys.executable, str(starter), "observe"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.parametrize("words", [[], ["fly"], ["shim"], ["observe", "--what"]])
def test_wrong_words_are_refused_with_the_usage(starter: Path, words: list[str]) -> None:
    said = subprocess.run([sys.executable, str(starter), *words], capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert said.stderr.startswith("usage: starter.pyz observe")


def test_it_enters_an_image_and_names_itself_for_the_shims(starter: Path, tmp_path: Path, python: str) -> None:
    way = tmp_path / "runtime"
    way.write_text(f"#!/bin/sh\nexec {relay(tmp_path)}\n")
    way.chmod(0o755)
    own = [python, "-I", "-S", str(starter), "run", "--enter", f"{way} exec 'an image'"]
    link = Talk(tmp_path, "--json", argv=own)
    hello = link.hear("hello")
    assert hello["self"] == [python, "-I", "-S", str(starter)]
    assert hello["words"] == ["--json"]
    assert hello["enter"] == [str(way), "exec", "an image"]
    link.finish()
    link.close()


def calls(argv: list[str], folder: Path, **env: str) -> int:
    """Count the file-system calls of a program and all that it starts."""
    log = folder / "strace.out"
    command = ["strace", "-f", "-o", str(log), "-e", f"trace={COUNTED}", *argv]
    traced = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
        timeout=120,
    )
    if traced.returncode and "PTRACE" in traced.stderr:
        pytest.skip("strace may not trace here: allow ptrace (CAP_SYS_PTRACE)")
    assert traced.returncode == 0, traced.stderr
    return len([line for line in log.read_text().splitlines() if re.search(r"\w+\(", line) and "resumed>" not in line])


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace: apt-get install strace")


@needs_strace
def test_the_starter_opens_at_most_400_files_and_two_a_device(starter: Path, tmp_path: Path, python: str) -> None:
    controller = tmp_path / "controller"
    controller.write_text(CONTROLLER)
    controller.chmod(0o755)
    bare = calls([python, "-I", "-S", "-c", "pass"], tmp_path)
    devices = len(list(Path("/sys/bus/pci/devices").glob("*")))
    spent = calls([python, "-I", "-S", str(starter), "run", "--enter", str(controller)], tmp_path)
    assert spent - bare <= 400 + 2 * devices


ALL = {"fail_by": "signal", "results": "{folder}", "begun": "{folder}/begun", "output": "{folder}"}
"""What a rank's file may ask for besides; with it comes a device to be looked for."""


@needs_strace
@pytest.mark.parametrize("more", [{}, ALL], ids=["plain", "all"])
@pytest.mark.parametrize("way", ["one file", "folder", "compiled"])
def test_the_shim_opens_at_most_200_files_compiled_70(
    starter: Path,
    tmp_path: Path,
    python: str,
    way: str,
    more: dict[str, str],
) -> None:
    if way == "folder":
        python = sys.executable  # a package is run by the Python that it is installed for
    cpu = max(os.sched_getaffinity(0))
    tree = SysTree(tmp_path / "root")
    tree.nvidia("0000:c1:00.0", 0)
    order = tmp_path / "shim.json"
    binding = {"local_rank": 0, "cpus": str(cpu), "env": {}, "devices": ["0000:c1:00.0"] if more else []}
    names = {"protocol": 1, "rank": ["R"], "local_rank": ["L"], "size": ["S"], "bindings": [binding]}
    asked = {key: text.format(folder=tmp_path) for key, text in more.items()}
    order.write_text(json.dumps({**names, "argv": ["/bin/true"], "keep": ["PATH"], "grace_s": 1, **asked}))
    file = host_main.__file__ if way == "folder" else str(starter)
    command = [python, "-I", "-S", file, "shim", str(order)]
    if way == "compiled":
        subprocess.run([python, "-I", "-S", file, "compile", str(tmp_path)], check=True)
        starter.unlink()  # nothing else is opened
        command = [python, "-I", "-S", str(tmp_path / "shim.py"), str(order)]
    names = {"R": "0", "L": "0", "S": "1", "PILOTWRAP_SYSROOT": str(tree.root)}
    subprocess.run(command, capture_output=True, check=True, env={**os.environ, **names})  # leaves what is compiled
    bare = calls([python, "-I", "-S", "-c", "pass"], tmp_path)
    assert calls(command, tmp_path, **names) - bare <= (70 if way == "compiled" else 200)
    assert (tmp_path / "0.out").exists() == bool(more)
