"""Peers that do harm: half-open and dripping handshakes, floods of pings, fragments without end, what is no text.

`MILLRACE_ABUSE=2000` opens that many half-open connections instead of some hundred.
"""

import asyncio
import json
import os
import struct
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from millrace.web import http1
from millrace.web.websocket import MAX_FRAGMENTS, BatchingWebSocket
from millrace.wire import limits
from millrace.wire.limits import CloseCode
from tests.support.bytes_on_the_wire import BINARY, CLOSE, CONTINUED, FIN, PING, PONG, RSV1, TEXT, frame
from tests.support.logs import no_warnings_logged
from tests.support.raw_http import UPGRADE
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S, turns, until, within
from tests.support.wire_client import check_response, wire_client

HALF_OPEN = int(os.environ.get("MILLRACE_ABUSE", "200"))
SOON_S = 0.3

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def wire(url: str, sent: str | bytes = b"") -> AsyncIterator[Wire]:
    """Open a TCP connection and send this first."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(sent.encode() if isinstance(sent, str) else sent)
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def upgraded(url: str) -> AsyncIterator[Wire]:
    """Open a WebSocket by hand."""
    async with wire(url, UPGRADE.format(host=url.removeprefix("http://"))) as (reader, writer):
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        yield reader, writer


async def close_code(reader: asyncio.StreamReader, within_s: float = PATIENCE_S) -> int:
    """Return the code with which the server closes; control frames and short texts may come before."""
    async with asyncio.timeout(within_s):
        while True:
            first, length = await reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await reader.readexactly(2))
            payload = await reader.readexactly(length)
            if first & 0x0F == 8:
                code: int = struct.unpack("!H", payload[:2])[0]
                return code


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Return what came until the server closed or dropped the connection."""
    came = b""
    async with asyncio.timeout(PATIENCE_S):
        try:
            while piece := await reader.read(65_536):
                came += piece
        except ConnectionResetError:
            pass
    return came


@pytest.fixture
async def hasty(start: Start) -> AsyncIterator[Running]:
    """A server that waits for nobody."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"] |= {"handshake_timeout_s": SOON_S, "stuck_s": SOON_S}

    async with start(change) as running:
        yield running


async def drip(writer: asyncio.StreamWriter, text: bytes) -> None:
    """Send a byte now and then."""
    try:
        for byte in text:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(SOON_S / 20)
    except ConnectionError:
        pass


ANSWERED = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = "POST /v1/tickets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000\r\n\r\n"


@pytest.mark.parametrize("before", ["", "GET /healthz HTT", ANSWERED, POST, ANSWERED + "GET /he"])
@pytest.mark.parametrize("dripping", [True, False])
async def test_a_request_that_does_not_come_across_is_dropped(hasty: Running, before: str, *, dripping: bool) -> None:
    """Silent or dripping; before the first request, within a head, between two requests, within a body."""
    async with wire(hasty.url, before) as (reader, writer):
        started = time.monotonic()
        dripped = asyncio.create_task(drip(writer, b"x" * 10_000)) if dripping else None
        async with within(SOON_S * 10):
            await ended(reader)
        assert time.monotonic() - started > SOON_S * 0.9
        if dripped is not None:
            dripped.cancel()
            await asyncio.wait([dripped])
    await until(lambda: not hasty.connections)


async def test_an_upgraded_connection_is_not_timed(start: Start) -> None:
    """It may be silent for as long as it answers pings."""
    handshake_s = 1.0
    async with (
        start(lambda configuration: configuration["server"].update(handshake_timeout_s=handshake_s)) as running,
        wire_client(running.ws_url) as client,
    ):
        await asyncio.sleep(handshake_s * 1.5)
        check_response(await client.ask("hello"))


async def test_half_open_connections_do_not_hurt_others(start: Start) -> None:
    """Others still get in and are answered while they hang; nothing of them is left when they go."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["handshake_timeout_s"] = PATIENCE_S

    async with start(change) as running:
        host, port = running.url.removeprefix("http://").split(":")
        hanging = [await asyncio.open_connection(host, int(port)) for _ in range(HALF_OPEN)]
        for _, writer in hanging:
            writer.write(b"GET /v1/responses HTTP/1.1\r\nHost: ")
        await until(lambda: len(running.connections) >= HALF_OPEN)
        for _ in range(5):
            async with wire_client(running.ws_url) as client:
                check_response(await client.ask("hello", millrace={"cache": "off"}))
        assert len(running.connections) >= HALF_OPEN
        for _, writer in hanging:
            writer.transport.abort()
        await until(lambda: not running.connections)


