"""The ASGI entry: routes as data, lifespan, the page's files. `server` runs it under uvicorn as it is meant to run."""

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from millrace import __version__
from millrace.assembly import assembled
from millrace.errors import MillraceError
from millrace.outbox import AsgiWriter, FrameWriter
from millrace.session import MAX_MESSAGE, PING_S, Process, Session, UnreadableMessage
from millrace.settings import LOOPBACK, Settings
from millrace.transport import EXTENSION, JoinedWebSocket
from millrace.wire import responses as wire

GRACE_S = 10  # for what still runs when the process is told to stop
FOREIGN = "without keys, only this machine and its own pages may connect\n"
HERE = Path(__file__).parent
STATIC = next(folder for folder in (HERE / "static", HERE.parent.parent / "static") if folder.is_dir())


def create_app(settings: Settings) -> Starlette:
    """Return the application; its parts come to life with its lifespan."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Process]]:
        async with assembled(settings) as process:
            yield {"process": process}

    return Starlette(
        routes=[
            WebSocketRoute("/v1/responses", websocket_responses),
            Route("/v1/responses", http_responses, methods=["GET", "POST"]),
            Route("/v1/models", models),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        lifespan=lifespan,
    )


def server(settings: Settings) -> uvicorn.Server:
    """Return the server for these settings, not yet running."""
    return uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.server.host,
            port=settings.server.port,
            loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
            ws=JoinedWebSocket,
            ws_max_size=MAX_MESSAGE,
            ws_per_message_deflate=False,  # it doubles the CPU of a token and holds memory per connection
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            timeout_graceful_shutdown=GRACE_S,
            log_level="warning",
            access_log=False,
            server_header=False,
        )
    )


async def websocket_responses(websocket: WebSocket) -> None:
    """Serve the Responses WebSocket mode."""
    if not _is_near(websocket):
        await websocket.send_denial_response(Response(FOREIGN, 403))
        return
    offered = wire.SUBPROTOCOL in websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=wire.SUBPROTOCOL if offered else None)
    writer = websocket.scope["extensions"].get(EXTENSION) or AsgiWriter(websocket.send)
    negotiated = offered or websocket.query_params.get("millrace") == "1"
    session = Session(websocket.state.process, cast("FrameWriter", writer), negotiated=negotiated)
    try:
        await session.run(cast("Any", websocket.receive))
    except UnreadableMessage as error:
        await websocket.close(error.code, error.reason)


async def http_responses(_: Request) -> Response:
    """Say that this is a WebSocket endpoint."""
    error = MillraceError(
        "invalid_request", "connect to /v1/responses with a WebSocket; plain HTTP is not yet supported"
    )
    body = msgspec.json.encode({"error": wire.error_body(error)})
    return Response(body, 426, {"Upgrade": "websocket"}, media_type="application/json")


async def models(request: Request) -> Response:
    """List the names a request may give as its model."""
    process: Process = request.state.process
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "millrace"} for name in process.catalog.names]
    return _json({"object": "list", "data": listed})


async def healthz(request: Request) -> Response:
    """Say that the process is alive."""
    process: Process = request.state.process
    return _json({"status": "ok", "version": __version__, "epoch": process.epoch, "running": process.funnel.running})


async def readyz(_: Request) -> Response:
    """Say that requests are taken; the lifespan has begun, or this would not be reached."""
    return _json({"status": "ready"})


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _is_near(websocket: WebSocket) -> bool:
    """Whether it was this machine that was asked, and the page that asks, if it is one, is of this machine too.

    Without keys nothing else tells a user's own page from any page the user happens to visit; the Host counts because
    a foreign name may have been made to resolve to this machine.
    """
    origin = websocket.headers.get("origin")
    return _is_loopback(f"http://{websocket.headers.get('host')}") and (origin is None or _is_loopback(origin))


def _is_loopback(url: str) -> bool:
    try:
        return urlsplit(url).hostname in LOOPBACK
    except ValueError:
        return False
