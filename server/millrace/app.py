"""The ASGI application: its routes and its lifespan. `server` runs it under uvicorn as it is meant to run."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route, WebSocketRoute

from millrace import log
from millrace.assembly import assembled
from millrace.errors import MillraceError
from millrace.ports import Claim
from millrace.ports.replicas import Worker
from millrace.settings import Settings
from millrace.settings.changes import Source
from millrace.web import (
    batches,
    cache,
    dashboard,
    endpoints,
    evidence,
    feedback,
    files,
    flights,
    http1,
    ledger,
    levers,
    live,
    metrics,
    pages,
    refusals,
    reload,
    router,
)
from millrace.web.chat_session import websocket_chat
from millrace.web.embeddings import create_embeddings
from millrace.web.manual import endpoint as manual
from millrace.web.messages import count_tokens, create_message
from millrace.web.middleware import middleware
from millrace.web.process import Process
from millrace.web.server import Server, new_loop
from millrace.web.websocket import BatchingWebSocket
from millrace.wire import limits

__all__ = ["create_app", "new_loop", "server"]

SWITCH_S = 0.001  # how long a thread may hold Python's lock while the loop waits for it
GRACE_S = 10  # for what still runs once the server has drained
KEEP_ALIVE_S = 75  # of an idle connection over HTTP, unless `handshake_timeout_s` is less; clients keep theirs for 5 s


def create_app(
    settings: Settings, claim: Claim | None = None, source: Source | None = None, worker: Worker | None = None
) -> Starlette:
    """Return the application; its parts come to life with its lifespan, which claims data_dir if `claim` is None.

    `source` is where the settings come from, to be read anew. `worker`: what it is among the workers of a server.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Process]]:
        async with assembled(settings, claim, source, worker) as process:
            yield {"process": process}

    app = Starlette(
        routes=[
            WebSocketRoute("/v1/responses", endpoints.websocket_responses),
            Route("/v1/responses", endpoints.create_response, methods=["POST"]),
            Route("/v1/responses", pages.upgrade_needed),
            Route("/v1/responses/{id}", endpoints.retrieve),
            Route("/v1/responses/{id}", endpoints.delete, methods=["DELETE"]),
            Route("/v1/responses/{id}/input_items", endpoints.input_items),
            Route("/v1/responses/{id}/cancel", endpoints.cancel, methods=["POST"]),
            Route("/v1/responses/{id}/feedback", feedback.give, methods=["POST"]),
            WebSocketRoute("/v1/chat/ws", websocket_chat),
            Route("/v1/chat/ws", pages.upgrade_needed),
            Route("/v1/chat/completions", endpoints.create_completion, methods=["POST"]),
            Route("/v1/messages", create_message, methods=["POST"]),
            Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
            Route("/v1/embeddings", create_embeddings, methods=["POST"]),
            Route("/v1/files", files.upload, methods=["POST"]),
            Route("/v1/files", files.listed),
            Route("/v1/files/{id}", files.show),
            Route("/v1/files/{id}", files.delete, methods=["DELETE"]),
            Route("/v1/files/{id}/content", files.content),
            Route("/v1/batches", batches.create, methods=["POST"]),
            Route("/v1/batches", batches.listed),
            Route("/v1/batches/{id}", batches.show),
            Route("/v1/batches/{id}/cancel", batches.cancel, methods=["POST"]),
            Route("/v1/cache/stats", cache.stats),
            Route("/v1/cache/entries", cache.search),
            Route("/v1/cache/entries", cache.flush, methods=["DELETE"]),
            Route("/v1/cache/entries/{id}", cache.show),
            Route("/v1/cache/entries/{id}", cache.delete, methods=["DELETE"]),
            Route("/v1/cache/why", cache.why, methods=["POST"]),
            Route("/v1/evidence", evidence.report),
            Route("/v1/ledger", ledger.rows),
            Route("/v1/ledger/{id}", ledger.show),
            WebSocketRoute("/v1/dashboard/live", live.live),
            Route("/v1/dashboard/live", pages.upgrade_needed),
            Route("/v1/dashboard/figures", dashboard.figures),
            Route("/v1/dashboard/now", dashboard.now),
            Route("/v1/dashboard/promises", dashboard.promises),
            Route("/v1/dashboard/requests", dashboard.requests),
            Route("/v1/dashboard/requests/{id}", dashboard.story),
            Route("/v1/router", router.report),
            Route("/v1/reload", reload.reload, methods=["POST"]),
            Route("/v1/levers", levers.report),
            Route("/v1/models", pages.models),
            Route("/v1/models/{id:path}", pages.model),
            Route("/v1/tickets", endpoints.tickets, methods=["POST"]),
            Route("/replicas/flights/{place}", flights.follow, methods=["POST"]),
            Route("/metrics", metrics.metrics),
            Route("/healthz", pages.healthz),
            Route("/readyz", pages.readyz),
            Route("/asyncapi.json", pages.asyncapi),
            Route("/openapi.json", pages.openapi),
            Route("/docs", manual.first),
            Route("/docs/{name:path}", manual.show),
        ],
        lifespan=lifespan,
        middleware=middleware(),
        exception_handlers={
            MillraceError: refusals.refused,
            endpoints.AnsweredElsewhere: endpoints.answered_elsewhere,
            HTTPException: refusals.unrouted,
            Exception: refusals.crashed,
        },
    )
    app.router.default = pages.page(app.router.default)
    return app


def server(
    settings: Settings, claim: Claim | None = None, source: Source | None = None, worker: Worker | None = None
) -> Server:
    """Return the server for these settings, not yet running; the others as for `create_app`."""
    sys.setswitchinterval(SWITCH_S)
    server = Server(
        uvicorn.Config(
            create_app(settings, claim, source, worker),
            host=settings.server.host,
            port=settings.server.port,
            http=http1.timed(
                settings.server.handshake_timeout_s,
                settings.server.stuck_s,
                settings.server.max_message_bytes,
                settings.server.max_connections,
            ),
            ws=BatchingWebSocket,
            ws_max_size=settings.server.max_message_bytes,
            ws_per_message_deflate=False,  # it doubles the CPU of a token and holds memory per connection
            ws_ping_interval=limits.HEARTBEAT_S,
            ws_ping_timeout=limits.HEARTBEAT_S,
            timeout_graceful_shutdown=GRACE_S,
            timeout_keep_alive=KEEP_ALIVE_S,
            log_level="warning",
            access_log=False,
            server_header=False,
        )
    )
    log.quiet_others()
    return server
