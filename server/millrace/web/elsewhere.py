"""Requests for a response that another replica has are passed on to it, with the key of whoever asks.

So it is that replica which decides what this key may see. A request is passed on once to a replica, and once among its
workers: the header `millrace-hop` says that it was. The workers of a server pass on as well what is about files and
batches, which one of them runs.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from http import HTTPStatus

import aiohttp
import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millrace.errors import MillraceError
from millrace.ports.flights import LeaderGoneError, Lease
from millrace.ports.replicas import Peers, Siblings, place_of
from millrace.web.hops import FROM_REPLICA, FROM_SIBLING, HOP
from millrace.web.refusals import refusal
from millrace.wire import documents, messages, sessions

CONNECT_S = 2.0
SIBLING_S = 1.0  # for a worker to answer another one's question
ANSWER_S = 2.0  # for a replica to say whether it leads a flight; by then a model has said its first word, too
HEARD_S = 10.0  # after its last line a leader is gone: it sends one a second
HEAD_S = 5.0  # for the head of its answer
SILENT_S = 60.0  # for which the other replica may send nothing: streams have a heartbeat
_RESPONSE = re.compile("/v1/responses/([^/]+)(/cancel|/input_items)?")
_OF_BATCHES = re.compile("/v1/(files|batches)(/|$)")
_SENT_ON = (
    "authorization",
    "content-type",
    "content-length",
    "x-api-key",
    *messages.HEADERS,
    *sessions.HEADERS,
    "accept",
    "accept-encoding",
    "origin",
    "traceparent",
    "tracestate",
)
_OF_A_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class Elsewhere:
    """Passes requests on: to a sibling, which is a worker of the same server, or to another replica."""

    def __init__(self, place: str, replicas: Peers | None, siblings: Siblings | None) -> None:
        self.place = place  # of this process
        self.siblings = siblings
        self._replicas = replicas
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENT_S)
        self._http = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)

    @property
    def redis_is_away(self) -> bool | None:
        """Whether Redis is; None if none is configured."""
        return None if self._replicas is None else self._replicas.is_away

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    def where(self, place: str) -> str | None:
        """Return where a client finds what another process has, in words; None if none is known."""
        both = (self.siblings, self._replicas)
        return next((where for each in both if each and (where := each.where(place))), None)

    async def address(self, scope: Scope, path: str) -> str | None:
        """Return the URL of the process that a request is for; None if it is for this one, or for nobody.

        Raises `overloaded` where it is not known for a moment, and `LookupError` where this one may know it, too.
        """
        named = _RESPONSE.fullmatch(path)
        is_of_batches = self.siblings is not None and _OF_BATCHES.match(path)
        if scope["type"] != "http" or not (named or is_of_batches):
            return None
        hop = Headers(scope=scope).get(HOP, "")
        if hop == FROM_SIBLING:
            return None
        if self.siblings is not None:
            if named is None:
                return await self._first(self.siblings)
            if address := await self.siblings.find(place_of(named[1])):
                return address
        return await self._replicas.find(place_of(named[1])) if self._replicas and named and not hop else None

    async def repeated(self, response_id: str, body: bytes, scope: Scope, path: str, receive: Receive) -> Response:
        """Have the process that has a response answer a request that repeats it, and whose body was read."""
        hop, place = Headers(scope=scope).get(HOP, ""), place_of(response_id)
        address = None
        with suppress(LookupError):
            if self.siblings is not None and hop != FROM_SIBLING:
                address = await self.siblings.find(place)
            if address is None and self._replicas is not None and not hop:
                address = await self._replicas.find(place)
        if address is None:
            return refusal(_unheard(), scope)
        return await self.answer(address, path, scope, receive, body)

    async def pass_on(self, address: str, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Have another process answer."""
        answer = await self.answer(address, path, scope, receive)
        await answer(scope, receive, send)

    async def follow_log(self, lease: Lease, wanted: bytes) -> AsyncGenerator[bytes]:
        """Yield the lines of the log of a flight that another replica leads. Raises `LeaderGoneError`."""
        url = f"{lease.address.rstrip('/')}/replicas/flights/{lease.place}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_S, sock_read=HEARD_S)
        headers = {HOP: FROM_REPLICA, "Content-Type": "application/json", "Accept-Encoding": "identity"}
        try:
            async with asyncio.timeout(ANSWER_S):
                found = await self._http.post(url, data=wanted, headers=headers, timeout=timeout, allow_redirects=False)
            async with found, aclosing(_lines(found)) as lines:
                if found.status != HTTPStatus.OK:
                    raise LeaderGoneError(f"it does not lead it (status {found.status})")
                async for line in lines:
                    yield line
                found.release()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LeaderGoneError(f"it does not answer ({type(error).__name__})") from None

    @staticmethod
    async def unless_missing(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Have this process answer. What it does not find another one may have: to come again is what helps."""
        is_missing = False

        async def sent(message: Message) -> None:
            nonlocal is_missing
            is_missing = is_missing or message.get("status") == HTTPStatus.NOT_FOUND
            if not is_missing:
                await send(message)

        await app(scope, receive, sent)
        if is_missing:
            message = "another replica may have this, and which ones live cannot be asked just now; try again"
            await refusal(MillraceError("overloaded", message, retry_after_ms=1000), scope)(scope, receive, send)

    async def of_siblings(self, path: str, headers: Mapping[str, str]) -> list[bytes]:
        """Return what the other workers answer, of those that do within a second."""
        siblings = [] if self.siblings is None else self.siblings.others
        found = await asyncio.gather(*(self._read(f"{address}{path}", headers) for address in siblings))
        return [body for body in found if body is not None]

    async def are_all_without_redis(self) -> bool:
        """Ask all other replicas that are known whether they find Redis away. One that does not answer may not."""
        addresses = [] if self._replicas is None else self._replicas.others
        found = await asyncio.gather(*(self._read(f"{address.rstrip('/')}/healthz", {}) for address in addresses))
        return all(body is not None and _finds_redis_away(body) for body in found)

    async def _read(self, url: str, headers: Mapping[str, str]) -> bytes | None:
        try:
            async with (
                asyncio.timeout(SIBLING_S),
                self._http.get(url, headers={**headers, HOP: FROM_SIBLING}, allow_redirects=False) as found,
            ):
                return await found.read() if found.status == HTTPStatus.OK else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    @staticmethod
    async def _first(siblings: Siblings) -> str | None:
        try:
            return await siblings.first()
        except LookupError:
            message = "another worker takes over the files and batches just now; try again"
            raise MillraceError("overloaded", message, retry_after_ms=1000) from None

    async def answer(
        self, address: str, path: str, scope: Scope, receive: Receive, body: bytes | None = None
    ) -> Response:
        """Return what another process answers. `body` is that of the request, if it was read."""
        given = Headers(scope=scope)
        is_sibling = self.siblings is not None and address in self.siblings.others
        headers = {name: given[name] for name in _SENT_ON if name in given}
        headers[HOP] = FROM_SIBLING if is_sibling else FROM_REPLICA
        query = scope["query_string"].decode("latin-1")
        url = f"{address.rstrip('/')}{path}{'?' if query else ''}{query}"
        has_body = given.get("content-length", "0") != "0" or "transfer-encoding" in given
        data: AsyncIterator[bytes] | bytes | None = _received(receive) if has_body else None
        if body is not None:
            headers.pop("content-length", None)  # it may have been compressed
            data = body
        try:
            async with asyncio.timeout(HEAD_S if body is None else None):  # a repeat waits as long as its first
                found = await self._http.request(
                    scope["method"], url, headers=headers, data=data, allow_redirects=False
                )
        except (aiohttp.ClientError, TimeoutError):
            return refusal(_unheard(), scope)
        kept = {name: value for name, value in found.headers.items() if name.lower() not in _OF_A_CONNECTION}
        return StreamingResponse(_body(found), found.status, kept)


def _unheard() -> MillraceError:
    return MillraceError("overloaded", "the replica that has this does not answer; try again", retry_after_ms=1000)


async def _lines(found: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    """Yield whole lines."""
    rest = b""
    async for piece in found.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line


def _finds_redis_away(health: bytes) -> bool:
    try:
        return msgspec.json.decode(health, type=documents.Health).redis == "away"
    except msgspec.DecodeError:  # of another version
        return False


async def _received(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the body of a request, as it comes."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client has gone")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _body(found: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield what comes, as it comes. An end before the end is one here, too."""
    try:
        with suppress(aiohttp.ClientPayloadError):
            async for piece in found.content.iter_any():
                yield piece
    finally:
        found.close()
