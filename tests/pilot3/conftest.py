from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from controller.panda import ScriptedPanda
from controller.rig import new_run
from pilot3.pilotrig import PilotRig, deaf, pilot_rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pilotwrap.run.rundir import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return new_run(tmp_path)


@pytest.fixture
def panda() -> ScriptedPanda:
    return ScriptedPanda()


@pytest.fixture
def rig(run: RunDirectory, panda: ScriptedPanda) -> Iterator[PilotRig]:
    with pilot_rig(run, deaf, panda) as made:
        yield made
