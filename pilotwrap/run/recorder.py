"""Writes the spool on a thread of its own: whatever gathers during one fsync goes with the next."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pilotwrap.model.errors import PilotwrapError
from pilotwrap.panda.spool import Record, Spool

Written = Callable[[str | None], None]
"""Called when a record is on the disk (None), or cannot be (why)."""


@dataclass(frozen=True)
class Entry:
    """A record, and whom to call when it is fsynced; None: nobody waits for it, so it may wait for others."""

    record: Record
    written: Written | None = None


class Recorder:
    """Takes entries in order; `close` returns when all are written or refused."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._entries: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Have a record written."""
        self._entries.put(entry)

    def close(self) -> None:
        """Write what is left, and let go of the file."""
        self._entries.put(None)
        self._thread.join()
        self._spool.close()

    def _work(self) -> None:
        held: list[Entry] = []
        while True:
            entry = self._entries.get()
            batch, last = self._with_waiting(entry)
            held += batch
            if last or any(one.written for one in held):
                self._write(held)
                held = []
            if last:
                return

    def _with_waiting(self, entry: Entry | None) -> tuple[list[Entry], bool]:
        batch: list[Entry] = []
        while entry is not None:
            batch.append(entry)
            try:
                entry = self._entries.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _write(self, entries: list[Entry]) -> None:
        refusal: str | None = None
        try:
            self._spool.append([entry.record for entry in entries])
        except PilotwrapError as error:
            refusal = str(error)
        for entry in entries:
            if entry.written:
                entry.written(refusal)
