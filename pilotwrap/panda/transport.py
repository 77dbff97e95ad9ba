"""The one seam to the outside: a request goes in, what became of it comes out."""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

MAX_REPLY_BYTES = 16 * 1024 * 1024
"""A guess with room: an acquired job is some 2 KiB, and never more than a few hundred are asked for."""


@dataclass(frozen=True)
class Request:
    """One call of an API; `path` is what follows its prefix, such as `/api/v1/`."""

    method: Literal["GET", "POST"]
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    timeout_s: float = 60.0
    """For the whole exchange, connecting and reading included."""


@dataclass(frozen=True)
class Replied:
    """The server, or something in its place, answered."""

    status: int
    body: bytes
    location: str = ""
    """Where a redirect points to."""


@dataclass(frozen=True)
class NotSent:
    """The request surely never reached a server: it may be repeated, unless the cause is a `lasting` one."""

    detail: str
    lasting: bool = False


@dataclass(frozen=True)
class MaybeTaken:
    """The request went out and no whole answer came back: the server may have acted on it."""

    detail: str


Reply: TypeAlias = Replied | NotSent | MaybeTaken


class Transport(Protocol):
    """A way to the server."""

    def send(self, request: Request) -> Reply:
        """Exchange one request; raises CredentialError when it may not be sent at all."""
