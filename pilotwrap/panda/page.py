"""One plain GET, with no credential: for what a PanDA server shows to everybody."""

import re
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from pilotwrap import __version__
from pilotwrap.model.errors import BadInputError, ServerError, SiteEnvironmentError
from pilotwrap.panda.https import CONNECT_TIMEOUT_S, is_loopback
from pilotwrap.panda.transport import MAX_REPLY_BYTES
from pilotwrap.panda.url import shown

if TYPE_CHECKING:
    import requests

MAX_REDIRECTS = 3
_CHUNK_BYTES = 64 * 1024
_LEAST_S = 0.1
_ADDRESS = re.compile(r"^(<[^>]*>|HTTPS?Connection\(.*?\)): ")
_HEADERS = {"User-Agent": f"pilotwrap/{__version__}", "Accept": "application/json"}


class Page(NamedTuple):
    """What was answered, whatever its status."""

    status: int
    body: bytes


def page(url: str, deadline: float, ca_path: str | None = None) -> Page:
    """Return what an http(s) URL answers; `deadline` is on the monotonic clock.

    Raises BadInputError for what is no such URL, ServerError when nothing whole comes back in time, and
    SiteEnvironmentError when the CA certificates cannot be read.
    """
    import requests
    from urllib3.exceptions import HTTPError

    host = _host(url)
    try:
        with requests.Session() as session:
            session.trust_env = not is_loopback(host)  # a proxy cannot reach our own loopback
            session.auth = _without_credential
            session.max_redirects = MAX_REDIRECTS
            session.verify = ca_path or True
            with session.get(url, headers=_HEADERS, stream=True, timeout=_timeout(deadline)) as response:
                return Page(response.status_code, _body(response, url, deadline))
    except requests.exceptions.InvalidURL as error:
        raise BadInputError(f"{shown(url)} is no URL", why=str(error)[:200]) from None
    except (requests.RequestException, HTTPError) as error:
        raise ServerError(
            f"{shown(url)} does not answer",
            why=_cause(error),
            remedy="check the URL, and whether this node reaches it (https_proxy, firewall)",
        ) from None
    except OSError as error:
        raise SiteEnvironmentError("the TLS files cannot be used", why=str(error), remedy="check --ca") from None


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise BadInputError(f"{shown(url)!r} is no http or https URL", remedy="give one, e.g. https://HOST:PORT/PATH")
    return parts.hostname


def _without_credential(request: "requests.PreparedRequest") -> "requests.PreparedRequest":
    """Keep requests from looking for a password in ~/.netrc."""
    return request


def _timeout(deadline: float) -> tuple[float, float]:
    left_s = max(deadline - time.monotonic(), _LEAST_S)
    return (min(CONNECT_TIMEOUT_S, left_s), left_s)


def _body(response: "requests.Response", url: str, deadline: float) -> bytes:
    body = bytearray()
    # read1 gives what is there: a server that drips could hold a whole chunk back for ever
    read = getattr(response.raw, "read1", response.raw.read)
    while chunk := read(_CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_REPLY_BYTES:
            raise ServerError(f"{shown(url)} sends more than {MAX_REPLY_BYTES} bytes", remedy="check the URL")
        if time.monotonic() > deadline:
            raise ServerError(f"{shown(url)} does not come to an end in time", remedy="try again later")
    return bytes(body)


def _cause(error: BaseException) -> str:
    """Return the system's own words: requests wraps urllib3's error, which wraps the system's."""
    inner: object = error
    while isinstance(inner, BaseException):
        found, inner = inner, getattr(inner, "reason", None) or (inner.args[-1] if inner.args else None)
    text = getattr(found, "strerror", None) or str(found)
    return f"{type(found).__name__}: {re.sub(_ADDRESS, '', text)}"[:300]
