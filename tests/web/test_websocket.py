"""How frames leave: joined in one write where the transport is ours, one by one on plain ASGI."""

import asyncio
import socket
from collections.abc import MutableMapping
from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from millrace.web.outbox import AsgiWriter, Outbox
from millrace.web.websocket import JoinedWebSocket, header
from millrace.wire import limits
from tests.conftest import Running, Start, serving, tree, until
from tests.support.wire_client import TERMINALS, check_whole, talking


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
    configuration = tree(millrace.small.base_url, millrace.large.base_url)
    async with (
        serving(configuration, "websockets-sansio") as url,
        talking(url.replace("http", "ws"), negotiated=True) as talk,
    ):
        check_whole(await talk.ask("talk [tokens=60] [rate=400]"), negotiated=True)
        events = await talk.ask("Prove that the square root of 2 is irrational.")
        assert check_whole(events, negotiated=True)["metadata"]["millrace.route"] == "large"
        await talk.create("talk [tokens=900] [rate=100]")
        await talk.until("response.output_text.delta")
        await talk.send({"type": "response.cancel"})
        assert (await talk.until(*TERMINALS))[-1]["response"]["status"] == "cancelled"


async def test_a_dropped_connection_on_plain_asgi(millrace: Running) -> None:
    """Its models are aborted; the writer gives up quietly."""
    configuration = tree(millrace.small.base_url, millrace.large.base_url)
    async with serving(configuration, "websockets-sansio") as url:
        async with talking(url.replace("http", "ws")) as talk:
            await talk.create("talk [tokens=900] [rate=200]", model="small")
            await talk.until("response.output_text.delta")
            talk.connection.transport.abort()
        await until(lambda: millrace.small.stats.aborted == 1)


class Writes:
    """A connection that keeps what is written to it."""

    def __init__(self) -> None:
        self.on_pause: Any = None
        self.on_resume: Any = None
        self.batches: list[list[bytes]] = []
        self.unsent = 0

    def write_frames(self, payloads: list[bytes]) -> None:
        self.batches.append(payloads)


async def test_what_comes_in_one_turn_of_the_loop_leaves_in_one_write() -> None:
    """And in its order."""
    writes = Writes()
    outbox = Outbox(writes)
    outbox.put(b"1")
    outbox.put(b"2")
    assert writes.batches == []
    await asyncio.sleep(0)
    outbox.put(b"3")
    await asyncio.sleep(0)
    assert writes.batches == [[b"1", b"2"], [b"3"]]
    outbox.flush()
    assert len(writes.batches) == 2


async def test_the_asgi_writer_says_when_it_cannot_keep_up() -> None:
    """Past the high water it asks for a pause, once; when all is sent it asks to go on."""
    gate, sent, told = asyncio.Event(), [], []

    async def send(message: MutableMapping[str, Any]) -> None:
        await gate.wait()
        sent.append(message["text"])

    writer = AsgiWriter(send)
    writer.on_pause = lambda: told.append("pause")
    writer.on_resume = lambda: told.append("resume")
    frames = [b"a" * limits.SOCKET_BYTES, b"b", b"c"]
    for frame in frames:
        writer.write_frames([frame])
    assert told == ["pause"]
    gate.set()
    async with asyncio.timeout(5):
        while len(sent) < len(frames):  # noqa: ASYNC110 - one turn of the loop at a time
            await asyncio.sleep(0)
    assert told == ["pause", "resume"]
    assert [len(text) for text in sent] == [limits.SOCKET_BYTES, 1, 1]


async def test_a_connection_does_not_wait_for_acknowledgements(millrace: Running, monkeypatch: Any) -> None:
    """TCP_NODELAY is on for every accepted WebSocket, whatever the loop did."""
    seen: list[int] = []
    write_frames = JoinedWebSocket.write_frames

    def spy(self: JoinedWebSocket, payloads: list[bytes]) -> None:
        seen.append(self.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        write_frames(self, payloads)

    monkeypatch.setattr(JoinedWebSocket, "write_frames", spy)
    async with talking(millrace.ws_url) as talk:
        check_whole(await talk.ask("hello"))
    assert seen
    assert all(seen)


async def test_a_peer_that_never_reads_is_given_up(start: Start) -> None:
    """It answers no ping, so its request ends and its model's socket closes, however much waits in between."""

    def long(configuration: dict[str, Any]) -> None:
        configuration["models"]["small"]["max_output_tokens"] = 100_000

    async with start(long) as running:
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


UPGRADE = (
    "GET /v1/responses HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
