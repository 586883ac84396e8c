"""Requests that are cancelled or left: what they ask, over which wire, and how their client stops wanting an answer."""

import asyncio
import json
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.fire.target import Target
from tests.support.waiting import PATIENCE_S
from tests.support.wire_client import TERMINALS

Event = dict[str, Any]

MOST_WAIT_S = 0.15  # from a request to its cancel
ACKNOWLEDGED_S = 30.0  # for the terminal of a cancelled request
USER = "ann"  # who has a budget, and so reservations
RST = struct.pack("ii", 1, 0)
_ID = re.compile(rb"resp_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Kind:
    """Where a request is when it is cancelled."""

    name: str
    directives: str
    options: dict[str, Any] = field(default_factory=dict)


KINDS = (
    Kind("before headers", "[ttft=30]"),
    Kind("before headers, silent", "[fault=silent]"),
    Kind("about the first token", "[ttft=0.05] [rate=100] [tokens=800]"),
    Kind("in its text", "[rate=200] [tokens=2000]"),
    Kind("in its reasoning", "[reason=2000] [rate=200] [tokens=5]"),
    Kind("stalled", "[fault=stall@3]"),
    Kind("escalated", "[weak] [tokens.large=2000] [rate.large=200]", {"strategy": "cascade"}),
    Kind("large", "[ttft=0.05] [rate=200] [tokens=2000]", {"strategy": "large"}),
    Kind("raced", "[ttft=0.04] [rate=100] [tokens=800]", {"strategy": "race", "grace_ms": 100}),
    Kind("hedged", "[ttft.small=30] [rate.large=100] [tokens=800]", {"strategy": "hedge", "hedge_ms": 20}),
)


@dataclass(slots=True)
class Cancelled:
    """One question and since when nobody wants its answer. `at` is monotonic."""

    question: int
    kind: str
    way: str
    at: float = 0.0


class Leaver:
    """Asks and stops asking, in ways that chance chooses."""

    def __init__(self, target: Target, random: Random, numbers: Iterator[int], http: aiohttp.ClientSession) -> None:
        self._target = target
        self._random = random
        self._numbers = numbers
        self._http = http
        self.cancelled: list[Cancelled] = []

    async def once(self) -> int:
        """Make some requests and cancel them all; return how many."""
        ways: tuple[Callable[[], Awaitable[list[Cancelled]]], ...] = (
            self._cancel_on_socket,
            self._leave_socket,
            self._leave_http,
            self._cancel_over_http,
            self._abort_chat,
            self._cancel_joined,
        )
        try:
            made = await self._random.choices(ways, (4, 3, 4, 1, 2, 1))[0]()
        except (ConnectionClosed, OSError, TimeoutError, AssertionError) as error:
            self._target.watch.fault(f"a client: {error!r}")
            return 1
        self.cancelled += made
        return len(made)

    def _asked(self, way: str, kind: Kind | None = None) -> tuple[Cancelled, Event]:
        kind = kind or self._random.choice(KINDS)
        number = next(self._numbers)
        options = {"cache": "off", "tag": str(number), **kind.options}
        body = {"input": f"question {number} {kind.directives}", "user": USER, "millrace": options}
        return Cancelled(number, kind.name, way), body

    async def _pause(self) -> None:
        if self._random.random() < 0.8:
            await asyncio.sleep(self._random.uniform(0, MOST_WAIT_S))

    async def _sent(self, client: "Socket", way: str) -> list[Cancelled]:
        """Send one to six requests in lanes, so that some wait for others."""
        made = []
        for _ in range(self._random.randrange(1, 7)):
            one, body = self._asked(way)
            lane = self._random.choice("abc")
            if lane in client.lanes:
                one.kind = "queued"
            client.lanes.setdefault(lane, []).append(one)
            await client.send({"type": "response.create", "stream_id": lane, **body})
            made.append(one)
        return made

    async def _cancel_on_socket(self) -> list[Cancelled]:
        """Cancel each lane, or each response by its id, one after the other."""
        async with Socket.open(self._target, negotiated=self._random.random() < 0.5) as client:
            made = await self._sent(client, "cancel of a lane")
            await self._pause()
            for lane, waiting in client.lanes.items():
                response_id = client.running.get(lane)
                if response_id is not None and len(waiting) == 1:
                    waiting[0].way = "cancel by id"
                    await client.send({"type": "response.cancel", "response_id": response_id})
                else:
                    await client.send({"type": "response.cancel", "stream_id": lane})
                _stamp(waiting)
                if self._random.random() < 0.5:
                    await asyncio.sleep(self._random.uniform(0, 0.02))
            await client.until_all_ended()
        return made

    async def _leave_socket(self) -> list[Cancelled]:
        """Drop a connection on which requests run and wait."""
        way = self._random.choice(("RST", "close", "half a close"))
        async with Socket.open(self._target, negotiated=self._random.random() < 0.5) as client:
            made = await self._sent(client, f"WebSocket, {way}")
            await self._pause()
            connection = client.connection.transport.get_extra_info("socket")
            if way == "close":
                closing = asyncio.create_task(client.connection.close())
                await asyncio.sleep(0)  # it has been sent
                _stamp(made)
                await closing
            elif way == "RST":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
                client.connection.transport.abort()
                _stamp(made)
                await asyncio.sleep(0)
            else:
                client.connection.transport.write_eof()
                _stamp(made)
                await client.connection.wait_closed()
        return made

    async def _leave_http(self) -> list[Cancelled]:
        """Drop a request over HTTP, of any dialect, streamed or whole."""
        way, stream = self._random.choice(("RST", "close", "half a close")), self._random.random() < 0.7
        path = self._random.choice(("responses", "chat/completions", "messages"))
        one, body = self._asked(f"HTTP, {way}")
        async with _posted(self._target, path, _in_dialect(path, body) | {"stream": stream}) as (reader, writer):
            await self._pause()
            connection = writer.get_extra_info("socket")
            if way == "half a close":
                writer.write_eof()
            elif way == "RST":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
                writer.transport.abort()
            else:
                writer.close()
            _stamp([one])
            with suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), ACKNOWLEDGED_S)
        return [one]

    async def _cancel_over_http(self) -> list[Cancelled]:
        """Cancel a streamed response from another connection, by its id."""
        one, body = self._asked("HTTP, POST cancel")
        async with _posted(self._target, "responses", body | {"stream": True}) as (reader, _):
            came = b""
            while (found := _ID.search(came)) is None:
                piece = await asyncio.wait_for(reader.read(4096), ACKNOWLEDGED_S)
                assert piece, "no id came"
                came += piece
            await self._pause()
            _stamp([one])
            async with self._http.post(f"/v1/responses/{found[0].decode()}/cancel") as answer:
                assert answer.status == 200, await answer.text()
            came += await asyncio.wait_for(reader.read(), ACKNOWLEDGED_S)
            assert came.count(b"event: response.incomplete") + came.count(b"event: response.failed") == 1, came[-300:]
        return [one]

    async def _abort_chat(self) -> list[Cancelled]:
        """Abort requests of the AI SDK's chats."""
        made, url = [], f"{self._target.running.ws_url}/v1/chat/ws"
        async with connect(url, compression=None, max_size=None, open_timeout=PATIENCE_S) as connection:
            for at in range(self._random.randrange(1, 4)):
                one, body = self._asked("abort of a chat")
                text = {"id": "m", "role": "user", "parts": [{"type": "text", "text": body.pop("input")}]}
                frame = {"type": "send", "requestId": str(at), "id": f"chat-{one.question}", "messages": [text]}
                await connection.send(json.dumps(frame | {"body": body}))
                made.append(one)
            await self._pause()
            for at, one in enumerate(made):
                await connection.send(json.dumps({"type": "abort", "requestId": str(at)}))
                _stamp([one])
            ended = set[str]()
            async with asyncio.timeout(ACKNOWLEDGED_S):
                while len(ended) < len(made):
                    event = json.loads(await connection.recv())
                    if event["type"] == "end":
                        assert event["requestId"] not in ended, "it ended twice"
                        ended.add(event["requestId"])
        return made

    async def _cancel_joined(self) -> list[Cancelled]:
        """Have some ask the same; the call goes on until the last of them is cancelled."""
        one, body = self._asked("all who joined", KINDS[3])
        body["millrace"] |= {"cache": "on"}
        async with Socket.open(self._target, negotiated=True) as client:
            lanes = ["a", "b", "c"][: self._random.randrange(2, 4)]
            for lane in lanes:
                client.lanes[lane] = [one]
                await client.send({"type": "response.create", "stream_id": lane, **body})
            await self._pause()
            for lane in lanes:
                await client.send({"type": "response.cancel", "stream_id": lane})
                one.at = time.monotonic()
                await asyncio.sleep(self._random.uniform(0, 0.02))
            await client.until_all_ended()
        return [one] * len(lanes)


