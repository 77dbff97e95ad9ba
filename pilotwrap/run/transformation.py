"""The job's program: fetched once for many jobs, put into the job's directory, and the line that runs it."""

import os
import re
import shlex
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from pilotwrap.model.errors import BadInputError, StageInError
from pilotwrap.panda.url import shown
from pilotwrap.run.jobfile import Part, check_name, open_regular, reason_of
from pilotwrap.run.staging import bytes_of
from pilotwrap.run.transfer import Terms, TransferTrouble
from pilotwrap.run.web import split

MAX_BYTES = 16 * 1024 * 1024
"""A program that a job brings is a script; a guess with room for a static binary."""

FRESH_S = 60.0
"""So a corrected script is used after a minute, and a thousand jobs a minute fetch it once."""

_KEPT = 8
_HTML = re.compile(rb"\s*(<!doctype\s+html|<html[\s>])", re.IGNORECASE)


class _Fetched(NamedTuple):
    at: float
    content: bytes


class TransformationCache:
    """The transformations that a run fetched lately, in memory; safe to share between threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._fetched: dict[str, _Fetched] = {}
        self._fetching: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def content(self, url: str, terms: Terms) -> bytes:
        """Return the program behind a URL; TransferTrouble says why not."""
        with self._lock:
            mine = self._fetching.setdefault(url, threading.Lock())
        terms.acquire(mine)
        try:
            return self._fresh(url, terms)
        finally:
            mine.release()

    def _fresh(self, url: str, terms: Terms) -> bytes:
        kept = self._fetched.get(url)
        if kept is None or self._clock() - kept.at > FRESH_S:
            kept = _Fetched(self._clock(), terms.tried(lambda: _fetch(url, terms)))
            with self._lock:
                self._fetched[url] = kept
                self._forget()
        return kept.content

    def _forget(self) -> None:
        for url in sorted(self._fetched, key=lambda known: self._fetched[known].at)[:-_KEPT]:
            del self._fetched[url]
            self._fetching.pop(url, None)


def _fetch(url: str, terms: Terms) -> bytes:
    content = bytearray()
    with closing(bytes_of(url, terms)) as chunks:
        for chunk in chunks:
            content += chunk
            if len(content) > MAX_BYTES:
                raise TransferTrouble(f"it is longer than {MAX_BYTES} bytes", "let a small script fetch the rest")
    if not content:
        raise TransferTrouble("it is empty", "check what the server holds")
    if _HTML.match(content):
        raise TransferTrouble("it is an HTML page, no program", "a login or error page? Open the URL by hand")
    return bytes(content)


def prepare(transformation: str, parameters: str, directory: Path, cache: TransformationCache, terms: Terms) -> str:
    """Put the program where the job runs and return the line for `/bin/sh -c`.

    The parameters are the job's own shell text and stay as they are. A transformation that is no URL is a command that
    is there already. Raises StageInError, and BadInputError for a job that names nothing that could be run.
    """
    if not transformation.strip() or "\0" in transformation + parameters:
        raise BadInputError(
            "the job's transformation is empty, or it holds a NUL character", remedy="correct the task's definition"
        )
    if "://" not in transformation and not transformation.startswith("file:"):
        return f"{shlex.quote(transformation)} {parameters}".strip()
    name, content = program(transformation, cache, terms)
    try:
        _place(directory, name, content)
    except TransferTrouble as trouble:
        raise _unusable(transformation, trouble.why, trouble.remedy) from trouble
    except OSError as error:
        raise _unusable(transformation, reason_of(error), f"check {directory}") from error
    return f"./{shlex.quote(name)} {parameters}".strip()


def program(url: str, cache: TransformationCache, terms: Terms) -> tuple[str, bytes]:
    """Return the name and the content of the program behind a URL; raises StageInError."""
    try:
        return _name(url), cache.content(url, terms)
    except TransferTrouble as trouble:
        raise _unusable(url, trouble.why, trouble.remedy) from trouble


def _unusable(transformation: str, why: str, remedy: str) -> StageInError:
    what = f"transformation {shown(transformation)[:200]} cannot be used"
    return StageInError(what, why=why, remedy=remedy or "check the URL by hand")


def _name(url: str) -> str:
    if split(url).scheme not in {"http", "https", "file"}:
        raise TransferTrouble("its URL is not http:, https: or file:", "give it a URL that can be fetched")
    name = unquote(split(url).path.rpartition("/")[2])
    check_name(name)
    return name


def _place(directory: Path, name: str, content: bytes) -> None:
    """Write the program, but never over one of the job's inputs that bears the same name."""
    try:
        with os.fdopen(open_regular(directory / name), "rb") as there:
            os.fchmod(there.fileno(), 0o755)
            if there.read(MAX_BYTES + 1) != content:
                raise TransferTrouble(f"the job has an input {name!r} of the same name", "rename one of them")
    except FileNotFoundError:
        with Part(directory, name, mode=0o755) as part:
            part.write(content)
            part.commit()
