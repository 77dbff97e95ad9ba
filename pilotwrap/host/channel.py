"""Both ends of the talk with the controller: neither a long message nor a slow reader blocks the starter."""

import os
import select

from pilotwrap.host import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List

READ_MOST = 1 << 20


class Outbox:
    """Messages on their way out through a pipe that may be full."""

    def __init__(self, fd: int, poll: "select.poll") -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._poll = poll
        self._waiting = bytearray()
        self._registered = False

    @property
    def fd(self) -> int:
        """The pipe, or -1 when it is closed."""
        return self._fd

    def send(self, message: "Dict[str, object]") -> None:
        """Send a message, now or when there is room."""
        self.send_line(wire.line(message))

    def send_line(self, line: bytes) -> None:
        """Send what is one line already."""
        if self._fd >= 0:
            self._waiting += line
            self.flush()

    def flush(self) -> None:
        """Write what the pipe takes now."""
        try:
            while self._waiting and self._fd >= 0:
                del self._waiting[: os.write(self._fd, self._waiting[:READ_MOST])]
        except BlockingIOError:
            if not self._registered:
                self._poll.register(self._fd, select.POLLOUT)
                self._registered = True
            return
        except BrokenPipeError:
            self.close()
            return
        if self._registered:
            self._poll.unregister(self._fd)
            self._registered = False

    def close(self) -> None:
        """Let the other side see the end."""
        if self._fd >= 0:
            if self._registered:
                self._poll.unregister(self._fd)
            os.close(self._fd)
        self._fd = -1
        self._waiting.clear()


class Inbox:
    """Lines on their way in."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.ended = False
        self._parts: "List[bytes]" = []

    def lines(self) -> "List[bytes]":
        """Return the lines that are complete now; sets `ended` at the end of the input."""
        try:
            data = os.read(self.fd, READ_MOST)
        except BlockingIOError:
            return []
        self.ended = not data
        # only what is new is searched: a message of many MiB comes in pieces of a pipe's 64 KiB
        if b"\n" not in data:
            self._parts.append(data)
            return []
        first, *rest = data.split(b"\n")
        self._parts.append(first)
        whole = b"".join(self._parts)
        self._parts = [rest.pop()]
        return [line for line in [whole, *rest] if line.strip()]
