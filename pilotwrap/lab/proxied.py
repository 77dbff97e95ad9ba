"""A transformation asked for through the lab as an HTTP proxy: some pilots insist on a base URL elsewhere."""

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

_SERVED = "/trf/"


class Proxied:
    """Answers an absolute http URL like its path alone, if that is a transformation's; no other is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, under the path that is served."""
        if scope["type"] == "http" and str(scope["path"]).startswith("http://"):
            path = urlsplit(str(scope["path"])).path
            wanted = path if path.startswith(_SERVED) else "/proxied" + path
            scope = {**scope, "path": wanted, "raw_path": wanted.encode()}
        await self._app(scope, receive, send)
