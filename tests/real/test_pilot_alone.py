"""PanDA's own pilot, as it comes from PyPI, against the lab's legacy calls, in a network with loopback alone.

It runs as an unprivileged user among processes of its own only: its clean-up would end other people's.
"""

from __future__ import annotations

import json
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
from real.pilot import ROOM

from pilotwrap.lab.put import panda_job
from pilotwrap.lab.queuedata import storage_path

BASE_URL = "http://pandaserver-doma.cern.ch:25080/trf/user"
"""This version takes a transformation from here or from one other place, and has no option for more; nothing is asked
there: the lab answers as its HTTP proxy."""

TEXT = "one two three\n" * 1000


@pytest.fixture
def folder(pilot_sdist: Path) -> Iterator[Path]:
    """Outside of pytest's own folders, which nobody else can enter."""
    made = Path(tempfile.mkdtemp(prefix="pilot-alone-"))
    try:
        made.chmod(0o755)
        with tarfile.open(pilot_sdist) as packed:
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
