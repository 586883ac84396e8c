"""Messages that come in part: they have a deadline, which is later the more has come; what is not read costs none."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace.web import flood
from millrace.wire import limits
from tests.support.bytes_on_the_wire import CONTINUED, PING, TEXT, frame
from tests.support.clock import FreeClock
from tests.support.raw_http import UPGRADE
from tests.support.server import Running, Start, process_of
from tests.support.slow_client import SlowClient, slow_client
from tests.support.waiting import PATIENCE_S, until, within
from tests.support.wire_client import TERMINALS, check_response, wire_client

STUCK_S = 0.5
EVERY_S = 0.05


@pytest.fixture
async def impatient(start: Start, free_clock: FreeClock) -> AsyncIterator[Running]:
    """A server that waits half a second for what is stuck, in which it can work."""
    async with start(lambda configuration: configuration["server"].update(stuck_s=STUCK_S)) as running:
        yield running


async def drip(client: SlowClient, pieces: list[bytes]) -> None:
    """Send a piece now and then, until the connection is gone."""
    try:
        for piece in pieces:
            client.writer.write(piece)
            await client.writer.drain()
            await asyncio.sleep(EVERY_S)
    except ConnectionError:
        pass


LONG_HEADER = bytes((0x81, 0xFF)) + (2**20).to_bytes(8) + bytes(4)
SLOW: dict[str, list[bytes]] = {
    "silent in a header": [b"\x81"],
    "silent in a frame": [LONG_HEADER + b"x"],
    "silent after a header": [LONG_HEADER],
    "silent in a message": [frame(TEXT, b"x", bits=0)],
    "silent after an empty fragment": [frame(TEXT, b"", bits=0)],
    "dripping a header": [LONG_HEADER[at : at + 1] for at in range(3)],
    "dripping a frame": [LONG_HEADER, *[b"x"] * 10_000],
    "dripping fragments": [frame(TEXT, b"x", bits=0), *[frame(CONTINUED, b"x", bits=0)] * 10_000],
    "with pings between fragments": [frame(TEXT, b"x", bits=0), *[frame(PING)] * 10_000],
}


@pytest.mark.parametrize("kind", SLOW)
async def test_a_message_that_comes_too_slowly_closes(impatient: Running, kind: str) -> None:
    """1008 with a reason that says so; nothing is held any more."""
    async with slow_client(impatient.url) as client:
        process = process_of(impatient)
        began = time.monotonic()
        dripping = asyncio.create_task(drip(client, SLOW[kind]))
        try:
            async with within(10 * STUCK_S):
                code, reason = await client.closed()
            assert (code, reason) == (1008, "a message came too slowly")
            assert time.monotonic() - began > STUCK_S
        finally:
            dripping.cancel()
            await asyncio.wait((dripping,))
    await until(lambda: process.memory.requests.used == 0)


async def test_the_more_has_come_the_longer_the_rest_may_take(
    impatient: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps the least rate is in time, in one frame or in fragments."""
    monkeypatch.setattr(limits, "LEAST_RATE", 2000)
    request = json.dumps({"type": "response.create", "model": "small", "input": "hello", "pad": "x" * 8000}).encode()
    cut = [request[at : at + 500] for at in range(0, len(request), 500)]
    whole = frame(TEXT, request)
    fragments = [frame(TEXT, cut[0], bits=0), *(frame(CONTINUED, piece, bits=0) for piece in cut[1:-1])]
    for pieces in (
        [whole[at : at + 500] for at in range(0, len(whole), 500)],
        [*fragments, frame(CONTINUED, cut[-1])],
    ):
        async with slow_client(impatient.url) as client:
            began = time.monotonic()
            for piece in pieces:
                client.writer.write(piece)
                await asyncio.sleep(0.08)
            assert time.monotonic() - began > 2 * STUCK_S
            while (event := await client.next()) and isinstance(event, dict) and event["type"] not in TERMINALS:
                pass
            assert isinstance(event, dict)
            assert event["type"] == "response.completed"


async def test_many_messages_may_be_on_their_way_for_ever(impatient: Running) -> None:
    """Each has its own time, also where each begins before the last one was whole for long."""
    ping = frame(TEXT, b'{"type":"millrace.ping"}')
    async with slow_client(impatient.url) as client:
        client.writer.write(ping[:5])
        over = time.monotonic() + 4 * STUCK_S
        count = 0
        while time.monotonic() < over:
            await asyncio.sleep(EVERY_S)
            client.writer.write(ping[5:] + ping[:5])
            count += 1
        for _ in range(count):
            event = await client.next()
            assert isinstance(event, dict)
            assert event["type"] == "millrace.pong"


