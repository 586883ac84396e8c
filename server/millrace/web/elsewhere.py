"""Requests for a response that another replica has are passed on to it, with the key of whoever asks.

So it is that replica which decides what this key may see. A request is passed on once: the header `millrace-hop` says
that it was.
"""

import re
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from millrace.errors import MillraceError
from millrace.ports.replicas import Replicas, place_of
from millrace.web.refusals import refusal

HOP = "millrace-hop"
CONNECT_S = 2.0
SILENT_S = 60.0  # for which the other replica may send nothing: streams have a heartbeat
_RESPONSE = re.compile("/v1/responses/([^/]+)(/cancel|/input_items)?")
_SENT_ON = ("authorization", "x-api-key", "accept", "accept-encoding", "origin", "traceparent", "tracestate")
_OF_A_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class Elsewhere:
    """Passes requests on."""

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENT_S)
        self._http = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def address(self, scope: Scope, path: str) -> str | None:
        """Return the URL of the replica that a request is for; None if it is for this one, or for nobody."""
        named = _RESPONSE.fullmatch(path)
        if scope["type"] != "http" or named is None or HOP in Headers(scope=scope):
            return None
        return await self.replicas.find(place_of(named[1]))

    async def pass_on(self, address: str, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Have another replica answer."""
        answer = await self._answer(address, path, scope)
        await answer(scope, receive, send)

    async def _answer(self, address: str, path: str, scope: Scope) -> Response:
        given = Headers(scope=scope)
        headers = {name: given[name] for name in _SENT_ON if name in given} | {HOP: "1"}
        query = scope["query_string"].decode("latin-1")
        url = f"{address.rstrip('/')}{path}{'?' if query else ''}{query}"
        try:
            found = await self._http.request(scope["method"], url, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError):
            message = "the replica that has this response does not answer; try again"
            return refusal(MillraceError("overloaded", message, retry_after_ms=1000), scope)
        kept = {name: value for name, value in found.headers.items() if name.lower() not in _OF_A_CONNECTION}
        return StreamingResponse(_body(found), found.status, kept)


async def _body(found: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield what comes, as it comes. An end before the end is one here, too."""
    try:
        with suppress(aiohttp.ClientPayloadError):
            async for piece in found.content.iter_any():
                yield piece
    finally:
        found.close()
