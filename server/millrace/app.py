"""The ASGI entry: routes as data, lifespan, the page's files. `server` runs it under uvicorn as it is meant to run."""

import asyncio
import importlib.util
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, cast

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from millrace import __version__, log
from millrace.assembly import assembled
from millrace.errors import MillraceError
from millrace.settings import Settings
from millrace.web import endpoints, http1, middleware
from millrace.web.drain import LOOK_S, drain
from millrace.web.outbox import AsgiWriter, FrameWriter
from millrace.web.process import Process
from millrace.web.session import PING_S, Closed, Session
from millrace.web.websocket import EXTENSION, JoinedWebSocket
from millrace.wire import contracts, documents, responses as wire

GRACE_S = 10  # for what still runs when the process is told to stop
HERE = Path(__file__).parent
STATIC = next(folder for folder in (HERE / "static", HERE.parent.parent / "static") if folder.is_dir())


def create_app(settings: Settings) -> Starlette:
    """Return the application; its parts come to life with its lifespan."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Process]]:
        async with assembled(settings) as process:
            yield {"process": process}

    app = Starlette(
        routes=[
            WebSocketRoute("/v1/responses", websocket_responses),
            Route("/v1/responses", endpoints.create_response, methods=["POST"]),
            Route("/v1/responses", upgrade_needed),
            Route("/v1/responses/{id}", endpoints.retrieve),
            Route("/v1/responses/{id}", endpoints.delete, methods=["DELETE"]),
            Route("/v1/responses/{id}/cancel", endpoints.cancel, methods=["POST"]),
            Route("/v1/chat/completions", endpoints.create_completion, methods=["POST"]),
            Route("/v1/models", models),
            Route("/v1/tickets", middleware.tickets, methods=["POST"]),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/asyncapi.json", asyncapi),
            Route("/openapi.json", openapi),
        ],
        lifespan=lifespan,
        middleware=middleware.around(settings.server.origins),
        exception_handlers={MillraceError: middleware.refused, HTTPException: middleware.unrouted},
    )
    app.router.default = _page(app.router.default)
    return app


def _page(nowhere: ASGIApp) -> ASGIApp:
    """Return what answers where no route does, which a mount would hide: the page's files, but nothing of the API's."""
    files = StaticFiles(directory=STATIC, html=True)

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        is_file = scope["type"] == "http" and not scope["path"].startswith(middleware.PREFIX)
        await (files if is_file else nowhere)(scope, receive, send)

    return page


class Server(uvicorn.Server):
    """uvicorn, but told to stop it drains before it closes its sockets; told again it stops now."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self.force_exit = self.should_exit
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then close: new connections are refused meanwhile, and health checks answered."""
        draining = asyncio.create_task(drain(self.lifespan.state["process"]))
        while not draining.done() and not self.force_exit:
            await asyncio.wait((draining,), timeout=LOOK_S)
        draining.cancel()
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn leaves it out then, but what was spent is to be written
            await self.lifespan.shutdown()


def new_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that a server is meant to run in: uvloop, where there is one for the platform."""
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - not everywhere

    return uvloop.new_event_loop()


def server(settings: Settings) -> Server:
    """Return the server for these settings, not yet running."""
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).addFilter(log.hide_secrets)
    return Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.server.host,
            port=settings.server.port,
            http=http1.timed(settings.server.handshake_timeout_s, settings.server.max_connections),
            ws=JoinedWebSocket,
            ws_max_size=settings.server.max_message_bytes,
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
    offered = wire.SUBPROTOCOL in websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=wire.SUBPROTOCOL if offered else None)
    writer = websocket.scope["extensions"].get(EXTENSION) or AsgiWriter(websocket.send)
    negotiated = offered or websocket.query_params.get("millrace") == "1"
    state = websocket.state
    session = Session(state.process, cast("FrameWriter", writer), state.principal, negotiated=negotiated)
    try:
        await session.run(cast("Any", websocket.receive))
    except Closed as end:
        await websocket.close(end.code, end.reason)


async def upgrade_needed(_: Request) -> Response:
    """Say that a GET here is for a WebSocket."""
    error = MillraceError("invalid_request", "a GET of /v1/responses must ask for a WebSocket; use POST for HTTP")
    return _json(documents.Refused(wire.error_body(error)), 426, {"Upgrade": "websocket"})


async def models(request: Request) -> Response:
    """List the names a request may give as its model."""
    process: Process = request.state.process
    return _json(documents.ModelNames([documents.ModelName(name) for name in process.catalog.names]))


async def healthz(request: Request) -> Response:
    """Say that the process is alive."""
    process: Process = request.state.process
    return _json(documents.Health("ok", __version__, process.epoch, process.funnel.running))


async def readyz(request: Request) -> Response:
    """Say whether requests are taken."""
    process: Process = request.state.process
    if process.intake.closed:
        return _json(documents.Readiness("draining"), 503)
    return _json(documents.Readiness("ready"))


async def asyncapi(_: Request) -> Response:
    """Say what goes over the WebSocket."""
    return Response(_contract(contracts.asyncapi), media_type="application/json")


async def openapi(_: Request) -> Response:
    """Say what goes over HTTP."""
    return Response(_contract(contracts.openapi), media_type="application/json")


@cache
def _contract(write: Callable[[str], contracts.Schema]) -> bytes:
    return msgspec.json.encode(write(__version__))


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
