"""A WebSocket client that reads only when asked to, on a socket with a small receive buffer."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.raw_http import UPGRADE
from tests.support.waiting import PATIENCE_S
from tests.support.wire_client import Event

SMALL_BUFFER = 4096


class SlowClient:
    """One connection, framed by hand; nothing is read unless a method reads it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def create(self, input: str, **fields: Any) -> None:  # noqa: A002
        self.send({"type": "response.create", "model": "small", "input": input, **fields})

    def send(self, frame: Event) -> None:
        payload = json.dumps(frame).encode()
        self.writer.write(b"\x81\xfe" + struct.pack("!H", len(payload)) + bytes(4) + payload)

    async def next(self) -> Event | int:
        """Return the next event, or the code with which the server closes."""
        event = await self._next()
        return event[0] if isinstance(event, tuple) else event

    async def closed(self) -> tuple[int, str]:
        """Return the code with which the server closes, and its reason."""
        while not isinstance(event := await self._next(), tuple):
            pass
        return event

    async def _next(self) -> Event | tuple[int, str]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                first, length = await self.reader.readexactly(2)
                if length >= 126:
                    size = 2 if length == 126 else 8
                    length = int.from_bytes(await self.reader.readexactly(size))
                payload = await self.reader.readexactly(length)
                if first & 0x0F == 8:
                    return int.from_bytes(payload[:2]), payload[2:].decode()
                if first & 0x0F == 1:
                    event: Event = json.loads(payload)
                    return event

    async def rest(self) -> list[Event | int]:
        """Return everything up to the close."""
        events = [await self.next()]
        while not isinstance(events[-1], int):
            events.append(await self.next())
        return events


@asynccontextmanager
async def slow_client(url: str, head: str = UPGRADE, early: bytes = b"") -> AsyncIterator[SlowClient]:
    """Connect and read no more than the head of the answer; `early` is sent in one piece with the own head."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    try:
        writer.write(head.format(host=f"{host}:{port}").encode() + early)
        await reader.readuntil(b"\r\n\r\n")
        yield SlowClient(reader, writer)
    finally:
        writer.transport.abort()
