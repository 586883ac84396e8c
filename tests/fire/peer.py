"""A client of one request that reads bytes, and can be left, cut off or silenced at any of them."""

import asyncio
import json
import struct
from contextlib import suppress
from urllib.parse import urlsplit

from tests.fire.talk import PATHS, Fields
from tests.support.raw_http import UPGRADE


class Peer:
    """One connection with one request on it, which reads on until it is told to stop, or to its end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.deltas = 0  # that it has read, about
        self.has_ended = asyncio.Event()  # the other end has closed, or the connection is lost
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        """Read to the end, and close then, as clients do."""
        with suppress(OSError):
            while chunk := await self._reader.read(65_536):
                self.deltas += chunk.count(b'"delta":')
        self.has_ended.set()
        self.writer.close()

    def stop_reading(self) -> None:
        """Read no more; what comes fills the socket."""
        self._reading.cancel()

    def ping(self, times: int) -> None:
        """Send frames of a WebSocket that ask for an answer."""
        for number in range(times):
            self.writer.write(masked({"type": "millrace.ping", "t": number}))

    async def close(self) -> None:
        """Drop the connection."""
        self._reading.cancel()
        self.writer.transport.abort()
        await asyncio.gather(self._reading, return_exceptions=True)


async def ask(url: str, door: str, body: Fields) -> Peer:
    """Connect through `url` and ask at a door: websocket, responses, whole (the same without a stream) or messages."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    if door == "websocket":
        upgrade = UPGRADE.format(host="localhost").replace(
            "\r\n\r\n", "\r\nSec-WebSocket-Protocol: millrace.v1\r\n\r\n"
        )
        writer.write(upgrade.encode())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(masked({"type": "response.create"} | body))
    else:
        data = json.dumps(body).encode()
        path = PATHS.get(door, PATHS["responses"])
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
    return Peer(reader, writer)


def masked(frame: Fields) -> bytes:
    """Return a text frame of a client, whose mask is zero."""
    payload = json.dumps(frame).encode()
    return b"\x81\xfe" + struct.pack("!H", len(payload)) + bytes(4) + payload
