"""The web application: a route for each API, for the queues' data, for the transformation and for files."""

import asyncio
import gzip
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pilotwrap.lab.api import Api
from pilotwrap.lab.cache import cache_routes
from pilotwrap.lab.calls import CALLS, answered
from pilotwrap.lab.daemon import Periods, give_up, settle
from pilotwrap.lab.desk import Desk
from pilotwrap.lab.envelope import Json, PlainFailure
from pilotwrap.lab.files import file_routes
from pilotwrap.lab.legacy import legacy_routes
from pilotwrap.lab.proxied import Proxied
from pilotwrap.lab.store import Store
from pilotwrap.lab.timeouts import Limits
from pilotwrap.lab.tokens import caller_of

TRANSFORMATION_SCRIPT = """#!/bin/sh
# Runs the job's own command. A leading --pilotwrap and its shape are for the pilot, not for the command.
if [ "$1" = --pilotwrap ]; then shift 2; fi
exec "$@"
"""

_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Rules:
    """How this lab behaves: its timeouts, its periods, the folder that it serves files from, and which API it has."""

    limits: Limits = field(default_factory=Limits)
    periods: Periods = field(default_factory=Periods)
    files: Path | None = None
    api: Api = "current"


def application(store: Store, rules: Rules) -> Starlette:
    """Return the web application over an open database.

    Handlers touch the database on the event loop itself: that keeps calls one after another, as short as they are.
    """

    async def api(request: Request) -> Response:
        module, method = request.path_params["module"], request.path_params["method"]
        try:
            return await _answer(store, request, module, method)
        except PlainFailure as failure:
            return PlainTextResponse(failure.text, failure.status)

    verbs = ["GET", "POST"]
    current = _absent if rules.api == "legacy" else api
    return Starlette(
        routes=[
            Route("/api/v1/{module}/{method}", current, methods=verbs),
            Route("/api/latest/{module}/{method}", current, methods=verbs),
            *(legacy_routes(store) if rules.api != "current" else []),
            *cache_routes(store),
            Route("/trf/run", _transformation),
            Route("/trf/user/{name}", _transformation),
            *(file_routes(rules.files) if rules.files else []),
            Route("/{path:path}", _elsewhere, methods=verbs),
        ],
        middleware=[Middleware(Proxied)],
        lifespan=_lifespan(store, rules),
    )


def _lifespan(store: Store, rules: Rules) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """Return what runs beside the calls: the Adder and the watcher, while the application lives."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_settling(store, rules)), asyncio.create_task(_watching(store, rules))]
        yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return lifespan


async def _elsewhere(request: Request) -> Response:
    method = request.url.path.rpartition("/")[2]
    return PlainTextResponse(f"ERROR : method {method} is forbidden", 403)


async def _absent(_request: Request) -> Response:
    return PlainTextResponse("404 Not Found: this server has the legacy calls only\n", 404)


async def _transformation(_request: Request) -> Response:
    return PlainTextResponse(TRANSFORMATION_SCRIPT)


async def _answer(store: Store, request: Request, module: str, method: str) -> Response:
    headers = request.headers
    now = time.time()
    caller = caller_of(store, headers.get("authorization", ""), headers.get("origin"), now)
    given = _query(request) if request.method == "GET" else await _body(request, module, method)
    call = CALLS.get((module, method))
    if call is None:
        raise PlainFailure(403, f"ERROR : method {method} is forbidden")
    if not isinstance(given, dict):
        kind = type(given).__name__
        name = f"pandaserver.api.v1.{module}_api.{method}()"
        raise PlainFailure(500, f"{name} argument after ** must be a mapping, not {kind}")
    envelope = answered(call, Desk(store, caller, now), request.method, given)
    as_json = _JSON in {headers.get("content-type"), headers.get("accept")}
    return PlainTextResponse(envelope.text(as_json=as_json))


def _query(request: Request) -> dict[str, Json]:
    return {
        name: list[Json](request.query_params.getlist(name))
        if len(request.query_params.getlist(name)) > 1
        else request.query_params[name]
        for name in request.query_params
    }


async def _body(request: Request, module: str, method: str) -> Json:
    """Return what the body holds: only exactly `application/json` is read as JSON, and a form is all text."""
    try:
        body = await request.body()
    except ClientDisconnect as error:
        raise PlainFailure(400, f"{module}/{method}: the client went away") from error
    if request.headers.get("content-encoding") == "gzip":
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError) as error:
            raise PlainFailure(500, str(error)) from error
    kind = request.headers.get("content-type")
    if kind == _JSON:
        try:
            content: Json = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise PlainFailure(500, f"ERROR : received invalid JSON : {error}") from error
        return content
    if kind == _FORM:
        form = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
        return {name: values[0] if len(values) == 1 else list[Json](values) for name, values in form.items()}
    return {}


async def _settling(store: Store, rules: Rules) -> None:
    while rules.periods.adder_s > 0:
        await asyncio.sleep(rules.periods.adder_s)
        with suppress(sqlite3.OperationalError):  # the file is busy for long: the next pass will do it
            settle(store)


async def _watching(store: Store, rules: Rules) -> None:
    while True:
        await asyncio.sleep(rules.periods.watcher_s)
        with suppress(sqlite3.OperationalError):
            give_up(store, rules.limits)
