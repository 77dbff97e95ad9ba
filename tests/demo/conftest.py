from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from run.rig import PATIENCE_S, Ended, alive_under, until

from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


HEARD = ["/usr/bin/env", "--default-signal=HUP,INT"]
"""Tests that run under nohup, or in a script's background, hand on signals that are ignored."""


@dataclass
class Demo:
    """Demos of the real program, each with its own folder below `path`."""

    path: Path
    python: str = sys.executable
    user: int | None = None
    environment: dict[str, str] = field(default_factory=dict)
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, name: str, *words: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [*HEARD, self.python, "-m", "pilotwrap", "demo", "--dir", str(self.path / name), *words],
            cwd=self.path,
            env={**os.environ, **self.environment},
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        self.children.append(child)
        return child

    def end(self, child: subprocess.Popen[str]) -> Ended:
        out, err = child.communicate(timeout=PATIENCE_S)
        ended = Ended(child.returncode, out, err)
        assert "Traceback" not in out + err, ended
        return ended

    def run(self, name: str, *words: str) -> Ended:
        return self.end(self.start(name, *words))

    def jobs(self, name: str) -> list[dict[str, Any]]:
        """Return what the server of a demo knows; nothing while it has no database yet."""
        path = self.path / name / "lab.db"
        if not path.exists():
            return []
        with closing(Store.existing(path)) as store:
            return [dict(job) for job in listed_jobs(store)]

    def nothing_left(self, name: str) -> None:
        until(lambda: not alive_under(self.path / name), f"nothing lives in {name}", 15)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    found = Demo(tmp_path)
    yield found
    for child in found.children:
        if child.poll() is None:
            child.kill()
        child.communicate()
