"""A WebSocket client that keeps every frame to the byte."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.support.server import Running
from tests.support.waiting import PATIENCE_S
from tests.support.wire_client import TERMINALS, Event


class ByteClient:
    """One connection; its frames are returned as they came."""

    def __init__(self, connection: ClientConnection, epoch: str) -> None:
        self.connection = connection
        self.epoch = epoch

    async def send(self, kind: str, **fields: Any) -> None:
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def create(self, asked: str, millrace: Event | None = None, **fields: Any) -> None:
        options = {"on_disconnect": "detach", "cache": "off", **(millrace or {})}
        await self.send("response.create", input=asked, millrace=options, **fields)

    async def resume(self, response_id: str, after: int = -1, epoch: str | None = None) -> None:
        await self.send("millrace.resume", response_id=response_id, after=after, epoch=epoch or self.epoch)

    async def frame(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            frame = await self.connection.recv()
            assert isinstance(frame, str)
            return frame

    async def event(self) -> Event:
        event: Event = json.loads(await self.frame())
        return event

    async def to_the_end(self) -> list[str]:
        """Return the frames up to a terminal or an error."""
        frames = [await self.frame()]
        while not is_last(frames[-1]):
            frames.append(await self.frame())
        return frames

    async def rest(self, response_id: str, after: int, *, ended: bool = False) -> list[str]:
        """Return what was missed, and prove that nothing follows; `ended`: the terminal was seen."""
        await self.resume(response_id, after)
        frames: list[str] = []
        if not ended:
            frames = await self.to_the_end()
        await self.send("millrace.ping", t="over")
        while (frame := json.loads(last := await self.frame()))["type"] != "millrace.pong":
            frames.append(last)
            assert frame["type"] == "millrace.resumed", frame
        if frames and (resumed := json.loads(frames[0]))["type"] == "millrace.resumed":
            assert (resumed["from"], resumed["gap"]) == (after + 1, False)
            del frames[0]
        return frames

    def cut(self) -> None:
        """Abort the connection, without a close."""
        self.connection.transport.abort()


@asynccontextmanager
async def byte_client(running: Running, *, negotiated: bool, **options: Any) -> AsyncIterator[ByteClient]:
    """Connect. A plain client learns the epoch where it can."""
    subprotocols = [Subprotocol("millrace.v1")] if negotiated else None
    url = f"{running.ws_url}/v1/responses"
    options = {"subprotocols": subprotocols, "compression": None, "open_timeout": PATIENCE_S} | options
    async with connect(url, **options) as connection:
        if negotiated:
            hello = json.loads(await connection.recv())
            yield ByteClient(connection, hello["epoch"])
            return
        async with aiohttp.ClientSession() as http, http.get(f"{running.url}/healthz") as health:
            epoch = (await health.json())["epoch"]
        yield ByteClient(connection, epoch)


def is_last(frame: str) -> bool:
    return frame.startswith(('{"type":"error"', *(f'{{"type":"{kind}"' for kind in TERMINALS)))
