"""The lab's server as a child process, for the demo and for tests."""

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from pilotwrap.lab.api import Api
from pilotwrap.model.errors import ServerError

_READY_S = 30.0
"""A guess: the server is ready in less than a second, but a shared machine may be slow."""

_END_S = 10.0


@dataclass(frozen=True)
class Address:
    """Where the server is and what a client needs: the file of a production token, and its origin."""

    url: str
    panda_queue: str
    token_path: Path
    origin: str


@dataclass
class LabProcess:
    """`lab serve` on a database; ends with the `with` block, and with this process however that dies.

    `options` are further words for `lab serve`, such as `--sent-timeout 1`; `api` is that verb's `--api`.
    Raises ServerError when it does not start.
    """

    db: Path
    options: Sequence[str] = ()
    api: Api = "current"
    _child: "subprocess.Popen[str] | None" = field(default=None, init=False, repr=False)
    _address: Address | None = field(default=None, init=False)

    def __enter__(self) -> "LabProcess":  # noqa: PYI034 - typing.Self needs 3.11
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> Address:
        """Return where the running server is."""
        if self._address is None:
            raise ServerError("the lab is not running", remedy="start it first")
        return self._address

    @property
    def pid(self) -> int:
        """Return the server's process id; 0 when it was not started."""
        return self._child.pid if self._child else 0

    def start(self) -> Address:
        """Start the server and wait until it takes connections; it may be started again after it died."""
        command = [sys.executable, "-m", "pilotwrap", "lab", "serve", "--db", str(self.db), "--api", self.api]
        child = subprocess.Popen(
            [*command, "--lifeline", *self.options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # a terminal's Ctrl-C is for its clients first: they have something to report
        )
        self._child = child
        try:
            self._address = _address(_first_line(child))
        except ServerError:
            self.kill()
            raise
        return self._address

    def stop(self) -> int:
        """End the server with TERM, and with KILL if that is not heard; return its exit code."""
        if self._child is None:
            return 0
        self._child.terminate()
        try:
            self._child.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
        return self._ended(self._child)

    def kill(self) -> int:
        """End the server with KILL, as a crash would; return its exit code."""
        if self._child is None:
            return 0
        self._child.kill()
        return self._ended(self._child)

    def _ended(self, child: "subprocess.Popen[str]") -> int:
        code = child.wait()
        for stream in (child.stdin, child.stdout):
            if stream:
                stream.close()
        self._child = self._address = None
        return code


def _first_line(child: "subprocess.Popen[str]") -> str:
    """Return the line that says "ready"; a server that says nothing in time is killed, which ends the reading."""
    watchdog = threading.Timer(_READY_S, child.kill)
    watchdog.start()
    try:
        return child.stdout.readline() if child.stdout else ""
    finally:
        watchdog.cancel()


def _address(line: str) -> Address:
    try:
        said = json.loads(line)
    except ValueError as error:
        raise ServerError(
            "the lab did not start", why=f"it said {line!r}", remedy="run `pilotwrap lab serve` by hand"
        ) from error
    credential = said["credential"]
    return Address(said["url"], said["panda_queue"], Path(credential["path"]), credential["origin"])
