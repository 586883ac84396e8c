"""A session that crashes is closed with 1011, after all that was written before; what it ran is settled."""

import asyncio
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError

from millrace.web.flood import ReadingShare
from millrace.web.jobs import Jobs
from millrace.web.outbox import AsgiWriter, Outbox
from millrace.web.session import Session
from millrace.web.websocket import BatchingWebSocket
from millrace.wire.limits import CloseCode
from tests.support.logs import captured_logs
from tests.support.server import Running, Start, configuration_for, serving
from tests.support.waiting import PATIENCE_S, turns, until
from tests.support.wire_client import WireClient, check_response, wire_client

WAITS = "wait [ttft=30]"


class PanicError(BaseException):
    """What a library written in Rust raises when it panics; no `Exception`."""


def broken(*_: Any, **__: Any) -> Any:
    raise PanicError


async def closed_with(client: WireClient) -> int:
    """Return the close code, when what came before has been read."""
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionClosedError):
            async for _ in client.connection:
                pass
    return client.connection.close_code or 0


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Session, "_wait_while_paused"), (BatchingWebSocket, "write_frames"), (Jobs, "release")],
    ids=["reading", "writing", "ending"],
)
async def test_a_session_that_crashes_is_closed_with_1011(
    millrace: Running, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    """Its requests end, others on other connections go on, and the fault is one line of the log."""
    async with wire_client(millrace.ws_url) as other, wire_client(millrace.ws_url) as client:
        await client.create(WAITS, model="small")
        await until(lambda: millrace.small.stats.running == 1)
        with captured_logs() as logs:
            if name == "release":
                whole = Jobs.release

                async def release(jobs: Jobs) -> None:
                    await whole(jobs)
                    raise PanicError

                monkeypatch.setattr(Jobs, "release", release)
                await client.send(b"not text")
            else:
                monkeypatch.setattr(owner, name, broken)
                await client.send({"type": "millrace.ping", "t": 1})
            assert await closed_with(client) == CloseCode.FAULT
            monkeypatch.undo()
            await until(lambda: millrace.small.stats.running == 0)
        assert len(logs.warnings) == 1
        assert "session crashed" in logs.warnings[0]
        assert check_response(await other.ask("And you?"))["status"] == "completed"


@pytest.mark.parametrize("ws", [BatchingWebSocket, "websockets-sansio"])
async def test_a_close_comes_after_all_that_was_written_before(millrace: Running, ws: Any) -> None:
    """With another server's WebSocket protocol too, which is written to by a task."""
    configuration = configuration_for(millrace.small.base_url, millrace.large.base_url)
    async with serving(configuration, ws=ws) as url, wire_client(url.replace("http", "ws", 1)) as client:
        for number in range(50):
            await client.send({"type": "millrace.ping", "t": number})
        await client.send(b"not text")
        assert [(await client.next())["t"] for _ in range(50)] == [*range(50)]
        assert await closed_with(client) == CloseCode.NOT_TEXT


async def test_a_writer_is_drained_when_all_is_sent_or_its_peer_is_gone() -> None:
    sent, gate = [], asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        await gate.wait()
        sent.append(message)
        if len(sent) == 3:
            raise OSError("gone")

    writer = AsgiWriter(send)
    await writer.drained()  # nothing was written
    writer.write_frames([b"1", b"2"])
    drained = asyncio.create_task(writer.drained())
    await turns(3)
    assert not drained.done()
    gate.set()
    await drained
    assert len(sent) == 2
    writer.write_frames([b"3", b"4"])
    await writer.drained()
    assert (len(sent), writer.unsent) == (3, 0)


async def test_an_outbox_whose_writer_raises_says_so_and_does_not_stop_the_loop() -> None:
    """Frames are written at the end of a turn of the loop, where nobody waits for them."""

    class BrokenWriter:
        on_pause: Any = None
        on_resume: Any = None
        on_lost: Any = None
        held: Any = None
        unsent = 0
        is_half_closed = False
        share = ReadingShare()
        write_frames = staticmethod(broken)
        is_late = staticmethod(lambda _now, _patience_s: False)

    found: list[BaseException] = []
    box = Outbox(BrokenWriter())
    box.on_crash = found.append
    box.put(b"1")
    await turns(2)
    assert [type(error) for error in found] == [PanicError]


async def test_a_key_gets_its_place_back_when_a_dropped_request_crashes(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was cancelled while it waited."""
    async with start() as running, wire_client(running.ws_url) as client:
        await client.create(WAITS, model="small", stream_id="a")
        await client.create("never", model="small", stream_id="a")
        await until(lambda: running.small.stats.running == 1)
        monkeypatch.setattr("millrace.funnel.funnel.Funnel.drop", broken)
        await client.send({"type": "response.cancel", "stream_id": "a"})
        ends = [event for event in await _events(client, 4) if event["type"] in ("response.incomplete", "error")]
        assert sorted(event["type"] for event in ends) == ["error", "response.incomplete"]
        monkeypatch.undo()
        assert check_response(await client.ask("And now?"))["status"] == "completed"


async def _events(client: WireClient, count: int) -> list[dict[str, Any]]:
    return [await client.next() for _ in range(count)]
