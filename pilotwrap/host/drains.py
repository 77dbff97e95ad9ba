"""The pipes that a payload writes into, and the bounded files that they are drained into."""

import os

from pilotwrap.host.sink import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Set


class Drains:
    """Any number of pipes; `cut` is how many bytes were left out, `refusal` why a file took no more."""

    def __init__(self) -> None:
        self.cut = 0
        self.refusal = ""
        self._sinks: "Dict[int, Sink]" = {}
        self._ended: "Set[int]" = set()

    def open(self, path: str, cap: int) -> int:
        """Return the end to write into of a new pipe to this file; `OSError` when it cannot be made."""
        sink = Sink(path, cap)
        read, write = os.pipe()
        os.set_blocking(read, False)
        self._sinks[read] = sink
        return write

    @property
    def fds(self) -> "List[int]":
        """Return the ends to read from."""
        return list(self._sinks)

    def take(self, fd: int) -> bool:
        """Take what is there; false at the end of it, which a payload that lives on may have reached already."""
        data = os.read(fd, 65536)
        if data:
            self._sinks[fd].feed(data)
        else:
            self._ended.add(fd)
        return bool(data)

    def close(self) -> None:
        """Take what is left and write the files' ends."""
        for fd, sink in self._sinks.items():
            self._empty(fd)
            os.close(fd)
            sink.close()
            self.cut += sink.cut
            self.refusal = self.refusal or sink.refusal
        self._sinks.clear()

    def _empty(self, fd: int) -> None:
        # what a pipe can hold and no more: one who was never ours may hold its other end and go on writing
        try:
            for _ in range(64):
                if fd in self._ended or not self.take(fd):
                    return
        except BlockingIOError:
            return
