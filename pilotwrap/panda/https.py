"""The transport over HTTPS, through the HTTP proxies that the environment names."""

import collections
import ipaddress
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from pilotwrap import __version__
from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import BadInputError, CredentialError, SiteEnvironmentError
from pilotwrap.panda.credentials import origin_of, proxy_file, read_token
from pilotwrap.panda.transport import MAX_REPLY_BYTES, MaybeTaken, NotSent, Replied, Reply, Request

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT_S = 10.0
"""A guess: three tries of a lost SYN (1, 3, 7 s) fit into it."""

_SERVER = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?(/[A-Za-z0-9/._~-]*)?")
_LAST_PORT = 65535

_CHUNK_BYTES = 64 * 1024
_HIDDEN = b"[token]"

_HEADERS = {
    "User-Agent": f"pilotwrap/{__version__}",
    "Accept": "application/json",
    # the server never compresses; a proxy that does could blow a small reply up
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True)
class Dialect:
    """Under which path a server has its calls, and in which form it takes their arguments."""

    prefix: str
    content_type: str


CURRENT = Dialect("/api/v1/", "application/json")
"""With anything behind it, such as a charset, the server does not read the body (measured)."""

LEGACY = Dialect("/server/panda/", "application/x-www-form-urlencoded")


class HttpsTransport:
    """Sends requests to one server as one credential; any thread may use it.

    `ca_path` is a file or directory of certificates to trust in place of the system's. `clock` gives monotonic
    seconds.
    """

    def __init__(
        self,
        server: str,
        credential: Credential,
        *,
        ca_path: str | None = None,
        dialect: Dialect = CURRENT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = checked_server(server)
        self._credential = credential
        self._ca_path = ca_path
        self._dialect = dialect
        self._clock = clock
        self._idle: collections.deque[requests.Session] = collections.deque()

    def __repr__(self) -> str:
        return f"HttpsTransport({self._server!r}, {self._credential!r})"

    def send(self, request: Request) -> Reply:
        """Exchange one request within its time.

        Raises CredentialError, before anything is sent, when the credential cannot be read or must not travel.
        """
        import requests

        deadline = self._clock() + request.timeout_s
        secret, headers, cert = self._proof()
        if request.method == "POST":
            headers["Content-Type"] = self._dialect.content_type
        # a session is one thread's at a time, and handed on: threads come and go, connections stay
        session = self._taken()
        try:
            with self._exchange(session, request, headers, cert) as response:
                return self._reply(response, deadline, secret)
        except requests.RequestException as error:
            return _unanswered(error)
        except OSError as error:
            raise SiteEnvironmentError(
                "the TLS files cannot be used", why=str(error), remedy="check the CA path"
            ) from None
        finally:
            self._idle.append(session)

    def _exchange(
        self, session: "requests.Session", request: Request, headers: dict[str, str], cert: str | None
    ) -> "requests.Response":
        """Send what is prepared by itself: the session would add a password of ~/.netrc, and takes twice the time."""
        import requests

        url = self._url(request)
        prepared = requests.Request(request.method, url, headers=headers, data=request.body or None).prepare()
        settings = session.merge_environment_settings(url, {}, stream=True, verify=session.verify, cert=cert)
        return session.send(
            prepared,
            timeout=(min(CONNECT_TIMEOUT_S, request.timeout_s), request.timeout_s),
            allow_redirects=False,
            **settings,
        )

    def _proof(self) -> tuple[bytes, dict[str, str], str | None]:
        parts = urlsplit(self._server)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise CredentialError(
                f"the credential is not sent to {self._server}",
                why="plain http shows it to everyone on the way",
                remedy="give the server's https URL",
            )
        if self._credential.kind == "x509":
            return b"", dict(_HEADERS), proxy_file(self._credential)
        origin = origin_of(self._credential)
        token = read_token(self._credential, time.time())
        return token.encode(), {**_HEADERS, "Authorization": f"Bearer {token}", "Origin": origin}, None

    def _taken(self) -> "requests.Session":
        try:
            return self._idle.pop()
        except IndexError:
            return self._session()

    def _session(self) -> "requests.Session":
        import requests

        session = requests.Session()
        # a proxy cannot reach our own loopback
        session.trust_env = not is_loopback(urlsplit(self._server).hostname or "")
        session.verify = self._ca_path or True
        return session

    def _url(self, request: Request) -> str:
        query = f"?{urlencode(request.query)}" if request.query else ""
        return f"{self._server}{self._dialect.prefix}{request.path}{query}"

    def _reply(self, response: "requests.Response", deadline: float, secret: bytes) -> Reply:
        from urllib3.exceptions import HTTPError

        body = bytearray()
        try:
            # read1 returns what has come: a server that drips cannot stretch one call beyond its time
            while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
                body += chunk
                if len(body) > MAX_REPLY_BYTES:
                    break
                if self._clock() > deadline:
                    return MaybeTaken(f"the answer was not whole in time ({len(body)} bytes had come)")
        except (HTTPError, OSError, ValueError) as error:
            return MaybeTaken(f"the answer broke off: {_plain(error)}")
        text = bytes(body)
        if secret:
            text = text.replace(secret, _HIDDEN)
        return Replied(response.status_code, text, response.headers.get("Location", ""))


def checked_server(server: str) -> str:
    """Return the server's base URL without a slash at its end; raises BadInputError for anything else."""
    found = _SERVER.fullmatch(server)
    if found is None or not 0 < int(found["port"] or 1) <= _LAST_PORT:
        raise BadInputError(
            f"the server {server!r} is no URL of a PanDA server",
            remedy="give e.g. https://pandaserver.example.org:25443",
        )
    return server.rstrip("/")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unanswered(error: "requests.RequestException") -> Reply:
    import requests
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(error, requests.exceptions.SSLError):
        return _tls_failed(error)
    never_left = (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.InvalidProxyURL)
    surely = isinstance(error, never_left) or isinstance(reason, NewConnectionError)
    return NotSent(_plain(error)) if surely else MaybeTaken(_plain(error))


def _tls_failed(error: BaseException) -> Reply:
    cause = _innermost(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NotSent(f"the server's certificate is not trusted: {cause.verify_message}", lasting=True)
    # with TLS 1.3 a refused client certificate shows only after the request went out
    return MaybeTaken(f"TLS failed: {_plain(error)}")


def _innermost(error: BaseException) -> BaseException:
    """Return the error at the bottom: requests wraps urllib3's, which wraps the system's."""
    wrapped = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
    return _innermost(wrapped) if isinstance(wrapped, BaseException) else error


def _plain(error: BaseException) -> str:
    """Return an error's innermost text without the addresses of objects."""
    inner = _innermost(error)
    text = re.sub(r"^.*(object at 0x|\)>: |>: )", "", str(inner)) or str(inner)
    return f"{type(inner).__name__}: {text}"[:300]
