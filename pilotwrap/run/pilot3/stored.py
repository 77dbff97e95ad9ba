"""What a pilot's stdout says to have stored: read where its final update will not come, or comes too late.

It prints each file's own lines before a transfer, sorted by name, and a summary after it (pilot3 3.7 and 3.11,
api/data.py and info/filespec.py).
"""

from __future__ import annotations

import re

from pilotwrap.model.report import FileReport

LINE_MAX = 4096
MAX_FILES = 10_000

_BEGIN = re.compile(rb"[^|]*\|[^|]*\|.* ?ready to transfer \(stage-out\) files: \[")
_FIELD = re.compile(rb" (checksum|filesize|guid|lfn|turl|workdir)=(.*)")
_DONE = re.compile(rb"[^|]*\|[^|]*\|.* -- lfn=(\S+), status_code=0, status=transferred")
_SIZE = re.compile(r"[0-9]{1,18}")
_UNSET = b"None"
"""How Python prints what is not set: a turl, a GUID."""

_ADLER32 = re.compile(r"'adler32': '([0-9a-f]{1,8})'")


class Stored:
    """Takes a pilot's stdout as it comes, and knows its transferred files by their lfn."""

    def __init__(self) -> None:
        self.files: dict[str, FileReport] = {}
        self._rest = b""
        self._going: dict[str, FileReport] = {}
        self._fields: dict[str, str] | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[:LINE_MAX]
        for line in lines:
            self._line(line[:LINE_MAX])

    def _line(self, line: bytes) -> None:
        done = _DONE.match(line)
        if done:
            file = self._going.pop(done[1].decode(errors="replace"), None)
            if file and len(self.files) < MAX_FILES:
                self.files[done[1].decode(errors="replace")] = file
        elif _BEGIN.match(line):
            self._fields = {}
        elif line == b"]":
            self._fields = None
        elif self._fields is not None:
            self._field(line, self._fields)

    def _field(self, line: bytes, fields: dict[str, str]) -> None:
        found = _FIELD.match(line)
        if found is None:
            return
        if found[2] != _UNSET:
            fields[found[1].decode()] = found[2].decode(errors="replace")
        if found[1] == b"workdir":
            adler32 = _ADLER32.search(fields.get("checksum", ""))
            if adler32 and _SIZE.fullmatch(fields.get("filesize", "")) and len(self._going) < MAX_FILES:
                self._going[fields.get("lfn", "")] = FileReport(
                    guid=fields.get("guid", ""),
                    size=int(fields["filesize"]),
                    adler32=adler32[1].rjust(8, "0"),
                    url=fields.get("turl") or None,
                )
            fields.clear()
