"""OpenAI-compatible embeddings: one request, one document, passed on as it came."""

import asyncio
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from itertools import islice
from typing import Any

from msgspec import Struct

from millrace.errors import UpstreamError
from millrace.memory import Hold
from millrace.ports import Clock
from millrace.types import Embedded
from millrace.upstreams.attempt import RETRY_S
from millrace.upstreams.connections import (
    FAULTS,
    Connections,
    connection_error,
    is_not_now,
    retry_after,
    traced,
    transient,
)
from millrace.upstreams.exchange import TRANSIENT, Response, error_body
from millrace.upstreams.refusals import Refusals, error_in, error_of
from millrace.upstreams.usage import input_of

MAX_ANSWER = 128 * 2**20  # bytes: 2,048 vectors of 3,072 numbers as text
SHORT = 64 * 1024  # bytes at both ends of an answer, where its usage is; a shorter one is looked at for an error
MOST_USAGES = 8  # that are looked at at one end

_USAGE = re.compile(r'"usage"\s*:\s*(?=\{)')
_decoder = json.JSONDecoder()


class EmbeddingsEndpoint(Struct, frozen=True, kw_only=True):
    """Where a model is served, under which name, and its timeouts in seconds."""

    base_url: str
    model: str
    api_key: str | None
    connect_timeout_s: float
    timeout_s: float

    def __repr__(self) -> str:  # keeps the key out of logs
        return f"EmbeddingsEndpoint({self.base_url})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # and out of what is drawn on a terminal
        return [("base_url", self.base_url)]


class OpenAIEmbeddings:
    """Calls of one model."""

    def __init__(self, connections: Connections, endpoint: EmbeddingsEndpoint, wall: Clock) -> None:
        self.connections = connections
        self.endpoint = endpoint
        self.refusals = Refusals(endpoint.model, endpoint.api_key, wall)
        self.url = endpoint.base_url.rstrip("/") + "/embeddings"
        self.headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
        if endpoint.api_key:
            self.headers["Authorization"] = f"Bearer {endpoint.api_key}"

    def open(self, body: bytes, held: Hold, traceparent: str = "", tracestate: str = "") -> "EmbeddingsCall":
        """Start a call on a task of its own; what it has read is counted in `held`."""
        return EmbeddingsCall(self, body, held, self.headers | traced(traceparent, tracestate))


class EmbeddingsCall:
    """One call. Its socket is closed as soon as its task is cancelled."""

    def __init__(self, upstream: OpenAIEmbeddings, body: bytes, held: Hold, headers: dict[str, str]) -> None:
        self.sent = False  # the request has left; before that the provider charges nothing
        self.is_reused = False  # its connection has been used before
        self._upstream = upstream
        self._headers = headers
        self._held = held
        self._read_bytes = 0
        self.done: asyncio.Future[Embedded] = asyncio.get_running_loop().create_task(self._run(body))

    async def _run(self, body: bytes) -> Embedded:
        endpoint = self._upstream.endpoint
        response: Response | None = None
        try:
            async with asyncio.timeout(endpoint.timeout_s):
                response = await self._respond(body)
                return await self._read(response)
        except TimeoutError:
            message = f"{endpoint.model} sent no embeddings within {endpoint.timeout_s:g} s"
            raise UpstreamError("upstream_timeout", message) from None
        except FAULTS as error:
            raise connection_error(endpoint.model, error, has_begun=response is not None) from None
        finally:
            if response is not None:
                response.close()

    async def _respond(self, body: bytes) -> Response:
        """Return the response. A fault that may pass is tried once more, on a new connection; the first is not billed.

        A connection that was kept alive and brings no byte was closed before the request arrived.
        """
        for is_new in (False, True):
            try:
                response = await self._post(body, new=is_new)
            except FAULTS as error:
                if is_new or not transient(error):
                    raise
            else:
                if is_new or response.status not in TRANSIENT or is_not_now(response.headers):
                    return response
                response.close()
            await asyncio.sleep(RETRY_S)
            self.sent = self.is_reused = False
        raise AssertionError("the second try returns or raises")

    async def _post(self, body: bytes, *, new: bool) -> Response:
        upstream = self._upstream
        timeout_s = upstream.endpoint.connect_timeout_s
        return await upstream.connections.post(
            upstream.url, body, self._headers, self, connect_timeout_s=timeout_s, new=new
        )

    async def _read(self, response: Response) -> Embedded:
        model, refusals = self._upstream.endpoint.model, self._upstream.refusals
        if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            raise refusals.of_status(response.status, retry_after(response.headers), await error_body(response))
        pieces: list[bytes] = []

        def take(piece: bytes) -> bool:
            self._held.resize(self._held.size + len(piece))
            self._read_bytes += len(piece)
            pieces.append(piece)
            if self._read_bytes > MAX_ANSWER:
                raise UpstreamError("upstream_error", f"{model} sent more than {MAX_ANSWER >> 20} MiB")
            return False

        await response.push(take)
        beginning = b"".join(_enough(pieces))
        ending = b"".join([*_enough(reversed(pieces))][::-1])
        if self._read_bytes <= SHORT and (error := error_of(error_in(beginning))) is not None:
            raise refusals.of_event(error, billable=False)
        if not (beginning.lstrip().startswith(b"{") and ending.rstrip().endswith(b"}")):
            raise UpstreamError("upstream_error", f"{model} answered with what are no embeddings")
        return Embedded(pieces=pieces, input_tokens=_tokens_in(ending, beginning))


def _enough(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the first pieces, of `SHORT` bytes together if there are as many."""
    size = 0
    for piece in pieces:
        yield piece
        size += len(piece)
        if size >= SHORT:
            return


def _tokens_in(*ends: bytes) -> int | None:
    """Return the tokens in the `usage` of an answer, which stands behind the vectors or before them.

    The whole is never decoded, since that would hold Python's lock all the time; vectors have no quotes in them.
    """
    for end in ends:
        for found in islice(_USAGE.finditer(end.decode("utf-8", "replace")), MOST_USAGES):
            with suppress(ValueError, RecursionError):
                tokens = input_of(_decoder.raw_decode(found.string, found.end())[0])
                if tokens is not None:
                    return tokens
    return None
