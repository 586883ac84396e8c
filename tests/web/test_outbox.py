"""What leaves on one connection: joined in one write, in turns, merged while the socket is busy."""

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given, strategies as st

from millrace.dialects.event_log import DELTA_SIZE, EVENT_SIZE, EventLog
from millrace.funnel.response_log import ResponseLog
from millrace.web.flood import ReadingShare
from millrace.web.outbox import Feed, Outbox
from millrace.wire import limits
from tests.support.codec import PlainCodec
from tests.support.scripted_models import request
from tests.support.waiting import turns


class RecordingWriter:
    """A connection that keeps what is written to it."""

    def __init__(self) -> None:
        self.on_pause: Any = None
        self.on_resume: Any = None
        self.on_lost: Any = None
        self.held: Any = None
        self.batches: list[list[bytes]] = []
        self.unsent = 0
        self.is_half_closed = False
        self.share = ReadingShare()

    def write_frames(self, payloads: list[bytes]) -> None:
        self.batches.append(payloads)

    def is_late(self, _now: float, _patience_s: float) -> bool:
        return False

    @property
    def frames(self) -> list[bytes]:
        """Everything, in its order."""
        return [frame for batch in self.batches for frame in batch]


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


async def test_frames_of_all_kinds_leave_in_the_order_they_were_put() -> None:
    """Those of the connection itself, and those of its responses."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    (event_log,) = event_logs(outbox, 1)
    assert outbox.put_all([b"one", b"two"]) == 6
    outbox.put(b"three")
    event_log.text(["a"])
    outbox.put(b"four")
    assert outbox.free_bytes == limits.SOCKET_BYTES - len(b"onetwothree0:afour")
    await asyncio.sleep(0)
    assert writer.batches == [[b"one", b"two", b"three", b"0:a", b"four"]]
    assert outbox.free_bytes == limits.SOCKET_BYTES


async def test_a_flush_by_hand_leaves_nothing_for_the_end_of_the_turn() -> None:
    writer = RecordingWriter()
    outbox = Outbox(writer)
    outbox.put(b"1")
    outbox.flush()
    assert writer.batches == [[b"1"]]
    await asyncio.sleep(0)
    outbox.put(b"2")
    await asyncio.sleep(0)
    assert writer.batches == [[b"1"], [b"2"]]


async def test_what_was_put_while_the_peer_does_not_keep_up_is_written_all_the_same() -> None:
    """`put` never waits: a pong, a refusal, the end of a connection."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    writer.on_pause()
    writer.unsent = 7
    outbox.put(b"1")
    await asyncio.sleep(0)
    assert writer.batches == [[b"1"]]
    assert (outbox.unsent, outbox.ready, outbox.is_writable) == (7, False, False)
    writer.on_resume()
    assert (outbox.ready, outbox.is_writable) == (True, True)


@pytest.mark.parametrize("frames", [[b"x" * limits.SOCKET_BYTES], [b"x"] * limits.MAX_FRAMES])
async def test_a_write_that_is_full_takes_no_more_of_a_response(frames: list[bytes]) -> None:
    """By its bytes or its frames; the response goes on in the next write."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    (event_log,) = event_logs(outbox, 1)
    outbox.put_all(frames)
    assert not outbox.ready
    event_log.text(["a"])
    event_log.text(["b"])
    await asyncio.sleep(0)
    assert writer.batches == [frames]
    await asyncio.sleep(0)
    assert writer.batches == [frames, [b"0:ab"]]


async def test_a_long_replay_leaves_in_several_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of about the bytes that may wait; a write has one frame more at most. Nothing is lost or twice."""
    monkeypatch.setattr("millrace.wire.limits.SOCKET_BYTES", 50)
    event_log = EventLog(ResponseLog(request(), time.monotonic))
    for number in range(40):
        event_log.event((f"event-{number}",))
    frames = event_log.frames(0, PlainCodec(), 10**9)
    writer = RecordingWriter()
    event_log.finish()
    feed = Feed(event_log, Outbox(writer), PlainCodec(), start=3)
    assert not feed.finished.done()
    for _ in range(20):
        await asyncio.sleep(0)
    assert writer.frames == frames[3:]
    assert len(writer.batches) > 5
    assert all(sum(map(len, batch[:-1])) < 50 for batch in writer.batches)
    assert feed.finished.done()


