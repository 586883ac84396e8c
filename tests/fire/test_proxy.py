"""What `tests/support/proxy.py` promises of each fault: else an answer that comes through one would show nothing."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.listening import listening
from tests.support.proxy import Link, Proxy, Way, proxy_to

WORDS = b"twenty words or so. " * 20
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Proxy, Streams, Streams]]:
    """Yield a proxy, and both ends of a connection through it: the client's and the server's."""
    come: asyncio.Queue[Streams] = asyncio.Queue()
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        come.put_nowait((reader, writer))
        await over.wait()
        writer.transport.abort()

    async with listening(serve) as url, proxy_to(url) as proxy:
        client = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        try:
            yield proxy, client, await come.get()
        finally:
            over.set()
            client[1].transport.abort()


def ends(proxy: Proxy, client: Streams, server: Streams, *, up: bool) -> tuple[Way, Streams, Streams]:
    """Return one direction: its faults, who sends, and who reads."""
    return (proxy.to_server, client, server) if up else (proxy.to_client, server, client)


@pytest.mark.parametrize("up", [True, False])
async def test_a_slow_way_is_slow_and_loses_nothing(*, up: bool) -> None:
    async with connected() as (proxy, client, server):
        way, (_, sender), (reader, _) = ends(proxy, client, server, up=up)
        for latency_s, bytes_per_s, least_s in ((0.1, 0.0, 0.09), (0.0, 2000.0, 0.09)):
            way.latency_s, way.bytes_per_s = latency_s, bytes_per_s
            began = time.monotonic()
            sender.write(WORDS + b"!")
            sender.write(WORDS)
            assert await reader.readexactly(2 * len(WORDS) + 1) == WORDS + b"!" + WORDS
            assert time.monotonic() - began >= least_s


@pytest.mark.parametrize("up", [True, False])
async def test_slices_come_one_by_one(*, up: bool) -> None:
    async with connected() as (proxy, client, server):
        way, (_, sender), (reader, _) = ends(proxy, client, server, up=up)
        way.slice_bytes = 1
        sender.write(WORDS)
        pieces = [await reader.read(65_536)]
        while sum(map(len, pieces)) < len(WORDS):
            pieces.append(await reader.read(65_536))
        assert b"".join(pieces) == WORDS
        assert len(pieces) > len(WORDS) / 4  # the system may join some


@pytest.mark.parametrize("up", [True, False])
async def test_nothing_comes_out_of_a_black_hole(*, up: bool) -> None:
    async with connected() as (proxy, client, server):
        way, (_, sender), (reader, _) = ends(proxy, client, server, up=up)
        way.hold()
        sender.write(WORDS)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        way.calm()
        assert await reader.readexactly(len(WORDS)) == WORDS


@pytest.mark.parametrize(("reset", "up"), [(Link.reset_server, True), (Link.reset_client, False)])
async def test_a_reset_is_a_reset_for_one_end(reset: Callable[[Link], None], *, up: bool) -> None:
    async with connected() as (proxy, client, server):
        way, (_, sender), (reader, _) = ends(proxy, client, server, up=up)
        way.strike(5, reset)
        sender.write(WORDS)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(6)
        assert not way.is_due
        assert await (client if up else server)[0].read() == b""


@pytest.mark.parametrize(("end", "up"), [(Link.end_to_server, True), (Link.end_to_client, False)])
async def test_a_half_close_leaves_the_other_way_open(end: Callable[[Link], None], *, up: bool) -> None:
    async with connected() as (proxy, client, server):
        _, (other, _), (reader, answers) = ends(proxy, client, server, up=up)
        (link,) = proxy.links
        end(link)
        assert await reader.read() == b""
        answers.write(WORDS)
        assert await other.readexactly(len(WORDS)) == WORDS
