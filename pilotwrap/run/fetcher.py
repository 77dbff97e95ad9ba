"""Fetches jobs on a thread of its own: one request at a time, never for more than fits."""

import queue
import threading
import time
from collections.abc import Callable

from pilotwrap.model.errors import PilotwrapError
from pilotwrap.panda.client import PandaClient, Wanted
from pilotwrap.panda.job import FetchedJob, parse_jobs

FETCH_S = 60.0
"""How long one request for jobs may take, its retries (only of requests that reached no server) included."""

Fetched = tuple[FetchedJob, ...] | PilotwrapError


class Fetcher:
    """Asks when told to, and hands what comes to `heard`; `any_kind`: jobs too that only PanDA's own pilot can run."""

    def __init__(self, client: PandaClient, heard: Callable[[Fetched], None], *, any_kind: bool = False) -> None:
        self._client = client
        self._heard = heard
        self._any_kind = any_kind
        self._wanted: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="fetcher", daemon=True).start()

    def ask(self, wanted: Wanted) -> None:
        """Have one request sent; its answer comes by `heard`."""
        self._wanted.put(wanted)

    def _work(self) -> None:
        while True:
            wanted = self._wanted.get()
            try:
                entries = self._client.acquire_entries(wanted, time.monotonic() + FETCH_S)
                self._heard(parse_jobs(entries, any_kind=self._any_kind))
            except PilotwrapError as error:
                self._heard(error)