async def test_what_is_not_read_does_not_count(impatient: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a long frame waits for its thread, what is behind it waits in the socket: that is our time."""
    gate = asyncio.Event()
    monkeypatch.setattr("millrace.web.socket_session.in_thread", held_up(gate))
    asked = json.dumps({"type": "response.create", "model": "small", "input": "hello", "pad": "x" * 20_000}).encode()
    ping = frame(TEXT, b'{"type":"millrace.ping"}')
    async with slow_client(impatient.url) as client:
        client.writer.write(frame(TEXT, asked) + frame(TEXT, asked) + ping + ping[:5])
        await asyncio.sleep(4 * STUCK_S)
        gate.set()
        await asyncio.sleep(0.1)
        client.writer.write(ping[5:])
        kinds = [event["type"] if isinstance(event := await client.next(), dict) else event]
        while kinds.count("millrace.pong") < 2 or kinds.count("response.completed") < 2:
            event = await client.next()
            kinds.append(event["type"] if isinstance(event, dict) else event)
            assert isinstance(event, dict), kinds


def held_up(gate: asyncio.Event) -> Any:
    async def in_thread(_tenant: str, _size: int, work: Any) -> Any:
        await gate.wait()
        return await asyncio.to_thread(work)

    return in_thread


async def test_a_peer_whose_reading_share_is_used_up_is_not_late(
    impatient: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that we read slowly is not one that comes slowly."""
    monkeypatch.setattr(limits, "LEAST_RATE", 1e9)  # or what has come already would put the deadline off
    waits = [4 * STUCK_S]  # after the first piece of the frame
    async with wire_client(impatient.ws_url) as client:
        monkeypatch.setattr(flood.ReadingShare, "spend", lambda *_: waits.pop() if waits else 0.0)
        await client.send({"type": "millrace.ping", "t": 0, "pad": "x" * 500_000})
        assert (await client.next())["type"] == "millrace.pong"
    assert not waits


async def test_a_peer_in_the_middle_of_a_frame_is_alive(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot answer a ping before the frame is whole (RFC 6455, 5.4). One that sends nothing more is dead."""
    async with slow_client(millrace.url) as client:
        (connection,) = millrace.connections
        monkeypatch.setattr(connection, "ping_timeout", PATIENCE_S)
        client.writer.write(LONG_HEADER + b"x")
        await until(lambda: connection._part_bytes > 0)
        connection.keepalive_timeout()  # as uvicorn calls it, when a pong is late
        assert not connection.close_sent
        connection.pong_timer.cancel()
        monkeypatch.setattr(connection, "ping_timeout", 0.1)
        connection.keepalive_timeout()
        await until(lambda: connection.close_sent)


BODY = "POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000\r\n\r\n"


@pytest.mark.parametrize("path", ["responses", "chat/completions", "tickets"])
@pytest.mark.parametrize("dripping", [True, False])
async def test_a_body_that_comes_too_slowly_is_refused(impatient: Running, path: str, *, dripping: bool) -> None:
    """408 in the form of all errors, then the connection is closed."""
    host, port = impatient.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    client = SlowClient(reader, writer)
    try:
        began = time.monotonic()
        sending = asyncio.create_task(drip(client, [BODY.format(path=path).encode(), *[b" "] * (10_000 * dripping)]))
        async with within(10 * STUCK_S):
            answer = await reader.read(65_536)
        assert time.monotonic() - began > STUCK_S
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in head.lower()
        error = json.loads(body)["error"]
        assert (error["type"], error["code"]) == ("timeout_error", "request_timeout")
        assert "64 KiB a second" in error["message"]
        sending.cancel()
        await asyncio.wait((sending,))
    finally:
        writer.transport.abort()
    await until(lambda: not impatient.connections)


async def test_a_body_that_keeps_the_least_rate_is_in_time(impatient: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEAST_RATE", 2000)
    body = json.dumps({"model": "small", "input": "hello", "pad": "x" * 8000}).encode()
    host, port = impatient.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for at in range(0, len(body), 500):
            writer.write(body[at : at + 500])
            await asyncio.sleep(0.08)
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    finally:
        writer.transport.abort()


async def test_others_go_on_meanwhile(impatient: Running) -> None:
    """A slow message closes its own connection only."""
    async with slow_client(impatient.url, UPGRADE) as client, wire_client(impatient.ws_url) as other:
        client.writer.write(LONG_HEADER)
        assert (await client.closed())[0] == 1008
        check_response(await other.ask("hello"))
