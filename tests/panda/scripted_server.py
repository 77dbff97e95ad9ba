"""An HTTP server on loopback that answers byte for byte what a test wrote down, or misbehaves as told.

No web framework: what has to be shown here are resets, hangs and drips, which a framework would not let through.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType


@dataclass(frozen=True)
class Heard:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def arguments(self) -> Any:  # noqa: ANN401 - whatever the client sent
        return json.loads(self.body)


def says(status: int, body: object, **headers: str) -> Any:  # noqa: ANN401
    """Answer with this body: bytes and text as they are, anything else as JSON."""
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Said", "Content-Type: text/plain", f"Content-Length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]

    def act(connection: socket.socket, _closing: threading.Event) -> bool:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + data)
        return True

    return act


def ok(data: object = None, message: str = "") -> Any:  # noqa: ANN401
    return says(200, {"success": True, "message": message, "data": data})


def no(message: str, data: object = None) -> Any:  # noqa: ANN401
    return says(200, {"success": False, "message": message, "data": data})


def command(text: str = "NULL", code: int = 0) -> dict[str, object]:
    return {"success": True, "message": "", "data": {"StatusCode": code, "command": text}}


def told(text: str = "NULL") -> Any:  # noqa: ANN401
    return says(200, command(text))


def resets(connection: socket.socket, _closing: threading.Event) -> bool:
    """Take the request, then reset the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def hangs(_connection: socket.socket, closing: threading.Event) -> bool:
    closing.wait(60)
    return False


def breaks_off(connection: socket.socket, _closing: threading.Event) -> bool:
    connection.sendall(b'HTTP/1.1 200 Said\r\nContent-Length: 1000\r\n\r\n{"success": tr')
    return False


def drips(connection: socket.socket, closing: threading.Event) -> bool:
    connection.sendall(b"HTTP/1.1 200 Said\r\nContent-Length: 100000\r\n\r\n")
    with contextlib.suppress(OSError):
        while not closing.wait(0.02):
            connection.sendall(b" ")
    return False


def floods(connection: socket.socket, closing: threading.Event) -> bool:
    connection.sendall(b"HTTP/1.1 200 Said\r\nTransfer-Encoding: chunked\r\n\r\n")
    with contextlib.suppress(OSError):
        while not closing.is_set():
            connection.sendall(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
    return False


@dataclass
class ScriptedServer:
    """Each request gets the next act; the last one stays. `pem` makes it speak TLS and ask for a certificate."""

    acts: list[Any] = field(default_factory=list)
    pem: Path | None = None
    heard: list[Heard] = field(default_factory=list)
    arrivals: queue.Queue[Heard] = field(default_factory=queue.Queue)
    peers: list[Any] = field(default_factory=list)
    _listener: socket.socket = field(init=False)
    _closing: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> ScriptedServer:  # noqa: PYI034 - typing.Self needs 3.11
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    @property
    def url(self) -> str:
        return f"http{'s' if self.pem else ''}://127.0.0.1:{self._listener.getsockname()[1]}"

    def script(self, *acts: Any) -> None:  # noqa: ANN401
        self.acts[:] = acts

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                connection.settimeout(30)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(self._wrapped(connection)) as wrapped:
            buffer = bytearray()
            while (heard := self._read(wrapped, buffer)) is not None:
                with self._turn:
                    act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
                    self.heard.append(heard)
                self.arrivals.put(heard)
                if not act(wrapped, self._closing):
                    return

    def _wrapped(self, connection: socket.socket) -> socket.socket:
        if self.pem is None:
            return connection
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem)
        context.load_verify_locations(self.pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        wrapped = context.wrap_socket(connection, server_side=True)
        self.peers.append(wrapped.getpeercert())
        return wrapped

    def _read(self, connection: socket.socket, buffer: bytearray) -> Heard | None:
        head = self._until(connection, buffer, lambda: buffer.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in buffer else 0)
        if head is None:
            return None
        first, *lines = head.decode().rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        body = self._until(connection, buffer, lambda: length if len(buffer) >= length else 0) if length else b""
        method, path, _ = first.split(" ")
        return Heard(method, path, headers, bytes(body or b""))

    def _until(self, connection: socket.socket, buffer: bytearray, whole: Callable[[], int]) -> bytes | None:
        connection.settimeout(0.05)
        while not (length := whole()):
            if self._closing.is_set():
                return None
            with contextlib.suppress(TimeoutError):
                data = connection.recv(65536)
                if not data:
                    return None
                buffer += data
        connection.settimeout(30)
        taken = bytes(buffer[:length])
        del buffer[:length]
        return taken
