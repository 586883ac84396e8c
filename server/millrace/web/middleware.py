"""What every request passes before it reaches an endpoint: CORS for the pages on the list, then the gate.

An endpoint finds who asks as `state.principal`. The page, health and contracts need no key.
"""

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from millrace.access.gate import Gate, RequestHead
from millrace.access.origins import Origins, serialised
from millrace.errors import MillraceError
from millrace.web.refusals import PREFIX, refusal

if TYPE_CHECKING:
    from millrace.web.elsewhere import Elsewhere

_SLASHES = re.compile("//+")


class GateMiddleware:
    """Passes on what the gate admits, and counts connections while they are open."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit a request, or answer why not. A client that goes away in the meantime is no error."""
        if "//" in scope.get("path", ""):  # an SDK's base_url that ends in a slash; before the gate looks at the path
            scope = {**scope, "path": _SLASHES.sub("/", scope["path"])}
        with suppress(ClientDisconnect, WebSocketDisconnect):
            await self._admit(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_ambiguous(scope):
            error = MillraceError("invalid_request", "Content-Length and Transfer-Encoding: send only one of them")
            answer = refusal(error, scope)
            answer.headers["Connection"] = "close"
            await answer(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket") or not _path(scope).startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        gate: Gate = scope["state"]["process"].gate
        upgrade = scope["type"] == "websocket"
        head = head_of(scope, upgrade=upgrade)
        try:
            principal = gate.admit(head, await gate.fetch(head))
            if upgrade:
                gate.connect(principal)
        except MillraceError as error:
            if upgrade:
                await WebSocket(scope, receive, send).send_denial_response(refusal(error, scope))
            else:
                await refusal(error, scope)(scope, receive, send)
            return
        scope["state"]["principal"] = principal
        try:
            await self._answer(scope, receive, send)
        finally:
            if upgrade:
                gate.disconnect(principal)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the process answer that has what is asked for: this one, most often."""
        elsewhere: Elsewhere | None = scope["state"]["process"].elsewhere
        if elsewhere is None:
            await self._app(scope, receive, send)
            return
        try:
            address = await elsewhere.address(scope, _path(scope))
        except MillraceError as error:
            await refusal(error, scope)(scope, receive, send)
        except LookupError:
            await elsewhere.unless_missing(self._app, scope, receive, send)
        else:
            if address is None:
                await self._app(scope, receive, send)
            else:
                await elsewhere.pass_on(address, _path(scope), scope, receive, send)


class CorsMiddleware:
    """CORS for the pages on the gate's list, which may change at any time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._origins = Origins()
        self._with_cors: ASGIApp = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with CORS if there are such pages."""
        if scope["type"] != "lifespan" and (origins := scope["state"]["process"].gate.origins) is not self._origins:
            self._origins, self._with_cors = origins, self._for(origins)
        await self._with_cors(scope, receive, send)

    def _for(self, origins: Origins) -> ASGIApp:
        if not origins.texts:
            return self._app
        return CORSMiddleware(
            self._app,
            allow_origins=[serialised(origin) for origin in origins.texts],
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],  # SDKs send many of their own; no cookie is among them
            expose_headers=["Retry-After"],
        )


def middleware() -> list[Middleware]:
    """Return the middleware of an application."""
    return [Middleware(CorsMiddleware), Middleware(GateMiddleware)]


def _is_ambiguous(scope: Scope) -> bool:
    """Whether a proxy may see another end of the body, which is how requests are smuggled (RFC 9112, 6.1)."""
    headers = Headers(scope=scope)
    return "content-length" in headers and "transfer-encoding" in headers


def _path(scope: Scope) -> str:
    """Return the path as the routes see it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def head_of(scope: Scope, *, upgrade: bool) -> RequestHead:
    """Return what the gate reads of a request."""
    headers = Headers(scope=scope)
    return RequestHead(
        upgrade=upgrade,
        hosts=tuple(headers.getlist("host")),
        origins=tuple(headers.getlist("origin")),
        authorizations=tuple(headers.getlist("authorization")),
        api_keys=tuple(headers.getlist("x-api-key")),
        subprotocols=tuple(scope.get("subprotocols", ())),
    )
