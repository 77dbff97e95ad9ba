"""A folder served by GET, HEAD and PUT: a storage element small enough for a test."""

import os
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

_SAFE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


def file_routes(folder: Path) -> list[Route]:
    """Return the routes under /files for a folder; each part of a name is a plain one, or the answer is 400."""

    async def read(request: Request) -> Response:
        path = _path(folder, request)
        if path is None:
            return _refused()
        return FileResponse(path) if path.is_file() else PlainTextResponse("no such file\n", 404)

    async def write(request: Request) -> Response:
        path = _path(folder, request)
        if path is None:
            return _refused()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.{id(request)}")
        try:
            with part.open("wb") as file:
                async for chunk in request.stream():
                    file.write(chunk)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return PlainTextResponse("stored\n", 201)

    return [
        Route("/files/{name:path}", read, methods=["GET", "HEAD"]),
        Route("/files/{name:path}", write, methods=["PUT"]),
    ]


def _path(folder: Path, request: Request) -> Path | None:
    parts = str(request.path_params["name"]).split("/")
    return folder.joinpath(*parts) if all(_SAFE_PART.fullmatch(part) for part in parts) else None


def _refused() -> Response:
    return PlainTextResponse("not a plain name\n", 400)