async def test_a_flood_of_connections_is_cut_off(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past what may be open, and what may be on its way, new ones are dropped."""
    monkeypatch.setattr(http1, "HALF_OPEN", 10)

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["max_connections"] = 10

    async with start(change) as running:
        host, port = running.url.removeprefix("http://").split(":")
        hanging = [await asyncio.open_connection(host, int(port)) for _ in range(40)]
        await until(lambda: len(running.connections) == 20)
        for _, writer in hanging:
            writer.transport.abort()
        await until(lambda: not running.connections)


async def test_no_more_connections_than_configured(start: Start) -> None:
    """503 with a time to come back, before the upgrade, and no news for the log; one that ends makes room."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["max_connections"] = 1

    async with start(change) as running, no_warnings_logged():
        head = UPGRADE.format(host=running.url.removeprefix("http://"))
        async with upgraded(running.url), wire(running.url, head) as (reader, _):
            refused = await ended(reader)
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1\r\n" in refused
            assert json.loads(refused.partition(b"\r\n\r\n")[2])["error"]["code"] == "overloaded"
        await until(lambda: not running.connections)
        async with wire_client(running.ws_url) as client:
            check_response(await client.ask("hello"))


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/nothing"])
@pytest.mark.parametrize("end", [BatchingWebSocket.shutdown, lambda connection: connection.transport.close()])
async def test_an_upgrade_that_nobody_waits_for_any_more_is_no_news(
    millrace: Running, monkeypatch: pytest.MonkeyPatch, path: str, end: Callable[[BatchingWebSocket], None]
) -> None:
    """Whether it would be accepted or refused: its connection ends just before, with the server or by itself."""
    connect = BatchingWebSocket.handle_connect

    def handle_connect(connection: BatchingWebSocket, event: Any) -> None:
        connect(connection, event)
        end(connection)

    monkeypatch.setattr(BatchingWebSocket, "handle_connect", handle_connect)
    head = UPGRADE.format(host="localhost").replace("/v1/responses", path)
    async with no_warnings_logged():
        async with wire(millrace.url, head.encode() + frame(CLOSE, b"\x03\xe8")) as (reader, _):
            assert b" 101 " not in await ended(reader)
        await until(lambda: not millrace.connections)


async def test_an_endless_head_is_refused(millrace: Running) -> None:
    """400; and it is not kept while it comes."""
    async with wire(millrace.url, "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 100_000) as (reader, _):
        assert (await ended(reader)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("odd", "status"),
    [
        (("", "Content-Length: 5"), 400),
        (("", "Transfer-Encoding: chunked"), 400),
        (("", "Sec-WebSocket-Protocol: " + ", ".join(["millrace.v1"] * 1000)), 431),
        (("", "\r\n".join(["X: y"] * 200)), 431),
        (("?" + "x" * 10_000, "X: y"), 414),
    ],
    ids=["a body", "chunks", "subprotocols", "headers", "target"],
)
async def test_an_upgrade_that_cannot_be_read_is_answered_and_closed(
    millrace: Running, odd: tuple[str, str], status: int
) -> None:
    """What passes as HTTP, and not as a request for a WebSocket: else nobody would time it."""
    query, header = odd
    head = UPGRADE.format(host="localhost").replace("/v1/responses", f"/v1/responses{query}")
    async with wire(millrace.url, head.replace("\r\n\r\n", f"\r\n{header}\r\n\r\nhello")) as (reader, _):
        came = await ended(reader)
    assert came.startswith(f"HTTP/1.1 {status} ".encode())
    assert came.count(b"HTTP/1.1 ") == 1
    await until(lambda: not millrace.connections)


async def test_chunks_of_single_bytes_do_not_stop_others(millrace: Running) -> None:
    """Parsing a read of them takes half a second; what nobody reads any more, because it was refused, is parsed too."""
    head = "DELETE /v1/responses/none HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    worst_s, beats = 0.0, 0

    async def beat() -> None:
        nonlocal worst_s, beats
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.005)
            worst_s, beats = max(worst_s, time.thread_time() - before), beats + 1

    beating = asyncio.create_task(beat())
    async with wire(millrace.url, head.encode() + b"1\r\nx\r\n" * 40_000) as (reader, _):
        assert b" 404 " in await reader.readuntil(b"\r\n\r\n")
        seen = beats
        await until(lambda: beats >= seen + 20)
    beating.cancel()
    assert worst_s < 0.1  # of CPU time


async def test_a_body_too_long_is_refused_early(millrace: Running) -> None:
    """413, in the words of an SDK."""
    body = b" " * 100_000
    head = f"POST /v1/tickets HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    async with wire(millrace.url, head.encode() + body) as (reader, _):
        came = await ended(reader)
    assert came.startswith(b"HTTP/1.1 413 ")
    assert json.loads(came.partition(b"\r\n\r\n")[2])["error"]["code"] == "message_too_big"


@pytest.mark.parametrize("path", ["/v1/responses", "/healthz", "/"])
async def test_a_body_with_two_lengths_is_refused_and_nothing_after_it_is_read(millrace: Running, path: str) -> None:
    """A proxy that goes by the other length would take a part of the body for a request, or a request for the body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    smuggled = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with wire(millrace.url, head + smuggled) as (reader, _):
        came = await ended(reader)
    assert came.startswith(b"HTTP/1.1 400 ")
    assert came.count(b"HTTP/1.1 ") == 1
    assert b"Transfer-Encoding" in came


async def test_a_client_that_leaves_in_its_body_is_no_news(millrace: Running) -> None:
    """Nor is it an error of the endpoint that reads it."""
    async with no_warnings_logged():
        async with wire(millrace.url, POST + "{"):
            await until(lambda: len(millrace.connections) == 1)
        await until(lambda: not millrace.connections)
        await until(lambda: all("tickets" not in str(task.get_coro()) for task in asyncio.all_tasks()))


@pytest.mark.parametrize("kind", [PING, PONG])
async def test_a_flood_of_pings_or_pongs_is_abuse(millrace: Running, kind: int) -> None:
    """1008 after a thousand within ten seconds; until then they are answered."""
    async with upgraded(millrace.url) as (reader, writer):
        writer.write(frame(kind, b"") * (limits.MAX_REFUSED - 1))
        await turns(50)
        (connection,) = millrace.connections
        assert not connection.close_sent
        writer.write(frame(kind, b"") * 50_000)
        assert await close_code(reader) == CloseCode.POLICY


async def test_a_ping_flood_piles_nothing_up(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that sends pings and reads no pong: what waits for it stays under the high water."""
    monkeypatch.setattr(limits, "MAX_REFUSED", 10**9)
    async with upgraded(millrace.url) as (_, writer):
        (connection,) = millrace.connections
        flood = frame(PING, b"x" * 125) * 1000
        most, sent = 0, 0
        async with asyncio.timeout(PATIENCE_S):
            while sent < 4 * 2**20:
                writer.write(flood)
                await writer.drain()
                sent += len(flood)
                most = max(most, connection.transport.get_write_buffer_size())
        assert limits.SOCKET_BYTES <= most < 2 * limits.SOCKET_BYTES  # it was full, and no more was put into it


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"\xab\x00", bits=FIN | RSV1), 1002),
        (frame(TEXT, b"\xff\xfe"), 1007),
        (frame(TEXT, b"\xe2\x82", bits=0) + frame(CONTINUED, b"\x28"), 1007),
        (frame(BINARY, b"{}"), 1003),
        (frame(CONTINUED, b"x"), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(3, b"x"), 1002),
        (b"\x81\x02{}", 1002),  # not masked
        (b"\x81\xff" + (2**62).to_bytes(8) + bytes(4), 1009),
    ],
    ids=["compressed", "not-utf8", "cut-utf8", "binary", "continued", "long-ping", "opcode", "unmasked", "huge"],
)
async def test_what_is_not_the_wire_closes_with_its_code(millrace: Running, sent: bytes, code: int) -> None:
    """And is no news."""
    async with no_warnings_logged():
        async with upgraded(millrace.url) as (reader, writer):
            writer.write(sent)
            assert await close_code(reader) == code
        await until(lambda: not millrace.connections)