def event_logs(outbox: Outbox, count: int) -> list[EventLog]:
    """Return the event logs of so many responses that are sent on one connection."""
    return [feed.event_log for feed in feeds(outbox, count)]


def feeds(outbox: Outbox, count: int) -> list[Feed]:
    """Send so many responses on one connection; each one's response listens to its event log."""
    made = []
    for _ in range(count):
        event_log = EventLog(ResponseLog(request(), time.monotonic))
        event_log.response.subscribers = (ForwardingSubscriber(event_log),)
        made.append(Feed(event_log, outbox, PlainCodec()))
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


async def test_turns_go_on_where_the_last_write_was_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose turn it was not is first in the next write."""
    monkeypatch.setattr("millrace.wire.limits.MAX_FRAMES", 3)
    writer = RecordingWriter()
    outbox = Outbox(writer)
    one, other = event_logs(outbox, 2)
    writer.on_pause()
    for number in range(4):
        one.event((f"a{number}",))
        other.event((f"b{number}",))
    writer.on_resume()
    await turns(5)
    assert [[frame[2:4] for frame in batch] for batch in writer.batches] == [
        [b"a0", b"b0", b"a1"],
        [b"b1", b"a2", b"b2"],
        [b"a3", b"b3"],
    ]


async def test_a_thousand_events_do_not_wait() -> None:
    """Such as cannot be merged: the model is paused before, and read on when there is room."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    (event_log,) = event_logs(outbox, 1)
    writer.on_pause()
    events = 0
    while not event_log.response.paused:
        event_log.event(("x",))
        events += 1
    assert 1000 > events > 0
    assert events * EVENT_SIZE > limits.WAITING_BYTES
    writer.on_resume()
    assert not event_log.response.paused


async def test_while_much_waits_the_models_of_all_responses_wait() -> None:
    """Also of one that has nothing to say; PROTOCOL.md, Slow readers. Room for one is room for all."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    talking, silent = event_logs(outbox, 2)
    writer.on_pause()
    talking.text(["x" * (limits.WAITING_BYTES - DELTA_SIZE)])
    assert not outbox.congested
    talking.text(["x"])
    assert outbox.congested
    assert talking.response.paused
    assert silent.response.paused
    late = feeds(outbox, 1)[0]
    assert late.congested
    writer.on_resume()
    assert not outbox.congested
    assert not talking.response.paused
    assert not silent.response.paused


async def test_nothing_is_congested_while_the_peer_keeps_up() -> None:
    """However much comes in one turn of the loop."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    (event_log,) = event_logs(outbox, 1)
    outbox.put(b"x" * limits.SOCKET_BYTES)
    event_log.text(["x" * (limits.WAITING_BYTES + 1)])
    assert not outbox.congested
    assert not event_log.response.paused
    await turns(2)
    assert len(writer.frames) == 2


async def test_a_socket_that_fills_up_makes_what_waits_already_count() -> None:
    """Text that found no room in a full write waits; with the next turn's pause that is too much at once."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    (feed,) = feeds(outbox, 1)
    outbox.put(b"x" * limits.SOCKET_BYTES)
    feed.event_log.text(["x" * (limits.WAITING_BYTES + 1)])
    assert not outbox.congested
    assert writer.on_pause is not None
    writer.on_pause()
    assert outbox.congested


async def test_a_connection_is_congested_until_half_of_what_waits_is_gone() -> None:
    """Or it would be paused and resumed for every frame: here responses leave one by one."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    waiting = feeds(outbox, 4)
    writer.on_pause()
    part = limits.WAITING_BYTES // 4
    for feed in waiting:
        feed.event_log.text(["x" * (part + 1)])
    assert outbox.congested
    states = []
    for feed in waiting[:3]:
        feed.close()
        states.append(outbox.congested)
    assert states == [True, True, False]
    assert not waiting[3].event_log.response.paused


