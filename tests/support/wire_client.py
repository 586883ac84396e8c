"""A WebSocket client without an SDK: sends JSON and checks every event against the published contract."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.support import frames
from tests.support.waiting import PATIENCE_S

Event = dict[str, Any]
TERMINALS = ("response.completed", "response.failed", "response.incomplete")


class WireClient:
    """One connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, frame: str | bytes | Event) -> None:
        await self.connection.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    async def create(self, input: Any, **fields: Any) -> None:  # noqa: A002
        await self.send({"type": "response.create", "input": input, **fields})

    async def next(self) -> Event:
        async with asyncio.timeout(PATIENCE_S):
            event: Event = json.loads(await self.connection.recv())
            frames.validate(event, "sent")
            return event

    async def until(self, *types: str) -> list[Event]:
        """Return the events up to the first of one of these types."""
        events = [await self.next()]
        while events[-1]["type"] not in types:
            events.append(await self.next())
        return events

    async def ask(self, input: Any, **fields: Any) -> list[Event]:  # noqa: A002
        """Return all events of one request."""
        await self.create(input, **fields)
        return await self.until(*TERMINALS, "error")


@asynccontextmanager
async def wire_client(url: str, *, negotiated: bool = False, **options: Any) -> AsyncIterator[WireClient]:
    """Connect; a negotiated client has read its `millrace.hello`."""
    subprotocols = [Subprotocol("millrace.v1")] if negotiated else None
    options = {"subprotocols": subprotocols, "compression": None, "open_timeout": PATIENCE_S} | options
    async with connect(f"{url}/v1/responses", **options) as connection:
        client = WireClient(connection)
        if negotiated:
            assert (await client.next())["type"] == "millrace.hello"
        yield client


async def round_trips(client: WireClient, seconds: float, *, every_s: float = 0.01) -> list[float]:
    """Return how long pongs take in seconds, ping after ping."""
    found: list[float] = []
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        began = time.monotonic()
        await client.send({"type": "millrace.ping", "t": len(found)})
        await client.until("millrace.pong")
        found.append(time.monotonic() - began)
        await asyncio.sleep(every_s)
    return found


def small_buffer_socket(url: str) -> socket.socket:
    """Return a connected socket with a small receive buffer: the server soon sees that it is not read."""
    parts = urlsplit(url)
    connected = socket.socket()
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    connected.connect((parts.hostname, parts.port))
    return connected


def text_of(events: list[Event]) -> str:
    """Return the text of the deltas, after the revises."""
    deltas: list[Event] = []
    for event in events:
        if event["type"] == "response.output_text.delta":
            deltas.append(event)
        elif event["type"] == "millrace.revise":
            deltas = [delta for delta in deltas if delta["sequence_number"] <= event["keep_through"]]
    return "".join(delta["delta"] for delta in deltas)


def output_of(response: Event) -> str:
    """Return the text of a terminal's output."""
    messages = [item for item in response["output"] if item["type"] == "message"]
    return "".join(part["text"] for item in messages for part in item["content"] if part["type"] == "output_text")


def check_response(events: list[Event], *, negotiated: bool = False) -> Event:
    """Assert what always holds of one response's events; return its terminal's response."""
    types = [event["type"] for event in events]
    assert types[:2] == ["response.created", "response.in_progress"]
    assert sum(kind in TERMINALS for kind in types) == 1
    assert types[-1] in TERMINALS
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    response: Event = events[-1]["response"]
    assert text_of(events) == output_of(response)
    for event in events:
        if event["type"] == "response.output_text.done":
            assert event["text"] == text_of(events)
    if not negotiated:
        assert not any(kind.startswith("millrace.") for kind in types)
    usage = response["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["cost_usd"] >= 0
    assert abs(sum(attempt["cost_usd"] for attempt in usage["attempts"]) - usage["cost_usd"]) < 1e-9
    assert not any(attempt["outcome"] == "running" for attempt in usage["attempts"])
    return response
