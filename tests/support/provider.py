"""A provider that sends exactly the bytes of a script, and the upstream that calls it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import orjson

from millrace.types import Call, Finish, Message, Model, Price, Prompt, Tier
from millrace.upstreams.attempt import HttpAttempt, HttpUpstream
from millrace.upstreams.chat.api import CHAT
from millrace.upstreams.connections import Connections
from millrace.upstreams.endpoint import UpstreamEndpoint
from millrace.upstreams.provider_api import ProviderApi
from tests.support.waiting import PATIENCE_S

PRICE = Price(input=Decimal(1), output=Decimal(1))
MODEL = Model(tier=Tier.SMALL, id="m", address="", price=PRICE, context_window=1000, max_output_tokens=100)
CALL = Call(model=MODEL, prompt=Prompt(messages=(Message(role="user", parts=("Hi",)),)))
PATIENCE: dict[str, Any] = {"connect_timeout_s": 5.0, "first_token_timeout_s": 60.0, "stall_timeout_s": 30.0}


def event(content: str | None = None, finish: str | None = None, **fields: Any) -> bytes:
    """Return one event of a stream, as it is on the wire."""
    choice = {"delta": {"content": content} if content is not None else {}, "finish_reason": finish}
    return b"data: " + orjson.dumps({"choices": [choice], **fields}) + b"\n\n"


def body(*events: bytes) -> bytes:
    """Return a piece of a chunked body."""
    data = b"".join(events)
    return b"%x\r\n%s\r\n" % (len(data), data)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DONE, END = b"data: [DONE]\n\n", b"0\r\n\r\n"


class Provider:
    """A server that does exactly what a script says, and the upstream that calls it."""

    def __init__(self, script: "Script") -> None:
        self.script = script
        self.requests: list[tuple[str, Any]] = []  # head, body
        self.lines: list[asyncio.StreamWriter] = []
        self.left_at: float | None = None  # when its client was seen to have closed
        self.now = 100.0  # the upstream's clock
        self.upstream: HttpUpstream

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lines.append(writer)
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length:")[2].split()[0])
                self.requests.append((head, json.loads(await reader.readexactly(length))))
                await self.script(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left_at = asyncio.get_running_loop().time()
        finally:
            writer.close()


Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(script: Script) -> AsyncIterator[tuple[Provider, str]]:
    """Run a provider of this script on a free port; yield it and its URL."""
    provider = Provider(script)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    try:
        yield provider, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/"
    finally:
        server.close()
        for line in provider.lines:
            line.close()


@asynccontextmanager
async def scripted_provider(
    script: Script, *, key: str | None = None, api: ProviderApi = CHAT
) -> AsyncIterator[Provider]:
    async with listening(script) as (provider, url), Connections() as connections, asyncio.timeout(PATIENCE_S):
        endpoint = UpstreamEndpoint(base_url=url, api_key=key, **PATIENCE)
        provider.upstream = HttpUpstream(api, connections, endpoint, lambda: provider.now, wall=lambda: 0.0)
        yield provider


def one_after_another(*scripts: Script) -> Script:
    """Return a script that answers each request by the next of these, and all further ones by the last."""
    left = [*scripts]

    async def script(writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(writer)

    return script


def refusal(status: int, said: Any = None, **headers: str) -> bytes:
    """Return an HTTP error, whose body is an error object, or empty."""
    data = b"" if said is None else orjson.dumps({"error": said})
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} No\r\n{lines}Content-Length: {len(data)}\r\n\r\n".encode() + data


def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def stay(_: asyncio.StreamWriter) -> None:
    """Keep the connection open."""


def says(*pieces: bytes, then: Callable[[asyncio.StreamWriter], None] = close) -> Script:
    """Return a script that writes these pieces, each so that it can be read alone."""

    async def script(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        then(writer)

    return script


async def answer(script: Script, call: Call = CALL, api: ProviderApi = CHAT) -> tuple[HttpAttempt, Finish]:
    """Return a call to a provider of this script, read to its end, and how it ended."""
    async with scripted_provider(script, api=api) as provider:
        attempt = provider.upstream.open(call)
        try:
            return attempt, await attempt.done
        finally:
            attempt.abort()
            await asyncio.wait([attempt.task])
