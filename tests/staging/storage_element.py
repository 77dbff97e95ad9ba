"""A storage element on loopback that keeps files, and fails in the ways that real ones do."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


@dataclass
class Storage:
    """What it holds by path, what was asked of it, and paths that behave otherwise."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    odd: dict[str, Callable[["Handler"], None]] = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)

    def count(self, method: str) -> int:
        return sum(1 for asked in self.asked if asked[0] == method)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    storage: ClassVar[Storage]

    def do_GET(self) -> None:
        content = self.storage.files.get(self.path)
        if not self._odd():
            self.answer(404 if content is None else 200, content or b"")

    def do_PUT(self) -> None:
        if not self._odd():
            there = self.path in self.storage.files
            self.storage.files[self.path] = self.body()
            self.answer(204 if there else 201)

    def _odd(self) -> bool:
        self.storage.asked.append((self.command, self.path, dict(self.headers)))
        odd = self.storage.odd.get(self.path)
        if odd:
            odd(self)
        return odd is not None

    def body(self) -> bytes:
        if "Content-Length" not in self.headers:
            raise AssertionError("a PUT says how long it is")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if len(content) < int(self.headers["Content-Length"]):
            raise ConnectionError("the client hung up in the middle of its file")
        return content

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", headers.get("length", str(len(content))))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:
        """Stay silent: clients that hang up are part of the tests."""
