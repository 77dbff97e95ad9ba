"""A run tells a person how it goes, and a file or a pipe nothing but the end."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

RUN = [sys.executable, "-m", "pilotwrap", "run", "--spec", "job.json"]


def read_all(terminal: int) -> str:
    found = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # EIO: nobody holds its other end any more
            return found.decode()
        found += part


def test_a_run_shows_its_progress_on_a_terminal_only(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps({"command": ["sleep", "1"]}))
    mine, theirs = pty.openpty()
    with subprocess.Popen(RUN, cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, text=True) as shown:
        os.close(theirs)
        told = read_all(mine)
        assert shown.stdout is not None
        assert shown.stdout.read().startswith("finished: 1 job")
    os.close(mine)
    assert "1 going on" in told
    piped = subprocess.run(RUN, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (piped.returncode, piped.stderr) == (0, "")
    assert "going on" not in piped.stdout
