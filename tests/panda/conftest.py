from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from pilotwrap.model.credential import Credential
from pilotwrap.panda.client import PandaClient
from pilotwrap.panda.https import HttpsTransport
from pilotwrap.panda.retry import Patience

from .scripted_server import ScriptedServer, told

if TYPE_CHECKING:
    from collections.abc import Iterator

# a shared machine is slow at times: that is no finding
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

TOKEN = "opaque-token-0123456789"  # noqa: S105 - opens nothing


@dataclass
class HandClock:
    """Time that passes only when somebody sleeps."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def pem() -> Path:
    return Path(__file__).parent / "loopback.pem"


@pytest.fixture
def credential(tmp_path: Path) -> Credential:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(f"{TOKEN}\n")
    return Credential(kind="token", path=str(path), origin="atlas.production")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer([told()]) as started:
        yield started


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def client(server: ScriptedServer, credential: Credential, clock: HandClock) -> PandaClient:
    patience = Patience(clock=clock.read, sleep=clock.sleep, chance=lambda: 1.0)
    return PandaClient(HttpsTransport(server.url, credential), patience)


@pytest.fixture
def closed_port() -> str:
    """Return a URL where nobody listens."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
