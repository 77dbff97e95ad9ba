"""Fetches jobs on a thread of its own: one request at a time, never for more than fits."""

import threading
import time
from collections.abc import Callable

from pilotwrap.model.errors import PilotwrapError
from pilotwrap.panda.client import PandaClient, Wanted
from pilotwrap.panda.job import PandaJob, UnrunnableJob

FETCH_S = 60.0
"""How long one request for jobs may take, its retries (only of requests that reached no server) included."""

Fetched = tuple[PandaJob | UnrunnableJob, ...] | PilotwrapError


class Fetcher:
    """Asks when told to, and hands what comes to `heard`."""

    def __init__(self, client: PandaClient, heard: Callable[[Fetched], None]) -> None:
        self._client = client
        self._heard = heard

    def ask(self, wanted: Wanted) -> None:
        """Start one request; its answer comes by `heard`."""
        threading.Thread(target=self._ask, args=(wanted,), name="fetcher", daemon=True).start()

    def _ask(self, wanted: Wanted) -> None:
        try:
            self._heard(self._client.acquire_jobs(wanted, time.monotonic() + FETCH_S))
        except PilotwrapError as error:
            self._heard(error)