class Socket:
    """One WebSocket in the Responses mode."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.lanes: dict[str, list[Cancelled]] = {}
        self.running: dict[str, str] = {}  # the response of a lane
        self._ends = 0
        self._changed = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, target: Target, *, negotiated: bool) -> AsyncIterator["Socket"]:
        """Connect."""
        protocols = [Subprotocol("millrace.v1")] if negotiated else None
        url = f"{target.running.ws_url}/v1/responses"
        async with connect(
            url, subprotocols=protocols, compression=None, max_size=None, open_timeout=PATIENCE_S, close_timeout=1
        ) as connection:
            client = cls(connection)
            reading = asyncio.create_task(client._read())
            try:
                yield client
            finally:
                reading.cancel()

    async def send(self, event: Event) -> None:
        await self.connection.send(json.dumps(event))

    async def until_all_ended(self) -> None:
        """Wait for the terminal of each request. Raises `TimeoutError`."""
        async with asyncio.timeout(ACKNOWLEDGED_S):
            while self._ends < sum(map(len, self.lanes.values())):
                self._changed.clear()
                await self._changed.wait()

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            async for message in self.connection:
                event = json.loads(message)
                if event["type"] == "response.created":
                    self.running[event["stream_id"]] = event["response"]["id"]
                elif event["type"] in (*TERMINALS, "error"):
                    self._ends += 1
                    self._changed.set()


@asynccontextmanager
async def _posted(
    target: Target, path: str, body: Event
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Send a request over a connection of its own."""
    host, port = target.running.url.removeprefix("http://").split(":")
    sent = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"POST /v1/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {len(sent)}\r\n\r\n"
        writer.write(head.encode() + sent)
        yield reader, writer
    finally:
        writer.transport.abort()


def _in_dialect(path: str, body: Event) -> Event:
    """Return a request of the Responses API as one of another."""
    if path == "responses":
        return body
    messages = [{"role": "user", "content": body["input"]}]
    return {"messages": messages, "max_tokens": 4000, "millrace": body["millrace"], "model": "auto"} | (
        {"metadata": {"user_id": USER}} if path == "messages" else {"user": USER}
    )


def _stamp(made: list[Cancelled]) -> None:
    """Note that nobody wants these any more."""
    for one in made:
        one.at = time.monotonic()
