"""A scripted starter at the other end of two pipes: it speaks the wire, and starts nothing."""

from __future__ import annotations

import io
import json
import os
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

from pilotwrap.run.link import StarterLink

Message = dict[str, Any]
Script = Callable[[Message], Iterable[Message]]
"""What the starter says to an order."""

PATIENCE_S = 30.0
"""A machine that is busy with other tests is slow, not wrong."""


def started(spawn_id: str) -> Message:
    return {"event": "started", "id": spawn_id, "pid": 4711}


def exited(spawn_id: str, exit_code: int | None = 0, signal: int | None = None, **more: object) -> Message:
    usage = {"wall_s": 2.0, "user_s": 1.0, "system_s": 0.5, "max_rss_kib": 1024}
    return {"event": "exited", "id": spawn_id, "exit_code": exit_code, "signal": signal, "usage": usage, **more}


def failed(spawn_id: str, errno: str = "ENOENT", what: str = "start nothing") -> Message:
    return {"event": "failed", "id": spawn_id, "errno": errno, "what": what, "text": "No such file or directory"}


def obedient(order: Message) -> Iterable[Message]:
    """Let every payload end well at once, and a signalled one by its signal."""
    if order["do"] == "spawn":
        return [started(order["id"]), exited(order["id"])]
    return [exited(order["id"], None, order["signal"])]


def patient(order: Message) -> Iterable[Message]:
    """Let payloads run until they are signalled."""
    return [started(order["id"])] if order["do"] == "spawn" else obedient(order)


def silent(_order: Message) -> Iterable[Message]:
    return []


class ScriptedStarter:
    """Keeps every order in `orders`; `before_reading` is called when one is there and nothing of it is read."""

    def __init__(self, script: Script, before_reading: Callable[[], None] = lambda: None) -> None:
        self.script = script
        self.orders: list[Message] = []
        self._new: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._before_reading = before_reading
        from_us, to_controller = os.pipe()
        to_us, from_controller = os.pipe()
        self._source = io.BufferedReader(io.FileIO(to_us, "rb"))
        self._sink = os.fdopen(to_controller, "wb")
        self._lock = threading.Lock()
        self._to_starter = os.fdopen(from_controller, "wb")
        self.link = StarterLink(os.fdopen(from_us, "rb"), self._to_starter)
        self._thread = threading.Thread(target=self._work, name="scripted-starter", daemon=True)
        self._thread.start()

    def say(self, *messages: Message) -> None:
        with self._lock:
            self._sink.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
            self._sink.flush()

    def next_order(self) -> Message:
        """Wait for the next order that no test has looked at."""
        return self._new.get(timeout=PATIENCE_S)

    def spawned(self) -> list[str]:
        """Return the ids of all spawns so far."""
        return [order["id"] for order in self.orders if order["do"] == "spawn"]

    def go_away(self) -> None:
        """Close our side, as a starter that was killed."""
        with self._lock:
            if not self._sink.closed:
                self._sink.close()

    def close(self) -> None:
        self._to_starter.close()
        self._thread.join(PATIENCE_S)
        self.go_away()
        self._source.close()

    def _work(self) -> None:
        while self._source.peek(1):
            self._before_reading()
            order = json.loads(self._source.readline())
            self.orders.append(order)
            self._new.put(order)
            said = list(self.script(order))
            if said:
                self.say(*said)
