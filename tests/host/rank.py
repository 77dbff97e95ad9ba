"""A rank shim to be started, with the launcher's variables set."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from talk import marked, until

from pilotwrap.host import __main__ as host_main
from pilotwrap.host import wire

BAD_CHILD = [sys.executable, "-S", str(Path(__file__).parent / "bad_child.py")]


class Shim:
    """A shim to be started, with the launcher's variables set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"mark-{uuid.uuid4().hex}"
        self.ready = folder / "ready"
        self.order: dict[str, object] = {
            "protocol": 1,
            "rank": ["NOT_SET", "R"],
            "local_rank": ["L"],
            "size": ["S"],
            "bindings": [],
            "argv": ["true"],
            "keep": ["PATH"],
            "env": {"READY": str(self.ready), "MARK": self.mark},
            "unset": [],
            "cwd": None,
            "grace_s": 0.3,
            "results": str(folder),
        }
        self.variables = {"R": "5", "L": "1", "S": "8"}
        self.program = [host_main.__file__, "shim"]

    def start(self, python: str = sys.executable, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        path = self.folder / "shim.json"
        path.write_text(json.dumps(self.order))
        argv = [python, "-I", "-S", *self.program, str(path)]
        env = {"PATH": os.environ["PATH"], "A_TOKEN": "hush", **self.variables}
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, stdin=stdin, stdout=pipe, stderr=pipe, text=True, env=env, start_new_session=True)

    def run(self, python: str = sys.executable) -> tuple[int, str, str]:
        started = self.start(python)
        out, err = started.communicate(timeout=30)
        return started.returncode, out, err

    def result(self) -> dict[str, object]:
        result = json.loads((self.folder / "rank-5.json").read_text())
        assert set(result) == set(wire.RESULT)
        return result

    def nothing_left(self) -> None:
        until(lambda: not marked(self.mark))


@pytest.fixture(params=["package", "compiled"])
def shim(tmp_path: Path, compiled: Path, request: pytest.FixtureRequest) -> Iterator[Shim]:
    it = Shim(tmp_path)
    if request.param == "compiled":
        it.program = [str(compiled)]
    yield it
    for pid in marked(it.mark):
        os.kill(pid, signal.SIGKILL)
