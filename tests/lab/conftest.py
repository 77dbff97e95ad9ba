from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.store import Store

from .client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    with LabProcess(tmp_path / "lab.sqlite") as process:
        yield process


@pytest.fixture
def client(lab: LabProcess) -> Client:
    return Client(lab.address)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "lab.sqlite")
    yield opened
    opened.close()
