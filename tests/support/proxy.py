"""A TCP proxy in this loop: its connections can be cut, and led to another server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Proxy:
    """What a client connects to instead of the server. `target` is None while nothing is to answer."""

    def __init__(self, target: str | None) -> None:
        self.target = target
        self.url = ""
        self.heard: bytearray | None = None  # if it is one, all that the server says is added to it
        self.connections = 0  # until now
        self._ends: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Abort all connections, without a close."""
        for end in tuple(self._ends):
            end.transport.abort()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy bytes both ways until one end is gone."""
        self.connections += 1
        self._ends.add(writer)
        try:
            if self.target is None:
                return
            address = urlsplit(self.target)
            far_reader, far_writer = await asyncio.open_connection(address.hostname, address.port)
            self._ends.add(far_writer)
            try:
                directions = (
                    asyncio.create_task(_copy(reader, far_writer)),
                    asyncio.create_task(_copy(far_reader, writer, self.heard)),
                )
                await asyncio.wait(directions)
            finally:
                far_writer.transport.abort()
                self._ends.discard(far_writer)
        finally:
            writer.transport.abort()
            self._ends.discard(writer)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray | None = None) -> None:
    with suppress(OSError):
        while chunk := await reader.read(65536):
            if heard is not None:
                heard += chunk
            writer.write(chunk)
            await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def proxy_to(target: str | None, port: int = 0) -> AsyncIterator[Proxy]:
    """Open a proxy, on a free port if none is named; clients connect to its `url`."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.relay, "127.0.0.1", port)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()
