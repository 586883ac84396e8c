"""A provider that answers the question "stream N" with stream N, cut into writes at random."""

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random

from tests.grammar.stream import Stream

_NUMBER = re.compile(rb"stream (\d+)")


class Provider:
    """A server on a free port. `asked` counts the requests for each stream."""

    def __init__(self, streams: Mapping[int, Stream], seed: int) -> None:
        self.url = ""
        self.asked: dict[int, int] = {}
        self._streams = streams
        self._random = Random(seed)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1]) if length else 0)
                (number,) = {*map(int, _NUMBER.findall(json.dumps(json.loads(body)["messages"][-1]).encode()))}
                self.asked[number] = self.asked.get(number, 0) + 1
                stream = self._streams[number]
                await self._write(writer, stream.response)
                if stream.resets:
                    if stream.broken == "cut" and self._random.random() < 0.5:
                        line = writer.get_extra_info("socket")
                        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        writer.transport.abort()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _write(self, writer: asyncio.StreamWriter, response: bytes) -> None:
        at = 0
        while at < len(response):
            size = self._random.choice([1, 20, 300, 10_000])
            writer.write(response[at : at + size])
            at += size
            await asyncio.sleep(0)
        await writer.drain()


@asynccontextmanager
async def providing(streams: Mapping[int, Stream], seed: int) -> AsyncIterator[Provider]:
    """Run a provider of these streams."""
    provider = Provider(streams, seed)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield provider
    finally:
        server.close()