async def test_a_character_may_be_parted_between_fragments(millrace: Running) -> None:
    """UTF-8 is judged when the message is whole."""
    create = '{"type": "response.create", "input": "Grüße"}'.encode()
    async with upgraded(millrace.url) as (reader, writer):
        pieces = [create[at : at + 1] for at in range(len(create))]
        frames = [frame(CONTINUED, piece, bits=0) for piece in pieces[1:-1]]
        writer.write(frame(TEXT, pieces[0], bits=0) + b"".join(frames) + frame(CONTINUED, pieces[-1]))
        assert b'"response.created"' in await reader.readuntil(b"response.created" + b'"')


@pytest.mark.parametrize("piece", [b"", b"x", b"x" * 125], ids=["empty", "a-byte", "more"])
async def test_a_million_fragments_end_in_1009(millrace: Running, piece: bytes) -> None:
    """Empty ones never reach a size limit, so their number is one too; memory stays where it was."""
    burst = frame(CONTINUED, piece, bits=0) * 10_000
    async with upgraded(millrace.url) as (reader, writer):
        writer.write(frame(TEXT, b"{", bits=0))
        tracemalloc.start()
        try:
            # It reads them in its share of the time alone, and what it allocates is traced.
            closing = asyncio.create_task(close_code(reader, within_s=150))
            sent = 1
            while not closing.done() and sent < 1_000_000:
                writer.write(burst)
                sent += 10_000
                try:
                    await writer.drain()
                except ConnectionError:
                    break
            assert await closing == 1009
            assert sent < 1_000_000
            assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
        finally:
            tracemalloc.stop()
    assert MAX_FRAGMENTS < 1_000_000
