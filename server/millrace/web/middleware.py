"""The gate as middleware: every request for /v1 passes it; what it refuses is answered before the upgrade.

An endpoint finds who asks as `state.principal`. The page, health and contracts need no key.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from http import HTTPStatus

import msgspec
from msgspec import UNSET
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from millrace.access.gate import Gate, RequestHead
from millrace.access.tickets import TTL_S
from millrace.errors import MillraceError, Unanswered, invalid
from millrace.origins import serialised
from millrace.web.process import Process
from millrace.wire import documents, reading, responses as wire

PREFIX = "/v1/"
MAX_TICKET_BODY = 4096  # bytes
_CHALLENGE = 'Bearer realm="millrace"'


class Entrance:
    """Lets in whom the gate admits, and counts connections while they are open."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit or answer; a client that leaves in the middle of its body is nobody's fault."""
        if scope["type"] not in ("http", "websocket") or not _path(scope).startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        gate: Gate = scope["state"]["process"].gate
        upgrade = scope["type"] == "websocket"
        with ExitStack() as connection:
            try:
                principal = gate.admit(_head_of(scope, upgrade=upgrade))
                if upgrade:
                    connection.enter_context(gate.connected(principal))
            except MillraceError as error:
                if upgrade:
                    await WebSocket(scope, receive, send).send_denial_response(refusal(error))
                else:
                    await refusal(error)(scope, receive, send)
                return
            scope["state"]["principal"] = principal
            with suppress(ClientDisconnect):
                await self._app(scope, receive, send)


def around(origins: Sequence[str]) -> list[Middleware]:
    """Return what stands before the routes: CORS for the pages on the list, then the gate."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=[serialised(origin) for origin in origins],
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],  # SDKs send many of their own; no cookie is among them
        expose_headers=["Retry-After"],
    )
    return [*([cors] if origins else []), Middleware(Entrance)]


def refusal(error: MillraceError) -> Response:
    """Return an error as an SDK reads it from HTTP."""
    headers = {"Cache-Control": "no-store", "X-Should-Retry": "true" if _may_retry(error) else "false"}
    if error.rule.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = _CHALLENGE
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_ms / 1000))
    usage = msgspec.to_builtins(error.usage) if isinstance(error, Unanswered) else UNSET
    body = msgspec.json.encode(documents.Refused(wire.error_body(error), usage))
    return Response(body, error.rule.status, headers, media_type="application/json")


def _may_retry(error: MillraceError) -> bool:
    """Whether an SDK may repeat the request on its own; a deadline that has passed would only be paid for again."""
    return error.rule.retry and error.code != "deadline_exceeded"


async def refused(_: Request, error: Exception) -> Response:
    """Answer for an endpoint that raised a `MillraceError`."""
    assert isinstance(error, MillraceError)
    return refusal(error)


async def unrouted(request: Request, error: Exception) -> Response:
    """Say that there is no such path, or not with this method; under /v1 as all errors are said there."""
    assert isinstance(error, HTTPException)
    if not request.url.path.startswith(PREFIX):
        return Response(error.detail, error.status_code, error.headers, media_type="text/plain")
    refused = MillraceError("invalid_request", f"{request.method} {request.url.path[:80]}: {error.detail}")
    body = msgspec.json.encode({"error": wire.error_body(refused)})
    return Response(body, error.status_code, error.headers, media_type="application/json")


async def tickets(request: Request) -> Response:
    """Trade a key for a ticket."""
    process: Process = request.state.process
    body = await read_body(request, MAX_TICKET_BODY) or b"{}"
    asked = reading.convert(reading.decode(body, "the body"), documents.TicketRequest)
    origin = asked.origin or request.headers.get("origin")
    if origin is None:
        raise invalid("origin", 'origin: missing; name the page that will connect: {"origin": "https://app.example"}')
    ticket = process.gate.ticket(request.state.principal, origin)
    answer = documents.TicketAnswer(ticket=ticket, expires_at=int(process.wall() + TTL_S))
    return Response(msgspec.json.encode(answer), 201, {"Cache-Control": "no-store"}, media_type="application/json")


async def read_body(request: Request, limit: int) -> bytes:
    """Return a request's body; raise `message_too_big` before more than the limit, in bytes, is kept."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise MillraceError("message_too_big", f"the body is longer than {limit} bytes")
    return bytes(body)


def _path(scope: Scope) -> str:
    """Return the path as the routes see it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _head_of(scope: Scope, *, upgrade: bool) -> RequestHead:
    headers = Headers(scope=scope)
    return RequestHead(
        upgrade=upgrade,
        hosts=tuple(headers.getlist("host")),
        origins=tuple(headers.getlist("origin")),
        authorizations=tuple(headers.getlist("authorization")),
        subprotocols=tuple(scope.get("subprotocols", ())),
    )
