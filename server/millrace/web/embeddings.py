"""`POST /v1/embeddings`: the answer of the configured model, byte for byte."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from millrace.runs.embeddings import new_id, not_served
from millrace.runs.intake import draining
from millrace.web.endpoints import opened
from millrace.web.process import Process
from millrace.web.sse import until_gone
from millrace.web.trace_headers import trace_headers
from millrace.wire.embeddings import EmbeddingsAsked, read_embeddings
from millrace.wire.reading import decode
from millrace.wire.trace_context import trace_of


async def create_embeddings(request: Request) -> Response:
    """Pass a request on to the model for embeddings."""
    process: Process = request.state.process
    embeddings, catalog = process.embeddings, process.funnel.catalog
    if embeddings.served is None:
        raise not_served()

    def read(body: bytes) -> tuple[EmbeddingsAsked, bytes]:
        asked = read_embeddings(decode(body, "the body"))
        return asked, asked.body_for(catalog.embeddings_model(asked.model))

    asked, body = await opened(request, process.max_message_bytes, read)
    if process.intake.closed:
        raise draining()
    request_id = request.state.request_id = new_id()
    trace = trace_of({}, trace_headers(request.headers))
    principal = request.state.principal
    return _Answer(request_id, lambda: embeddings.answered(request_id, asked, body, principal, trace=trace))


class _Answer(Response):
    """A provider's answer, once it has come. It ends when its client goes away."""

    media_type = "application/json"

    def __init__(self, request_id: str, ask: Callable[[], AbstractAsyncContextManager[list[bytes]]]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Request-Id": request_id})
        self._ask = ask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the answer, or until the client has gone."""
        await until_gone(asyncio.get_running_loop().create_task(self._send_all(send)), receive)

    async def _send_all(self, send: Send) -> None:
        async with self._ask() as pieces:
            self.headers["Content-Length"] = str(sum(map(len, pieces)))
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
