"""A TCP proxy in this loop: it leads connections elsewhere, and each direction may have the faults of a bad network."""

import asyncio
import ctypes
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from tests.support.listening import listening

READ_BYTES = KERNEL_BYTES = 65_536
SO_ATTACH_FILTER, BPF_RETURN = 26, 0x06  # of Linux
MOST_SLICES = 1000  # of one read; then the rest goes at once, since each slice takes a turn of the loop
CARRIED_S = 0.01  # that a slice takes where there is little bandwidth
AHEAD = 64  # pieces that are under way in one direction

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Way:
    """One direction, of all connections: what becomes of the bytes that go there. May be changed at any time."""

    def __init__(self) -> None:
        self._flows = asyncio.Event()
        self._calms = 0  # how often it was calmed
        self.calm()

    def calm(self) -> None:
        """Have no fault, from now on."""
        self._calms += 1
        self.latency_s = 0.0  # of each byte
        self.bytes_per_s = 0.0  # 0: as many as come
        self.slice_bytes = READ_BYTES  # that are sent at once
        self._loses = True
        self._left: int | None = None  # bytes that still pass before `_then` is called
        self._then: Callable[[Link], None] = lambda _: None
        self._flows.set()

    def strike(self, after: int, then: "Callable[[Link], None]", *, loses: bool = True) -> None:
        """Do that, once, with the connection on which as many bytes have passed from now on.

        `loses`: what came with the last of them does not pass.
        """
        self._left, self._then, self._loses = after, then, loses

    @property
    def is_due(self) -> bool:
        """Whether a strike is still to come."""
        return self._left is not None

    def struck(self, chunk: bytes) -> "tuple[bytes, Callable[[Link], None] | None]":
        """Return what passes of a chunk, and what happens then."""
        if self._left is None or len(chunk) < self._left or not chunk:
            self._left = None if self._left is None else self._left - len(chunk)
            return chunk, None
        passes, self._left = chunk[: self._left] if self._loses else chunk, None
        then, calms = self._then, self._calms
        return passes, lambda link: then(link) if self._calms == calms else None  # it may have been calmed meanwhile

    def hold(self) -> None:
        """Be a black hole: take no byte and pass none on, with all sockets open."""
        self._flows.clear()

    async def flows(self, reader: asyncio.StreamReader) -> None:
        """Wait while it is a black hole; nothing is read meanwhile, not even into this process."""
        if self._flows.is_set():
            return
        transport: asyncio.ReadTransport = reader._transport  # type: ignore[attr-defined]
        with suppress(RuntimeError):  # it reads no more
            transport.pause_reading()
        await self._flows.wait()
        with suppress(RuntimeError):
            transport.resume_reading()


class Link:
    """One connection through the proxy."""

    def __init__(self, client: Streams, server: Streams) -> None:
        self.client = client
        self.server = server

    def abort(self) -> None:
        """Close both ends at once."""
        for _, writer in (self.client, self.server):
            writer.transport.abort()

    def reset_server(self) -> None:
        """Reset the end at the server (RST), and close the other one."""
        reset(self.server[1])
        self.client[1].close()

    def reset_client(self) -> None:
        """Reset the end at the client (RST), and close the other one."""
        reset(self.client[1])
        self.server[1].close()

    def lose_server(self) -> None:
        """Have the system drop all that the server sends from now on, unacknowledged, as a dead network does."""
        _make_deaf(self.server[1])

    def end_to_server(self) -> None:
        """Send the server a FIN. What it says still gets through."""
        _end(self.server[1])

    def end_to_client(self) -> None:
        """Send the client a FIN. What it says still gets through."""
        _end(self.client[1])


class Proxy:
    """What a client connects to instead of the server. `target` is None while nothing is to answer."""

    def __init__(self, target: str | None) -> None:
        self.target = target
        self.url = ""
        self.heard: bytearray | None = None  # if it is one, all that the server says is added to it
        self.connections = 0  # until now
        self.to_server, self.to_client = Way(), Way()
        self.links: set[Link] = set()

    def calm(self) -> None:
        """Have no fault, from now on."""
        self.to_server.calm()
        self.to_client.calm()

    def cut(self) -> None:
        """Abort all connections, without a close."""
        for link in tuple(self.links):
            link.abort()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy bytes both ways until both ends are gone, or one is lost."""
        self.connections += 1
        if self.target is None:
            writer.transport.abort()
            return
        try:
            server = await _connected(self.target)
        except OSError:
            writer.transport.abort()
            return
        link = Link((reader, writer), server)
        self.links.add(link)
        ways = [
            asyncio.create_task(_copy(link, reader, server[1], self.to_server)),
            asyncio.create_task(_copy(link, server[0], writer, self.to_client, self.heard)),
        ]
        try:
            await asyncio.wait(ways)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            link.abort()
            self.links.discard(link)


async def _connected(target: str) -> Streams:
    """Connect to a server. The system takes little of what is not read here, or a hold would be noticed late."""
    address = urlsplit(target)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (address.hostname, address.port))
    except OSError:
        connection.close()
        raise
    return await asyncio.open_connection(sock=connection)


async def _copy(
    link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way, heard: bytearray | None = None
) -> None:
    """Copy one direction, and its end, be it a FIN or a RST."""
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(AHEAD)
    sending = asyncio.create_task(_send(pieces, writer, way))
    time, chunk = asyncio.get_running_loop().time, b"-"
    try:
        while chunk:
            await way.flows(reader)
            chunk = await reader.read(READ_BYTES)
            await way.flows(reader)
            passes, then = way.struck(chunk)
            if heard is not None:
                heard += passes
            if passes or then is None:
                await pieces.put((time() + way.latency_s, passes))
            if then is not None:
                await pieces.join()
                then(link)
        await sending
    except OSError:
        reset(writer)
    finally:
        sending.cancel()
        await asyncio.wait([sending])


async def _send(pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, way: Way) -> None:
    """Send pieces when they are due; if nobody takes them any more they are dropped. An empty one is the end."""
    time, is_lost = asyncio.get_running_loop().time, False
    while True:
        due, chunk = await pieces.get()
        await asyncio.sleep(max(0.0, due - time()) if way.latency_s else 0)
        if not chunk:
            _end(writer)
            return
        try:
            size = way.slice_bytes
            if way.bytes_per_s:
                size = min(size, max(1, round(way.bytes_per_s * CARRIED_S)))
            starts = [*range(0, 0 if is_lost else len(chunk), size)][:MOST_SLICES]
            for at in starts:
                piece = chunk[at : at + size if at < starts[-1] else None]
                await asyncio.sleep(len(piece) / way.bytes_per_s if way.bytes_per_s else 0)
                writer.write(piece)
                await writer.drain()
        except (OSError, RuntimeError):  # it is closed, at least on this side
            is_lost = True
        pieces.task_done()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a RST, whatever was read or sent."""
    if writer.is_closing():
        return
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _make_deaf(writer: asyncio.StreamWriter) -> None:
    """Have the system drop every segment that comes to a socket: a filter of one instruction, which keeps no byte."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", BPF_RETURN, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(instruction))
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def _end(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, RuntimeError):
        writer.write_eof()


@asynccontextmanager
async def proxy_to(target: str | None, port: int = 0) -> AsyncIterator[Proxy]:
    """Open a proxy, on a free port if none is named; clients connect to its `url`."""
    proxy = Proxy(target)
    async with listening(proxy.relay, port) as url:
        proxy.url = url
        yield proxy
        proxy.cut()
