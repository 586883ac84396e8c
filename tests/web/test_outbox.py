"""What leaves on one connection: joined in one write, in turns, merged while the socket is busy."""

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

from millrace.dialects.event_log import EVENT_SIZE, EventLog
from millrace.funnel.response_log import ResponseLog
from millrace.web.outbox import AsgiWriter, Feed, Outbox
from millrace.wire import limits
from tests.support.scripted_models import request


class RecordingWriter:
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
    writer = RecordingWriter()
    outbox = Outbox(writer)
    outbox.put(b"1")
    outbox.put(b"2")
    assert writer.batches == []
    await asyncio.sleep(0)
    outbox.put(b"3")
    await asyncio.sleep(0)
    assert writer.batches == [[b"1", b"2"], [b"3"]]
    outbox.flush()
    assert len(writer.batches) == 2


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
    async with asyncio.timeout(5):
        while len(sent) < len(frames):  # noqa: ASYNC110 - one turn of the loop at a time
            await asyncio.sleep(0)
    assert calls == ["pause", "resume"]
    assert [len(text) for text in sent] == [limits.SOCKET_BYTES, 1, 1]


class Events:
    """A codec that shows what it is given."""

    def delta(self, text: str, number: int) -> bytes:
        return f"{number}:{text}".encode()

    def event(self, event: Any, number: int) -> bytes:
        return f"{number}<{event[0]}>".encode()


def event_logs(outbox: Outbox, count: int) -> list[EventLog]:
    """Return the event logs of so many responses that are sent on one connection."""
    made = [EventLog(ResponseLog(request(), time.monotonic)) for _ in range(count)]
    for event_log in made:
        Feed(event_log, outbox, Events())
    return made


async def test_text_is_merged_while_the_socket_is_busy_and_never_across_an_event() -> None:
    """What had left is not touched; numbers go on without a gap."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    (event_log,) = event_logs(outbox, 1)
    event_log.text(["a", "b"])
    await asyncio.sleep(0)
    writer.on_pause()
    for word in "cde":
        event_log.text([word])
    event_log.event(("x",))
    event_log.text(["f"])
    event_log.text(["g", "h"])
    await asyncio.sleep(0)
    assert writer.batches == [[b"0:a", b"1:b"]]
    writer.on_resume()
    event_log.text(["i"])
    await asyncio.sleep(0)
    assert writer.batches[1:] == [[b"2:cde", b"3<x>", b"4:fgh", b"5:i"]]


async def test_responses_take_turns() -> None:
    """One with much to say does not keep the others from saying theirs."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    much, little = event_logs(outbox, 2)
    writer.on_pause()
    for number in range(20):
        much.event((f"m{number}",))
    for number in range(3):
        little.event((f"l{number}",))
    writer.on_resume()
    await asyncio.sleep(0)
    ((*frames,),) = writer.batches
    assert frames[:6] == [b"0<m0>", b"0<l0>", b"1<m1>", b"1<l1>", b"2<m2>", b"2<l2>"]
    assert len(frames) == 23


async def test_a_thousand_events_do_not_wait() -> None:
    """Such as cannot be merged: the model is paused before, and read on when there is room."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    (event_log,) = event_logs(outbox, 1)
    event_log.response.subscribers.append(ForwardingSubscriber(event_log))
    writer.on_pause()
    events = 0
    while not event_log.response.paused:
        event_log.event(("x",))
        events += 1
    assert 1000 > events > 0
    assert events * EVENT_SIZE > limits.WAITING_BYTES
    writer.on_resume()
    assert not event_log.response.paused


class ForwardingSubscriber:
    """A subscriber that passes a response on to an event log, as a projection does."""

    def __init__(self, event_log: EventLog) -> None:
        self._event_log = event_log

    @property
    def congested(self) -> bool | None:
        return self._event_log.congested

    def text(self, deltas: list[str]) -> None:
        self._event_log.text(deltas)

    def fact(self, fact: Any) -> None:
        self._event_log.event(fact)
