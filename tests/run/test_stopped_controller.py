"""A controller that is stopped cannot see that its starter was killed: the kernel lets it go on, and it ends itself."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .rig import alive_under, until

if TYPE_CHECKING:
    from .rig import Rig

GONE_S = 15.0
"""Nobody waits for it then but the reports, which the lab takes at once; a busy machine takes its time."""

ENTERED = shlex.join(["env", f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}"])
"""A way in that becomes the controller, as ch-run does."""


@pytest.mark.parametrize("way", [(), ("--enter", ENTERED)], ids=["beside the starter", "entered"])
def test_nothing_is_left_of_a_run_whose_controller_was_stopped_and_whose_starter_was_killed(
    rig: Rig, way: tuple[str, ...]
) -> None:
    (panda_id,) = rig.put(rig.sh("exec sleep 300"))
    run = rig.start("--jobs", "1", *way)
    until(lambda: run.events("Started"), "its payload runs")
    controller = run.controller
    os.kill(controller, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{controller}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it is stopped")
    run.child.kill()
    run.child.wait()
    try:
        until(lambda: not alive_under(run.folder), "nothing is left", GONE_S)
    finally:
        for pid in alive_under(run.folder):
            os.kill(pid, signal.SIGKILL)
    rig.flush(run.folder)
    (job,) = rig.final(panda_id)
    assert (job["state"], job["reports"]) == ("failed", 1)
