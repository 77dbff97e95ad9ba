"""The server as a program: binds, says that it is ready, serves until it is told to end."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import uvicorn

from pilotwrap.lab.app import Rules, application
from pilotwrap.lab.envelope import Json
from pilotwrap.lab.put import DEFAULT_QUEUE
from pilotwrap.lab.queues import tell_storage
from pilotwrap.lab.store import Store
from pilotwrap.lab.tokens import PRODUCTION, Grant, is_live, make_token, write_token
from pilotwrap.model.errors import BadInputError

HOST = "127.0.0.1"
"""The lab speaks plain HTTP, so it is never reachable from elsewhere."""

_KEEP_ALIVE_S = 600
"""The real server's; with uvicorn's 5 s a heartbeat's connection would always be a dead one."""

_GRACE_S = 1
_VO = "lab"


@dataclass(frozen=True)
class Service:
    """What to serve and how; port 0 takes a free one, a lifeline ends the server with its standard input."""

    db: Path
    port: int = 0
    panda_queue: str = ""
    rules: Rules = field(default_factory=Rules)
    lifeline: bool = False


class _Server(uvicorn.Server):
    """A uvicorn server that says when it listens, and whose end by a signal is an ordinary one."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], *, lifeline: bool) -> None:
        super().__init__(config)
        self._ready = ready
        self._lifeline = lifeline

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            if self._lifeline:
                asyncio.get_running_loop().add_reader(0, self._read_lifeline)
            self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        yield

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.should_exit = True

    def _read_lifeline(self) -> None:
        if not os.read(0, 4096):
            asyncio.get_running_loop().remove_reader(0)
            self.should_exit = True


def serve(service: Service, announce: Callable[[str], None]) -> None:
    """Serve until INT or TERM; `announce` gets the one JSON line once connections are taken.

    Raises BadInputError when the port or the database cannot be had.
    """
    listener = _bound(service.port)
    store = Store(service.db)
    if service.rules.files:
        tell_storage(store, service.rules.files)
    line = _ready_line(store, listener.getsockname()[1], service.panda_queue)
    config = uvicorn.Config(
        application(store, service.rules),
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        log_config=None,
        server_header=False,
    )
    server = _Server(config, lambda: announce(line), lifeline=service.lifeline)
    try:
        server.run(sockets=[listener])
    finally:
        store.close()
    if not server.started:
        sys.exit(1)


def _ready_line(store: Store, port: int, panda_queue: str) -> str:
    """Return the line that says where the server is, and remember it for `lab put`."""
    url = f"http://{HOST}:{port}"
    queue = panda_queue or store.setting("panda_queue", DEFAULT_QUEUE)
    with store.transaction():
        store.remember("url", url)
        store.remember("panda_queue", queue)
        credential = production_credential(store)
    return json.dumps({"url": url, "panda_queue": queue, "credential": credential})


def production_credential(store: Store) -> dict[str, Json]:
    """Return the credential of the production robot; its token file lies in a folder beside the database."""
    path = token_folder(store) / PRODUCTION
    known = path.read_text().strip() if path.is_file() else ""
    if not is_live(store, known, time.time()):
        robot = Grant("Lab Robot", _VO, (PRODUCTION, "pilot"))
        write_token(make_token(store, robot, time.time()), path)
    return {"kind": "token", "path": str(path.absolute()), "origin": f"{_VO}.{PRODUCTION}"}


def token_folder(store: Store) -> Path:
    """Return the folder of the lab's token files: beside the database, entered by its owner only."""
    return store.path.with_name(store.path.name + ".tokens").absolute()


def _bound(port: int) -> socket.socket:
    # Only with the protocol named does asyncio switch Nagle's delay off; with it on, a call takes 44 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)
        raise BadInputError(f"port {port} cannot be had", why=why, remedy="leave --port out") from error
    return listener
