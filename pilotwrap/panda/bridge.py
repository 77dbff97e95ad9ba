"""The bridge: a PanDA server on this node's loopback, for pilots of this run alone, that has only what a pilot needs.

What pilots say is handed to a `Desk`; nothing here talks to the real server. It runs on threads of its own.
"""

import io
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Protocol
from urllib.parse import unquote

from pilotwrap.model.errors import BadInputError, SiteEnvironmentError
from pilotwrap.panda.answers import Json, plain
from pilotwrap.panda.legacy import (
    MAX_BODY_BYTES,
    STATES,
    UNKEPT,
    LegacyCall,
    PilotUpdate,
    asked_ids,
    encoded,
    job_reply,
    pilot_update,
    read_call,
    status_reply,
)

READ_S = 60.0
"""For a whole request. A guess: on loopback a request of 64 MiB takes a second."""

WRITE_S = 60.0
"""For a reply; a pilot gives a call up after 120 s (pilot3, http_maxtime in default.cfg)."""

MAX_CONNECTIONS = 256
"""At a time. A guess: a pilot for each of a node's cores, and each speaks on one connection at a time."""

_BACKLOG = 128
_POLL_S = 0.2
_DRAINED_BYTES = 1024 * 1024
_CALLS_PATH = "/server/panda/"
_OPEN_PATH = "/open/"
_WORKER_STATES = frozenset({"started", "finished"})
_BUSY = b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

_log = logging.getLogger(__name__)


class UnkeptError(SiteEnvironmentError):
    """What a pilot said could not be put on disk in time."""

    def __init__(self, why: str = "") -> None:
        super().__init__("the pilot's word could not be kept", why=why, remedy="see whether the disk is full")


class Desk(Protocol):
    """Who pilots are and what becomes of their words; called on the bridge's threads, several at a time."""

    def visitor(self, token: str) -> str | None:
        """Return whose token this is; compares in constant time."""

    def job(self, visitor: str) -> Mapping[str, Json] | None:
        """Return the visitor's job as the server gave it; None when there is none for it."""

    def told(self, visitor: str, update: PilotUpdate) -> str:
        """Return the command for the pilot once its word is kept; raises UnkeptError when it cannot be."""

    def states(self, visitor: str, panda_ids: Sequence[int]) -> Mapping[int, str]:
        """Return the states of the jobs among these that are known."""

    def worker(self, visitor: str, status: str) -> None:
        """Take notice that the pilot has `started` or `finished`."""

    def document(self, secret: str, name: str) -> bytes | None:
        """Return what lies ready under this name for whoever knows the secret."""


