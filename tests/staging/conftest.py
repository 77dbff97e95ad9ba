"""Fixtures of the staging tests: a storage element, a job's directory, and a directory that serves as storage."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from storage_element import Handler, Server, Storage


@pytest.fixture
def storage() -> Iterator[Storage]:
    kept = Storage()
    handler = type("OwnHandler", (Handler,), {"storage": kept})
    with Server(("127.0.0.1", 0), handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield kept
        kept.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder
