"""A bounded output file: its beginning, and its end behind one marker line."""

import os

from pilotwrap.host import wire

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
