"""PanDA's own pilot, as it comes from PyPI, against the lab's legacy calls, in a network with loopback alone.

It runs as an unprivileged user among processes of its own only: its clean-up would end other people's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotwrap.lab.put import panda_job
from pilotwrap.lab.queuedata import storage_path

PILOT = "panda-pilot==3.7.0.36"
SHA256 = "8b5b754fa9fbea835b14215c2957a59a393988113c5209f5c826e6c67b46f03e"
"""Of its sdist: the wheel has no pilot.py."""

BASE_URL = "http://pandaserver-doma.cern.ch:25080/trf/user"
"""This version takes a transformation from here or from one other place, and has no option for more; nothing is asked
there: the lab answers as its HTTP proxy."""

ROOM = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
TEXT = "one two three\n" * 1000


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid() or subprocess.run([*ROOM, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root and unshare: the pilot runs as nobody in namespaces of its own; run the tests as root")
    missing = [name for name in ("ip", "setpriv", "curl", "/usr/bin/python3") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"the pilot's room needs {', '.join(missing)}: apt-get install iproute2 util-linux curl python3")
    folder = tmp_path_factory.mktemp("sdist")
    (folder / "requirements.txt").write_text(f"{PILOT} --hash=sha256:{SHA256}\n")
    words = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", "requirements.txt", "-d", "got"]
    argv = [sys.executable, "-m", "pip", "download", "-q", *words]
    ended = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if ended.returncode:
        pytest.skip(f"{PILOT} cannot be had ({ended.stderr.strip()[-200:]}): give pip an index that has it")
    return next((folder / "got").glob("*.tar.gz"))


@pytest.fixture
def folder(sdist: Path) -> Iterator[Path]:
    """Outside of pytest's own folders, which nobody else can enter."""
    made = Path(tempfile.mkdtemp(prefix="pilot-alone-"))
    try:
        made.chmod(0o755)
        with tarfile.open(sdist) as packed:
            packed.extractall(made, filter="data")
        next(made.glob("panda-pilot-*")).rename(made / "pilot3")
        yield made
    finally:
        shutil.rmtree(made)


def job(command: str) -> dict[str, Any]:
    words = ["sh", "-c", command]
    spec = {
        "command": words,
        "inputs": [{"lfn": "in.txt", "size": len(TEXT), "adler32": f"{zlib.adler32(TEXT.encode()):08x}"}],
        "outputs": [{"lfn": "out.txt"}],
    }
    return {**panda_job(spec, "test"), "transformation": f"{BASE_URL}/run"}


def stored(folder: Path, lfn: str) -> Path:
    return folder / "storage" / storage_path(lfn)


def run(folder: Path, command: str) -> dict[str, Any]:
    given = stored(folder, "in.txt")
    given.parent.mkdir(parents=True)
    given.write_text(TEXT)
    (folder / "job.json").write_text(json.dumps(job(command)))
    argv = [*ROOM, sys.executable, str(Path(__file__).with_name("alone.py")), str(folder), "legacy"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def test_the_bare_pilot_finishes_a_job_with_an_input_and_an_output(folder: Path) -> None:
    told = run(folder, "sort in.txt | tail -n 1 > out.txt")
    assert told["job"]["state"] == "finished", (folder / "pilot.out").read_text()[-8000:]
    report = json.loads(told["report"])
    log = told["spec"]["logFile"]
    assert set(report) == {"out.txt", log}
    for lfn, said in report.items():
        content = stored(folder, lfn).read_bytes()
        assert (said["fsize"], said["adler32"]) == (len(content), f"{zlib.adler32(content):08x}")
    assert stored(folder, "out.txt").read_text() == "one two three\n"
    with tarfile.open(stored(folder, log)) as packed:
        assert any(name.endswith("payload.stdout") for name in packed.getnames())
    assert stored(folder, "in.txt").read_text() == TEXT
