"""A line to a server that can be cut, and led to another server: a TCP proxy in this loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Line:
    """Where a client connects to instead. `target` is None where nobody is to answer."""

    def __init__(self, target: str | None) -> None:
        self.target = target
        self.url = ""
        self.made = 0  # connections
        self._ends: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Break all connections as a network does: without a goodbye."""
        for end in tuple(self._ends):
            end.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes both ways until an end is gone."""
        self.made += 1
        self._ends.add(writer)
        try:
            if self.target is None:
                return
            there = urlsplit(self.target)
            far_reader, far_writer = await asyncio.open_connection(there.hostname, there.port)
            self._ends.add(far_writer)
            try:
                ways = (asyncio.create_task(_pump(reader, far_writer)), asyncio.create_task(_pump(far_reader, writer)))
                await asyncio.wait(ways)
            finally:
                far_writer.transport.abort()
                self._ends.discard(far_writer)
        finally:
            writer.transport.abort()
            self._ends.discard(writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def line_to(target: str | None) -> AsyncIterator[Line]:
    """Open a line on a free port; its `url` is what clients are told."""
    line = Line(target)
    server = await asyncio.start_server(line.carry, "127.0.0.1", 0)
    line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
        line.cut()
        await server.wait_closed()
