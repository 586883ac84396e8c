"""The writer on plain ASGI: frames go out one by one, and it says when it cannot keep up."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from millrace.web.outbox import AsgiWriter
from millrace.wire import limits
from tests.support.waiting import PATIENCE_S, turns


async def test_the_asgi_writer_says_when_it_cannot_keep_up() -> None:
    """Past the high water it asks for a pause, once; when all is sent it asks to go on."""
    gate, sent, calls = asyncio.Event(), [], []

    async def send(message: MutableMapping[str, Any]) -> None:
        await gate.wait()
        sent.append(message["text"])

    writer = AsgiWriter(send)
    writer.on_pause = lambda: calls.append("pause")
    writer.on_resume = lambda: calls.append("resume")
    frames = [b"a" * limits.SOCKET_BYTES, b"b", b"c"]
    for frame in frames:
        writer.write_frames([frame])
    assert calls == ["pause"]
    gate.set()
    async with asyncio.timeout(PATIENCE_S):
        while len(sent) < len(frames):  # noqa: ASYNC110 - one turn of the loop at a time
            await asyncio.sleep(0)
    assert calls == ["pause", "resume"]
    assert [len(text) for text in sent] == [limits.SOCKET_BYTES, 1, 1]


async def test_the_asgi_writer_asks_for_a_pause_each_time_it_falls_behind() -> None:
    calls = []

    async def send(message: MutableMapping[str, Any]) -> None:
        await asyncio.sleep(0)

    writer = AsgiWriter(send)
    writer.on_pause = lambda: calls.append("pause")
    writer.on_resume = lambda: calls.append("resume")
    for _ in range(2):
        writer.write_frames([b"x" * limits.SOCKET_BYTES, b"x"])
        await turns(5)
    assert calls == ["pause", "resume"] * 2


async def test_the_asgi_writer_counts_what_it_has_not_sent() -> None:
    """Frames go out one by one and in order, also those that come while it sends, and after it has come to rest."""
    gate, sent = asyncio.Semaphore(0), []

    async def send(message: MutableMapping[str, Any]) -> None:
        await gate.acquire()
        sent.append(message)

    writer = AsgiWriter(send)  # nobody asks when it cannot keep up
    writer.write_frames([b"one", b"x" * limits.SOCKET_BYTES])
    assert writer.unsent == 3 + limits.SOCKET_BYTES
    gate.release()
    await turns(3)
    writer.write_frames([b"two"])
    assert writer.unsent == limits.SOCKET_BYTES + 3
    for _ in range(2):
        gate.release()
        await turns(3)
    assert writer.unsent == 0
    gate.release()
    writer.write_frames([b"three"])
    await turns(3)
    assert [(message["type"], len(message["text"])) for message in sent] == [
        *(("websocket.send", 3), ("websocket.send", limits.SOCKET_BYTES), ("websocket.send", 3), ("websocket.send", 5)),
    ]


async def test_the_asgi_writer_gives_up_quietly_when_its_peer_is_gone() -> None:
    """It drops what waits; it does not ask to go on, and a later frame only fails again."""
    tried, calls = [], []

    async def send(message: MutableMapping[str, Any]) -> None:
        tried.append(message["text"])
        raise RuntimeError("gone")

    writer = AsgiWriter(send)
    writer.on_pause = lambda: calls.append("pause")
    writer.on_resume = lambda: calls.append("resume")
    writer.write_frames([b"one", b"x" * limits.SOCKET_BYTES])
    await turns(3)
    writer.write_frames([b"two"])
    await turns(3)
    assert (tried, calls) == (["one", "two"], ["pause"])
