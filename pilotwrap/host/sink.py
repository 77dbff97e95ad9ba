"""Bounded output files, each its beginning and its end behind one marker line, and the pipes that fill them."""

import posix as os  # the same calls, without the 1.3 ms and 30 opened files of `os`

from pilotwrap.host import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Set

# What a traceback and the lines that led to it need.
TAIL = 65536


class Sink:
    """A file that takes `cap` bytes, and after those keeps the last 64 KiB for `close`; a full disk loses the rest."""

    def __init__(self, path: str, cap: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(wire.raw(path), flags, 0o600)
        self._room = cap
        self._tail = bytearray()
        self._past = 0
        self.cut = 0
        self.refusal = ""

    def feed(self, data: bytes) -> None:
        """Take what the payload wrote."""
        if self._room:
            taken = self._write(data[: self._room])
            self._room -= taken
            data = data[taken:]
        if self.refusal:
            self.cut += len(data)
        elif data:
            self._past += len(data)
            self._tail += data
            if len(self._tail) > 2 * TAIL:
                del self._tail[:-TAIL]

    def close(self) -> None:
        """Write the end behind its marker."""
        tail = bytes(self._tail[-TAIL:])
        cut = self._past - len(tail)
        if cut:
            self._write(b"\n[pilotwrap: %d bytes of the output are left out here]\n" % cut)
        written = self._write(tail)
        self.cut += cut + len(tail) - written
        os.close(self._fd)

    def _write(self, data: bytes) -> int:
        done = 0
        while done < len(data) and not self.refusal:
            try:
                done += os.write(self._fd, data[done:])
            except OSError as error:  # noqa: PERF203 - rarely more than one round
                self.refusal = os.strerror(error.errno or 5)
                self._room = 0
        return done


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
