"""Faults that no step expects end a job, or the run, and never leave anybody waiting."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotwrap.run import agent
from pilotwrap.run.job import Job
from pilotwrap.run.surroundings import Surroundings

from .rig import Rig

RigOf = Callable[..., Rig]

BROKEN = """
import sys
from pilotwrap.run import agent
def broken(job, around):
    raise RuntimeError("a fault of ours")
agent.prepare = broken
from pilotwrap.cli.controller import direct
sys.exit(direct([]))
"""

STARTER = """
import sys
from pilotwrap.host.starter import main
sys.exit(main(sys.argv[1:], [sys.executable, "-c", {controller!r}]))
"""


def test_a_right_that_is_missing_ends_the_job_not_the_run(rig_of: RigOf, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_job: Job, _around: Surroundings) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(agent, "prepare", refused)
    rig = rig_of()
    rig.take("spec-0")
    rig.until_over()
    (report,) = rig.driver.reports
    assert (report.state, report.reason) == ("failed", "environment")
    assert "Operation not permitted" in report.detail


def test_a_fault_of_ours_on_another_thread_ends_the_run_with_its_traceback(tmp_path: Path) -> None:
    spec = tmp_path / "job.json"
    spec.write_text('{"command": ["true"]}')
    words = ["--spec", str(spec), "--run-dir", str(tmp_path / "runs")]
    command = [sys.executable, "-c", STARTER.format(controller=BROKEN), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 70
    assert "RuntimeError: a fault of ours" in done.stderr
