"""A peer that dies is noticed at once, also when its socket was full and the server had stopped reading from it."""

import asyncio
import gc
import socket
import struct
import weakref

import pytest

from tests.support.server import Running, Start, paused_at
from tests.support.slow_client import SlowClient, slow_client
from tests.support.waiting import until, within
from tests.web.test_slow_clients import FLOOD, with_

SOON_S = 1.0  # PROTOCOL.md promises 250 ms; a test takes longer to run


def reset(peer: SlowClient) -> None:
    """Send an RST, as a host does whose process is killed with unread data."""
    connection = peer.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.writer.transport.abort()


def half_close(peer: SlowClient) -> None:
    peer.writer.write_eof()


@pytest.mark.parametrize("frames", [0, 40, 200])
@pytest.mark.parametrize("die", [reset, half_close])
async def test_a_peer_that_dies_with_its_socket_full_lets_its_model_go(start: Start, frames: int, die: object) -> None:
    """Whether or not frames of it wait to be read."""
    async with start(with_()) as running, slow_client(running.url) as peer:
        peer.create(FLOOD)
        await paused_at(running)
        for number in range(frames):
            peer.send({"type": "millrace.ping", "t": number})
        await peer.writer.drain()
        await asyncio.sleep(0.2)  # they arrive
        assert callable(die)
        die(peer)
        async with within(SOON_S):
            await until(lambda: running.small.stats.running == 0)
        await until(lambda: not running.connections)


async def test_nothing_of_a_connection_that_was_reset_is_kept(millrace: Running) -> None:
    """Not even until its client would have had to ask again."""
    host, port = millrace.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"}")
    (protocol,) = map(weakref.ref, millrace.connections)
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
    await until(lambda: not millrace.connections)
    gc.collect()
    assert protocol() is None
