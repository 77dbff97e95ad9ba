"""The cache of a PanDA server: what a pilot reads about a queue and its storage, by plain GET and for anybody."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pilotwrap.lab.queuedata import queuedata_text, schedconfig_text, storage_text
from pilotwrap.lab.queues import known_queue, storage_folder
from pilotwrap.lab.store import Store

_JSON = "application/json"
_ALL = ".all"


def cache_routes(store: Store) -> list[Route]:
    """Return the routes under /cache; an unknown queue is 404."""

    async def schedconfig(request: Request) -> Response:
        name = str(request.path_params["name"])
        queue = known_queue(store, name.removesuffix(_ALL))
        if queue is None:
            return PlainTextResponse("no such queue\n", 404)
        text = queuedata_text(queue) if name.endswith(_ALL) else schedconfig_text(queue)
        return Response(text, media_type=_JSON)

    async def endpoints(_request: Request) -> Response:
        return Response(storage_text(storage_folder(store)), media_type=_JSON)

    return [
        Route("/cache/schedconfig/{name}.json", schedconfig, methods=["GET"]),
        Route("/cache/ddmendpoints.json", endpoints, methods=["GET"]),
    ]
