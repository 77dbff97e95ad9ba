"""Harvester's worker is told of when this run is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pilotwrap.model.credential import Credential
from pilotwrap.run.pandaworker import tell_worker
from pilotwrap.run.surroundings import Server

if TYPE_CHECKING:
    from pilotwrap.panda.client import PandaClient

CREDENTIAL = Credential(kind="token", path="/nowhere", origin="lab.production")


class Heard:
    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def worker_status(self, *said: Any) -> bool:  # noqa: ANN401
        self.said.append(said[:4])
        return True


def server(harvester_id: str | None, worker_id: int | None) -> Server:
    return Server("http://127.0.0.1:1", "Q", CREDENTIAL, harvester_id=harvester_id, worker_id=worker_id)


def told(heard: Heard, of: Server) -> bool:
    def client() -> PandaClient:
        return heard  # type: ignore[return-value]  # one method of it is called

    thread = tell_worker(client, of, "started", "node1")
    if thread:
        thread.join(10)
    return thread is not None


def test_the_server_hears_of_the_worker_by_its_number() -> None:
    heard = Heard()
    assert told(heard, server("H", 0))
    assert heard.said == [(0, "H", "started", "node1")]


@pytest.mark.parametrize(("harvester_id", "worker_id"), [(None, 7), ("H", None), (None, None)])
def test_a_run_that_is_no_worker_says_nothing(harvester_id: str | None, worker_id: int | None) -> None:
    heard = Heard()
    assert not told(heard, server(harvester_id, worker_id))
    assert heard.said == []
