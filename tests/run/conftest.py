from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .rig import Rig, rigs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    for made in rigs(tmp_path):
        yield made
        made.nothing_left()