async def test_it_is_known_about_how_much_waits_of_a_response() -> None:
    """Never less than nothing, though frames are longer than their words; nothing once it has caught up."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    (feed,) = feeds(outbox, 1)
    feed.event_log.text(["a"])
    assert feed.waiting_bytes == 0
    writer.on_pause()
    feed.event_log.text(["abc"])
    feed.event_log.event(("x",))
    assert feed.waiting_bytes == 3 + DELTA_SIZE + EVENT_SIZE
    writer.on_resume()
    assert feed.waiting_bytes == 0


# The end of a response


async def test_a_response_is_finished_when_its_last_frame_has_been_written() -> None:
    """To the end of its log, not of what there was."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    (feed,) = feeds(outbox, 1)
    feed.event_log.event(("x",))
    assert not feed.finished.done()
    writer.on_pause()
    feed.event_log.event(("end",))
    feed.event_log.finish()
    assert not feed.finished.done()
    writer.on_resume()
    assert feed.finished.done()
    feed.notify(0)
    feed.close()
    await asyncio.sleep(0)
    assert feed.finished.result() is None
    assert writer.frames == [b"0<x>", b"1<end>"]


async def test_a_response_that_ends_with_nothing_left_to_write_is_finished_at_once() -> None:
    outbox = Outbox(RecordingWriter())
    (feed,) = feeds(outbox, 1)
    feed.event_log.event(("end",))
    feed.event_log.finish()
    assert feed.finished.done()


async def test_a_response_that_ended_before_is_sent_from_any_number_on() -> None:
    """The same bytes: PROTOCOL.md, What always holds, 8."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    (first,) = feeds(outbox, 1)
    first.event_log.text(["a", "b"])
    first.event_log.event(("end",))
    first.event_log.finish()
    again = Feed(first.event_log, outbox, PlainCodec(), start=1)
    nothing = Feed(first.event_log, outbox, PlainCodec(), start=3)
    await asyncio.sleep(0)
    assert writer.frames == [b"0:a", b"1:b", b"2<end>", b"1:b", b"2<end>"]
    assert again.finished.done()
    assert nothing.finished.done()


async def test_a_response_that_joins_while_the_peer_does_not_keep_up_waits_for_its_turn() -> None:
    writer = RecordingWriter()
    outbox = Outbox(writer)
    (first,) = event_logs(outbox, 1)
    first.text(["a", "b"])
    await asyncio.sleep(0)
    writer.on_pause()
    again = Feed(first, outbox, PlainCodec())
    await asyncio.sleep(0)
    assert writer.frames == [b"0:a", b"1:b"]
    assert not again.ready
    writer.on_resume()
    await asyncio.sleep(0)
    assert writer.frames[2:] == [b"0:a", b"1:b"]


async def test_a_closed_feed_is_told_no_more() -> None:
    """Nor what had waited for its turn. Closing twice is closing once."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    closed, other = feeds(outbox, 2)
    writer.on_pause()
    closed.event_log.text(["lost"])
    other.event_log.text(["kept"])
    closed.close()
    closed.close()
    closed.event_log.text(["lost too"])
    writer.on_resume()
    await asyncio.sleep(0)
    assert writer.frames == [b"0:kept"]
    assert closed.finished.cancelled()
    assert outbox.feeds == {other}
    assert closed.event_log.congested is None


async def test_a_feed_that_does_not_wait_is_forgotten_too() -> None:
    """Forgetting twice is forgetting once."""
    outbox = Outbox(RecordingWriter())
    (feed,) = feeds(outbox, 1)
    outbox.forget(feed)
    outbox.forget(feed)
    assert outbox.feeds == set()


