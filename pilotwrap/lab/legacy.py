"""The legacy API's route: bodies as forms or as gzipped JSON, replies url-encoded or as JSON."""

import gzip
import json
import time
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pilotwrap.lab.desk import Desk
from pilotwrap.lab.envelope import Json, PlainFailure
from pilotwrap.lab.legacycalls import known_method, legacy_answered
from pilotwrap.lab.legacyreply import JSON
from pilotwrap.lab.store import Store
from pilotwrap.lab.tokens import caller_of


def legacy_routes(store: Store) -> list[Route]:
    """Return the route of all the legacy calls."""

    async def legacy(request: Request) -> Response:
        headers = request.headers
        now = time.time()
        try:
            method = known_method(str(request.path_params["method"]))
            caller = caller_of(store, headers.get("authorization", ""), headers.get("origin"), now)
            given = await _given(request)
            reply = legacy_answered(method, Desk(store, caller, now), given)
        except PlainFailure as failure:
            return PlainTextResponse(failure.text, failure.status)
        text, kind = reply.encoded(as_json=JSON in headers.get("accept", ""))
        return Response(text, media_type=kind)

    return [Route("/server/panda/{method}", legacy, methods=["GET", "POST"])]


async def _given(request: Request) -> dict[str, Json]:
    """Return the arguments. A JSON body is always gunzipped, whatever its headers say of an encoding."""
    try:
        body = await request.body()
    except ClientDisconnect as error:
        raise PlainFailure(400, "the client went away") from error
    if request.headers.get("content-type") == JSON:
        return _from_json(body)
    text = str(request.url.query) if request.method == "GET" else body.decode(errors="replace")
    return dict(parse_qsl(text, keep_blank_values=True))


def _from_json(body: bytes) -> dict[str, Json]:
    try:
        content: Json = json.loads(gzip.decompress(body))
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise PlainFailure(500, str(error)) from error
    if not isinstance(content, dict):
        raise PlainFailure(500, f"argument after ** must be a mapping, not {type(content).__name__}")
    return {name: str(value) if isinstance(value, bool) else value for name, value in content.items()}
