from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .rig import Rig, new_run, panda_surroundings, starters, surroundings, with_panda
from .starter import Script, ScriptedStarter, obedient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pilotwrap.model.node import NodeFacts
    from pilotwrap.run.rundir import RunDirectory

    from .panda import ScriptedPanda


@pytest.fixture
def run_directory(tmp_path: Path) -> RunDirectory:
    return new_run(tmp_path)


@pytest.fixture
def starter_of() -> Iterator[Callable[[Script], ScriptedStarter]]:
    with starters() as made:

        def start(script: Script) -> ScriptedStarter:
            made.append(ScriptedStarter(script))
            return made[-1]

        yield start


@pytest.fixture
def rig_of(
    run_directory: RunDirectory, starter_of: Callable[[Script], ScriptedStarter]
) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def rig(script: Script = obedient, facts: NodeFacts | None = None, panda: ScriptedPanda | None = None) -> Rig:
        around = (panda_surroundings if panda else surroundings)(run_directory, facts)
        made.append(Rig(around, starter_of(script)))
        if panda:
            with_panda(made[-1], panda)
        return made[-1]

    yield rig
    for one in made:
        if one.driver.recorder:
            one.driver.recorder.close()
        one.driver.journal.close()