async def test_a_closed_feed_lets_the_models_of_the_others_go_on() -> None:
    """When it was the one that was too far behind."""
    writer = RecordingWriter()
    outbox = Outbox(writer)
    much, little = feeds(outbox, 2)
    writer.on_pause()
    much.event_log.text(["x" * (limits.WAITING_BYTES + 1)])
    assert little.event_log.response.paused
    much.close()
    assert not little.event_log.response.paused
    assert not much.event_log.response.paused, "nobody listens to it"


# Any order

STEPS: st.SearchStrategy[tuple[str, int, list[str]]] = st.one_of(
    st.tuples(st.just("text"), st.integers(0, 2), st.lists(st.text("abc", min_size=1, max_size=9), min_size=1)),
    st.tuples(st.just("event"), st.integers(0, 2), st.just([])),
    st.tuples(st.sampled_from(["pause", "resume", "turn", "put"]), st.just(0), st.just([])),
)


@given(st.lists(STEPS, max_size=40))
def test_each_response_arrives_whole_and_in_order_whatever_the_peer_does(
    steps: list[tuple[str, int, list[str]]],
) -> None:
    """One write a turn of the loop; while the peer does not keep up, no frame of a response is added to it."""
    asyncio.run(check_deliveries(steps))


async def check_deliveries(steps: list[tuple[str, int, list[str]]]) -> None:
    """Take the steps, then let the peer read all; compare what came with what was put in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("millrace.wire.limits.SOCKET_BYTES", 40)
        patch.setattr("millrace.wire.limits.MAX_FRAMES", 5)
        patch.setattr("millrace.wire.limits.WAITING_BYTES", 60)
        writer = RecordingWriter()
        outbox = Outbox(writer)
        sent = feeds(outbox, 3)
        content: list[list[str]] = [[], [], []]
        for step, which, words in [*steps, ("resume", 0, [])]:
            before = len(writer.batches)
            match step:
                case "text":
                    content[which] += [*"".join(words)]
                    sent[which].event_log.text([f"{which}{word}" for word in words])
                case "event":
                    content[which].append("<>")
                    sent[which].event_log.event((str(which),))
                case "put":
                    outbox.put(b"put")
                case "pause" if outbox.is_writable:
                    writer.on_pause()
                case "resume" if not outbox.is_writable:
                    writer.on_resume()
                case "turn":
                    paused, waiting = not outbox.is_writable, [*outbox._frames]
                    await asyncio.sleep(0)
                    assert len(writer.batches) <= before + 1
                    assert not paused or [frame for batch in writer.batches[before:] for frame in batch] == waiting
            if step in ("text", "event") and not outbox.is_writable:
                assert outbox.congested or sum(feed.waiting_bytes for feed in sent) <= 60
            assert all(feed.event_log.response.paused is outbox.congested for feed in sent)
        for feed in sent:
            feed.event_log.finish()
        await turns(200)
    assert all(feed.finished.done() for feed in sent)
    assert not outbox.congested
    assert arrived(writer.frames) == content


def arrived(frames: list[bytes]) -> list[list[str]]:
    """Return the content of each response, and check that its numbers have no gap."""
    content: list[list[str]] = [[], [], []]
    counts = [0, 0, 0]
    for frame in (frame.decode() for frame in frames if frame != b"put"):
        number, colon, words = frame.partition(":")
        if not colon:
            number, _, words = frame.removesuffix(">").partition("<")
        which = int(words[0])
        assert int(number) == counts[which]
        counts[which] += 1
        content[which] += [*words.replace(str(which), "")] if colon else ["<>"]
    return content


class ForwardingSubscriber:
    """A subscriber that passes a response on to an event log, as a projection does."""

    is_metered = False

    def __init__(self, event_log: EventLog) -> None:
        self._event_log = event_log

    @property
    def congested(self) -> bool | None:
        return self._event_log.congested

    def fail(self) -> None: ...

    def text(self, deltas: list[str]) -> None:
        self._event_log.text(deltas)

    def fact(self, fact: Any) -> None:
        self._event_log.event(fact)