class Bridge:
    """Serves a desk from `start` to `close`."""

    def __init__(self, desk: Desk, connections: int = MAX_CONNECTIONS) -> None:
        self._server = _Server(desk, connections)
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Return the port on 127.0.0.1."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Return what a pilot is given as its server."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="pilotwrap-bridge", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering, and cut off whoever is still connected."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()
        self._server.cut_off()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = _BACKLOG

    def __init__(self, desk: Desk, connections: int) -> None:
        self.desk = desk
        self._places = threading.BoundedSemaphore(connections)
        self._connected: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Visit)

    def server_bind(self) -> None:
        # not the HTTP server's own: it looks up our name, which may take long where there is no network
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base has it
        if not self._places.acquire(blocking=False):
            _log.warning("a connection was refused: there are too many")
            with suppress(OSError):
                request.sendall(_BUSY)
            self.shutdown_request(request)
            return
        with self._lock:
            self._connected.add(request)
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread is to be had
            self._left(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._left(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        error = sys.exc_info()[1]
        # a pilot that hangs up is no fault of ours; anything else is
        if isinstance(error, OSError):
            _log.info("a connection ended early: %s", error)
        else:
            _log.error("the bridge failed", exc_info=error)

    def cut_off(self) -> None:
        with self._lock:
            connected = list(self._connected)
        for connection in connected:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _left(self, request: socket.socket) -> None:
        with self._lock:
            self._connected.discard(request)
        self._places.release()


class _Timed(io.RawIOBase):
    """A socket to read from until a deadline, however slowly bytes come."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - anything that takes bytes
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request was not whole in time")
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


class _Visit(BaseHTTPRequestHandler):
    """One connection: one request, one reply."""

    protocol_version = "HTTP/1.1"  # with 1.0, curl waits a second for leave to send a long body
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Timed(self.connection, time.monotonic() + READ_S))

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_HEAD = do_CONNECT = do_GET  # noqa: N815 - the base's names

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        # what the base refuses by itself: a method, a request line, headers
        self._say(HTTPStatus.FORBIDDEN if code == HTTPStatus.NOT_IMPLEMENTED else code, f"ERROR : {message or code}")

    def version_string(self) -> str:
        return "pilotwrap"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
        """Say nothing: a path may hold a secret."""

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        if path.lower().startswith("http://") and self.command != "CONNECT":
            self._document(path, HTTPStatus.FORBIDDEN)
        elif path.startswith(_OPEN_PATH):
            self._document(path, HTTPStatus.NOT_FOUND)
        elif path.startswith(_CALLS_PATH) and self.command != "HEAD":
            self._call(path.removeprefix(_CALLS_PATH))
        else:
            self._forbid(path.rpartition("/")[2])

    def _document(self, path: str, otherwise: HTTPStatus) -> None:
        """Answer from the path's last two parts: a pilot may insist on any URL before them, with us as its proxy."""
        *_, secret, name = ["", *path.split("/")]
        found = self.server.desk.document(unquote(secret), unquote(name)) if self.command in {"GET", "HEAD"} else None
        if found is None:
            _log.warning("a pilot was refused a document that is not there")
            self._say(otherwise, "ERROR : there is no such document")
            return
        _log.debug("a pilot fetches %s", plain(unquote(name)))
        self._send(HTTPStatus.OK, "application/octet-stream", found)

    def _call(self, name: str) -> None:
        if name == "isAlive":
            self._drain()
            self._say(HTTPStatus.OK, "alive=yes")
            return
        deed = _DEEDS.get(name)
        if deed is None:
            self._forbid(name)
            return
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        visitor = self.server.desk.visitor(token.strip()) if kind == "Bearer" and token else None
        if visitor is None:
            _log.warning("%s was called without a token that is known", name)
            self._drain()
            self._say(HTTPStatus.FORBIDDEN, "ERROR : Token authentication failed. Invalid token")
            return
        # only now: nobody but a pilot of ours may hand us a long body
        body = self._body()
        if body is not None:
            _log.debug("the pilot of %s calls %s", visitor, name)
            self._do(deed, name, visitor, body)

    def _do(self, deed: "_Deed", name: str, visitor: str, body: bytes) -> None:
        query = self.path.partition("?")[2] if self.command == "GET" else ""
        try:
            call = read_call(name, dict(self.headers.items()), body, query)
            reply = deed(self.server.desk, visitor, call)
        except BadInputError as error:
            _log.warning("the pilot of %s was refused: %s", visitor, error)
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, error.what)
            return
        # getStatus answers with text whatever is wished for (measured)
        self._send(HTTPStatus.OK, *encoded(reply, wants_json=call.wants_json and name != "getStatus"))

    def _body(self) -> bytes | None:
        """Return the whole body; None once a reply says why it is not taken."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdecimal()):
            self._say(HTTPStatus.LENGTH_REQUIRED, "ERROR : a body comes with its length")
            return None
        if len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
            self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "ERROR : the body is too long")
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionResetError("the pilot hung up before its request was whole")
        return body

    def _drain(self) -> None:
        """Take what was sent: a reply to a client that is still sending may be lost."""
        length = self.headers.get("Content-Length", "0")
        if length.isascii() and length.isdecimal() and len(length) < len(str(_DRAINED_BYTES)):
            self.rfile.read(int(length))

    def _forbid(self, name: str) -> None:
        # the name only goes back to whoever said it: it may be a secret in a wrong place
        _log.warning("a call that the bridge does not have was refused")
        self._drain()
        self._say(HTTPStatus.FORBIDDEN, f"ERROR : method {plain(name)[:40]} is forbidden")

    def _say(self, status: int, text: str) -> None:
        self._send(status, "text/plain", text.encode(errors="replace"))

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.connection.settimeout(WRITE_S)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _get_job(desk: Desk, visitor: str, call: LegacyCall) -> Mapping[str, Json]:
    call.needed("siteName")
    return job_reply(call, desk.job(visitor))


def _update_job(desk: Desk, visitor: str, call: LegacyCall) -> Mapping[str, Json]:
    if call.needed("jobId") == "NULL":
        return {"StatusCode": 0}
    update = pilot_update(call)
    if update.state not in STATES:
        return {"StatusCode": 0}
    try:
        return {"StatusCode": 0, "command": desk.told(visitor, update)}
    except UnkeptError as error:
        _log.warning("%s", error)
        return {"StatusCode": UNKEPT}


def _get_status(desk: Desk, visitor: str, call: LegacyCall) -> Mapping[str, Json]:
    asked = asked_ids(call)
    return status_reply(asked, desk.states(visitor, [panda_id for panda_id in asked if panda_id is not None]))


def _worker_status(desk: Desk, visitor: str, call: LegacyCall) -> Mapping[str, Json]:
    status = call.needed("status")
    if not isinstance(status, str) or status not in _WORKER_STATES:
        raise BadInputError("a worker has started or finished, nothing else")
    desk.worker(visitor, status)
    return {"StatusCode": 0}


_Deed = Callable[[Desk, str, LegacyCall], Mapping[str, Json]]
_DEEDS: dict[str, _Deed] = {
    "getJob": _get_job,
    "updateJob": _update_job,
    "getStatus": _get_status,
    "updateWorkerPilotStatus": _worker_status,
}
