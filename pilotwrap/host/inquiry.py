"""The image's probe on this node: started by its words, waited for while the node is observed, and ended in time."""

import os
import select
import time

from pilotwrap.host import ask, descendants, subreaper, ward, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Tuple

# More than a probe of 64 devices prints, and all that is kept of what somebody else prints without a newline.
LINE_MOST = 1024 * 1024


class Inquiry:
    """A probe that was started; `answer` waits for what it says."""

    def __init__(self, order: "Dict[str, object]", env: "Dict[str, str]") -> None:
        self._until = time.monotonic() + wire.number(order, "seconds")
        self._rest = b""
        self._last = b""
        self._said: "Optional[Dict[str, object]]" = None
        # a container's runtime may leave helpers in sessions of their own: they come to us, and are ended
        subreaper.become()
        cwd = wire.text(order, "cwd", "")
        self._command = ask.Command(wire.texts(order, "argv"), env, cwd if os.path.isdir(wire.raw(cwd)) else "")

    def answer(self) -> "Dict[str, object]":
        """Return what it says, or in its stead why it says nothing; all of it is ended."""
        late = self._wait()
        self._command.end(late=late)
        descendants.kill(descendants.children(os.getpid()))
        return self._said or self._refusal(late=late)

    def _wait(self) -> bool:
        """Wait for the answer or the end, whichever comes first; whether neither came in time.

        Who holds the pipe after the answer has come is not waited for.
        """
        poll = select.poll()
        poll.register(self._command.fd, select.POLLIN)
        while True:
            left = self._until - time.monotonic()
            if left <= 0:
                return True
            if poll.poll(int(left * 1000) + 1):
                data = self._command.read()
                self._take(data or b"\n")
                if self._said or not data:
                    return False

    def _take(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()[-LINE_MOST:]
        for line in lines:
            self._said = self._said or understood(line)
            self._last = line.strip() or self._last

    def _refusal(self, *, late: bool) -> "Dict[str, object]":
        """Return the answer of a node where nobody could be asked; `entered`: false tells it from NVML's own."""
        reason, how = self._end(late=late)
        words = self._last.decode("utf-8", "replace")[:200]
        detail = "the probe " + how + (": " + words if words else "")
        error = {"kind": "error", "reason": reason, "detail": detail, "entered": False}
        return {"probe": "nvml", "exit": None, "timed_out": late, "records": [error], "detail": detail}

    def _end(self, *, late: bool) -> "Tuple[str, str]":
        command = self._command
        if late:
            return "timeout", "did not answer in time"
        if command.error:
            return "unknown", "cannot be started, " + command.error
        number, code = ward.end_signal(command.status), ward.exit_code(command.status)
        if number is not None:
            return "crash", "was ended by signal %d before it answered" % number
        return "unknown", "ended without an answer" + ("" if code is None else ", exit code %d" % code)


def understood(line: bytes) -> "Optional[Dict[str, object]]":
    """Return a line that is a probe's answer; whatever else a way into an image prints is none."""
    if not line.startswith(b"{"):
        return None
    try:
        said = wire.message(line)
        return {
            "probe": {"nvml": "nvml"}[wire.text(said, "probe")],
            "exit": said["exit"] if isinstance(said["exit"], int) else None,
            "timed_out": wire.flag(said, "timed_out"),
            "records": [_plain(record) for record in wire.mappings(said, "records")],
            "detail": _readable(wire.text(said, "detail")),
        }
    except (wire.GarbledError, KeyError):
        return None


def _plain(record: "Dict[str, object]") -> "Dict[str, object]":
    for value in record.values():
        if value is not None and not isinstance(value, (str, bool, int)):
            raise wire.GarbledError("not a plain value: %r" % (value,))
    return {
        _readable(name): _readable(value) if isinstance(value, str) else value  # a line may hold half a character
        for name, value in record.items()
    }


def _readable(text: str) -> str:
    """Return text that any reader of JSON takes: half of a pair of surrogates becomes a mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
