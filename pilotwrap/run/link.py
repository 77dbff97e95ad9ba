"""The controller's end of the pipes to the starter: JSON lines both ways."""

import json
import os
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

Message = dict[str, Any]
"""One line of the wire; the keys stand in `host/wire.py`, which both sides' tests read."""

LOST: Message = {"event": "lost"}
"""What the reader says at the end of its input: the starter is gone."""

PROTOCOL = 1


class StarterLink:
    """Sends orders to the starter, and hands what it says to `heard`, on a thread of its own."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._lock = threading.Lock()
        self._put_back: list[Message] = []

    @classmethod
    def from_standard_streams(cls) -> "StarterLink":
        """Take our stdin and stdout for the wire; whatever prints from now on prints to stderr."""
        source = os.fdopen(os.dup(0), "rb")
        sink = os.fdopen(os.dup(1), "wb")
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        return cls(source, sink)

    def put_back(self, message: Message) -> None:
        """Have a message read again, by whom it is meant for; before `listen` only."""
        self._put_back.append(message)

    def read(self) -> Message:
        """Return the next message, or LOST."""
        if self._put_back:
            return self._put_back.pop(0)
        line = self._source.readline()
        if not line.endswith(b"\n"):
            return LOST
        message = json.loads(line)
        return message if isinstance(message, dict) else LOST

    def listen(self, heard: Callable[[Message], None]) -> None:
        """Hand every further message to `heard` until the starter is gone."""

        def pump() -> None:
            message = self.read()
            while message is not LOST:
                heard(message)
                message = self.read()
            heard(LOST)

        threading.Thread(target=pump, name="starter-link", daemon=True).start()

    def send(self, *orders: Message) -> None:
        """Send orders; a starter that is gone is noticed by the reader."""
        data = b"".join(json.dumps(order, separators=(",", ":")).encode() + b"\n" for order in orders)
        with self._lock:
            try:
                self._sink.write(data)
                self._sink.flush()
            except (BrokenPipeError, ValueError):
                return
