"""Harvester's worker that this run is: told to the server as begun and as over, as a pilot of its own tells it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilotwrap.panda.client import PandaClient
    from pilotwrap.run.surroundings import Server

TELL_S = 5.0
"""How long a word on the worker may take; nothing hangs on it (the server's answer takes 20 ms, measured)."""


def tell_worker(
    client: Callable[[], PandaClient], server: Server, status: Literal["started", "finished"], node: str
) -> threading.Thread | None:
    """Say on a thread of its own what becomes of the worker; None: this run is none of Harvester's."""
    if server.harvester_id is None or server.worker_id is None:
        return None
    worker_id, harvester_id = server.worker_id, server.harvester_id

    def tell() -> None:
        client().worker_status(worker_id, harvester_id, status, node, time.monotonic() + TELL_S)

    thread = threading.Thread(target=tell, name="panda-worker", daemon=True)
    thread.start()
    return thread
