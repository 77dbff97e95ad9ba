"""Files over HTTP: a streamed GET and PUT, with no credential, few redirects and a deadline."""

import ipaddress
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from pilotwrap import __version__
from pilotwrap.panda.url import shown
from pilotwrap.run.transfer import Terms, TransferTrouble

if TYPE_CHECKING:
    import requests

CONNECT_S = 10.0
READ_S = 60.0
"""Silence that counts as dead; both are guesses, long beside what storage takes to begin."""

MAX_REDIRECTS = 3
_CHUNK_BYTES = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same request may succeed (RFC 9110, RFC 6585)."""

_REMEDIES = {
    401: "the storage wants a credential, and none is sent: use an endpoint that is open to this node",
    403: "the storage refuses this node or path: ask its operator, or correct the storage map",
    404: "check that the file is in its place, and the prefix in the storage map",
    413: "the storage takes no file of this size",
    507: "the storage is full",
}


def split(url: str) -> SplitResult:
    """Return a URL's parts; TransferTrouble when it has none."""
    try:
        return urlsplit(url)
    except ValueError as error:
        raise TransferTrouble(f"it is no URL: {error}", "correct the URL") from error


def download(url: str, terms: Terms) -> Generator[bytes, None, None]:
    """Yield the bytes of one GET; TransferTrouble for everything that goes wrong."""
    with _answer("GET", url, terms, None) as response:
        _expect(response, {200}, url)
        yield from _body(response, terms)


@dataclass(frozen=True)
class Upload:
    """The body of a PUT; `chunks` starts anew at each call, since a redirect or another try sends it again."""

    size: int
    chunks: Callable[[], Iterator[bytes]]

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[bytes]:
        return self.chunks()


def upload(url: str, body: Upload, terms: Terms) -> None:
    """PUT a file; TransferTrouble for everything that goes wrong."""
    with _answer("PUT", url, terms, body) as response:
        _expect(response, {200, 201, 204}, url)


@contextmanager
def _answer(method: str, url: str, terms: Terms, body: Upload | None) -> "Iterator[requests.Response]":
    import requests

    with requests.Session() as session:
        session.auth = _without_credential
        session.headers.update({"User-Agent": f"pilotwrap/{__version__}", "Accept-Encoding": "identity"})
        for _hop in range(MAX_REDIRECTS + 1):
            response = _send(session, method, url, terms, body)
            if response.status_code not in _REDIRECTS:
                yield response
                return
            url = _next(method, url, response)
            response.close()
    raise TransferTrouble(f"more than {MAX_REDIRECTS} redirects, the last to {shown(url)}", "correct the URL")


def _send(session: "requests.Session", method: str, url: str, terms: Terms, body: Upload | None) -> "requests.Response":
    import requests

    left = terms.left_s()
    session.trust_env = not _is_loopback(url)  # a proxy does not reach what runs on this node
    try:
        return session.request(
            method,
            url,
            data=(body if body.size else b"") if body is not None else None,
            stream=True,
            allow_redirects=False,
            timeout=(min(CONNECT_S, left), min(READ_S, left)),
        )
    except requests.exceptions.SSLError as error:
        raise TransferTrouble(f"{shown(url)}: {_cause(error)}", "check the CA certificates of this image") from error
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        raise TransferTrouble(f"{shown(url)}: {_cause(error)}", _UNREACHABLE, again=True) from error
    except (requests.exceptions.RequestException, ValueError) as error:
        raise TransferTrouble(f"{shown(url)}: {_cause(error)}", "correct the URL") from error


_UNREACHABLE = "check that the storage is up and that this node reaches it (proxy, firewall)"


def _without_credential(request: "requests.PreparedRequest") -> "requests.PreparedRequest":
    """Keep requests from looking for a password in ~/.netrc."""
    return request


def _is_loopback(url: str) -> bool:
    host = split(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _next(method: str, url: str, response: "requests.Response") -> str:
    location = response.headers.get("Location", "")
    split(location)
    target = urljoin(url, location)
    old, new = split(url).scheme, split(target).scheme
    if new not in {old, "https"} or (method == "PUT" and response.status_code == 303):  # noqa: PLR2004 - See Other: RFC 9110 makes it a GET
        raise TransferTrouble(
            f"{shown(url)} redirects to {shown(target)}, which is not followed", "correct the URL: a login page?"
        )
    return target


def _expect(response: "requests.Response", statuses: set[int], url: str) -> None:
    status = response.status_code
    if status not in statuses:
        remedy = _REMEDIES.get(status, "look at the storage's log, and try the URL by hand")
        raise TransferTrouble(f"{shown(url)} answers HTTP {status}", remedy, again=status in _BUSY, status=status)


def _body(response: "requests.Response", terms: Terms) -> Generator[bytes, None, None]:
    """Yield the body as sent, undecoded: a checksum is of the file, and `.tgz` files are labelled gzip-encoded."""
    import requests
    import urllib3

    read = getattr(response.raw, "read1", response.raw.read)  # read() waits for a whole chunk, so a drip outlives us
    while True:
        terms.left_s()
        try:
            chunk = read(_CHUNK_BYTES)
        except (urllib3.exceptions.HTTPError, requests.exceptions.RequestException, OSError) as error:
            why = f"the connection broke off: {_cause(error)}"
            raise TransferTrouble(why, _UNREACHABLE, again=True) from error
        if not chunk:
            return
        yield chunk


def _cause(error: BaseException) -> str:
    """Return the innermost reason in one line, without the URL that the outer ones repeat."""
    seen: BaseException = error
    while isinstance(inner := getattr(seen, "reason", None) or (seen.args[0] if seen.args else None), BaseException):
        seen = inner
    text = str(seen.args[-1] if seen.args else seen) or type(seen).__name__
    return " ".join(text.rpartition(">: ")[2].split())[:200]
