"""The clients: they send requests, cancel some, leave some, and say how each ended for them."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from typing import Any, Self

import aiohttp

from millrace.errors import MillraceError
from millrace_client import Client
from millrace_client.stream import ConnectionLostError
from tests.accounting.kinds import Ask, Way

CONNECTIONS = 8
PATIENCE_S = 60.0
PING_S = 0.05
UNSENT = "unsent"  # it was cancelled while it waited in the client: the server has never heard of it


class Clients:
    """Some connections to one server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._sockets = [Client(url.replace("http", "ws", 1)) for _ in range(CONNECTIONS)]
        self._stack = AsyncExitStack()
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        for client in self._sockets:
            await self._stack.enter_async_context(client)
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=PATIENCE_S)
        session = aiohttp.ClientSession(self._url, connector=connector, timeout=timeout)
        self._http = await self._stack.enter_async_context(session)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ping_on(self, late: list[tuple[float, float]]) -> None:
        """Ping the server until cancelled; note when each ping was sent (monotonic) and how long it took."""
        async with Client(self._url.replace("http", "ws", 1)) as client:
            while True:
                sent_at = time.monotonic()
                await client.ping()
                late.append((sent_at, time.monotonic() - sent_at))
                await asyncio.sleep(PING_S)

    async def ask(self, ask: Ask) -> str:
        """Send a request; return how it ended: a status, a code, `left`, or `UNSENT`."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                match ask.kind.way:
                    case Way.HTTP:
                        return await self._document(ask)
                    case Way.LEAVE:
                        return await self._left(ask)
                return await self._streamed(ask)
        except TimeoutError:
            return "no end"

    async def _streamed(self, ask: Ask) -> str:
        client = self._sockets[ask.number % CONNECTIONS]
        try:
            async with client.stream(ask.text, tag=ask.tag, **ask.kind.options) as stream:
                if ask.wait_s is not None:
                    asyncio.get_running_loop().call_later(ask.wait_s, stream.cancel)
                with suppress(MillraceError):
                    async for _ in stream:
                        pass
                if stream.response is not None and not stream.response.id:
                    return UNSENT
                return "refused" if stream.response is None else stream.response.status
        except ConnectionLostError:
            return "connection lost"

    async def _document(self, ask: Ask) -> str:
        body = {"input": ask.text, "millrace": {"tag": ask.tag}, **ask.kind.options}
        async with self._http.post("/v1/responses", json=body) as answer:
            document: dict[str, Any] = await answer.json()
            return str(document.get("status", "refused"))

    async def _left(self, ask: Ask) -> str:
        body = {"input": ask.text, "stream": True, "millrace": {"tag": ask.tag}, **ask.kind.options}
        assert ask.wait_s is not None
        with suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(ask.wait_s), self._http.post("/v1/responses", json=body) as answer:
                async for _ in answer.content:
                    pass
                return "completed"
        return "left"
