"""How frames leave: joined in one write where the transport is ours, one by one on plain ASGI."""

import asyncio
import json
import socket
from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from millrace.web.websocket import BatchingWebSocket, header
from tests.support.bytes_on_the_wire import TEXT, frame
from tests.support.raw_http import UPGRADE
from tests.support.server import Running, Start, answers_up_to, configuration_for, serving
from tests.support.slow_client import slow_client
from tests.support.waiting import until
from tests.support.wire_client import TERMINALS, check_response, wire_client


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_headers_are_those_of_unmasked_final_text_frames(length: int) -> None:
    """A parser that is not ours reads them back, at each border of the three length forms."""
    reader = StreamReader()
    reader.feed_data(header(length) + b"x" * length)
    parsing = Frame.parse(reader.read_exact, mask=False, max_size=None)
    with pytest.raises(StopIteration) as parsed:
        next(parsing)
    assert parsed.value.value == Frame(Opcode.TEXT, b"x" * length)


async def test_plain_asgi_does_the_same(millrace: Running) -> None:
    """Under another WebSocket protocol the server streams, revises and cancels all the same."""
    configuration = configuration_for(millrace.small.base_url, millrace.large.base_url)
    async with (
        serving(configuration, "websockets-sansio") as url,
        wire_client(url.replace("http", "ws"), negotiated=True) as client,
    ):
        check_response(await client.ask("talk [tokens=60] [rate=400]"), negotiated=True)
        events = await client.ask("Prove that the square root of 2 is irrational.")
        assert check_response(events, negotiated=True)["metadata"]["millrace.route"] == "large"
        await client.create("talk [tokens=900] [rate=100]")
        await client.until("response.output_text.delta")
        await client.send({"type": "response.cancel"})
        assert (await client.until(*TERMINALS))[-1]["response"]["status"] == "cancelled"


async def test_a_dropped_connection_on_plain_asgi(millrace: Running) -> None:
    """Its models are aborted; the writer gives up quietly."""
    configuration = configuration_for(millrace.small.base_url, millrace.large.base_url)
    async with serving(configuration, "websockets-sansio") as url:
        async with wire_client(url.replace("http", "ws")) as client:
            await client.create("talk [tokens=900] [rate=200]", model="small")
            await client.until("response.output_text.delta")
            client.connection.transport.abort()
        await until(lambda: millrace.small.stats.aborted == 1)


async def test_a_connection_does_not_wait_for_acknowledgements(millrace: Running, monkeypatch: Any) -> None:
    """TCP_NODELAY is on for every accepted WebSocket, whatever the loop did."""
    seen: list[int] = []
    write_frames = BatchingWebSocket.write_frames

    def spy(self: BatchingWebSocket, payloads: list[bytes]) -> None:
        seen.append(self.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        write_frames(self, payloads)

    monkeypatch.setattr(BatchingWebSocket, "write_frames", spy)
    async with wire_client(millrace.ws_url) as client:
        check_response(await client.ask("hello"))
    assert seen
    assert all(seen)


async def test_a_peer_that_never_reads_is_given_up(start: Start) -> None:
    """It answers no ping, so its request ends and its model's socket closes, however much waits in between."""
    async with start(answers_up_to(100_000)) as running:
        host, port = running.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(UPGRADE.format(host=f"{host}:{port}").encode())
        await reader.readuntil(b"\r\n\r\n")
        create = b'{"type":"response.create","model":"small","input":"flood [tokens=100000]"}'
        writer.write(b"\x81" + bytes((0x80 | len(create),)) + bytes(4) + create)
        await until(lambda: running.small.stats.running == 1)
        for connection in running.connections:
            connection.keepalive_timeout()  # as uvicorn calls it, 40 s after the peer's last sign of life
        await until(lambda: running.small.stats.running == 0)
        await until(lambda: not running.connections)
        writer.close()


@pytest.mark.parametrize("count", [1, 50])
async def test_what_comes_with_the_handshake_is_read(millrace: Running, count: int) -> None:
    """A client that does not wait for the answer, in one piece with its head."""
    asked = [json.dumps({"type": "millrace.ping", "t": number}).encode() for number in range(count)]
    early = b"".join(frame(TEXT, ping) for ping in asked)
    async with slow_client(millrace.url, early=early) as client:
        for number in range(count):
            assert await client.next() == {"type": "millrace.pong", "t": number}
        client.send({"type": "millrace.ping", "t": "later"})
        assert await client.next() == {"type": "millrace.pong", "t": "later"}
