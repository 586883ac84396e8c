"""The events of one response: numbered without a gap, merged while nobody can take them, replayed as they were."""

from typing import Any

import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from millrace.dialects.event_log import DELTA_PLACE, DELTA_SIZE, EVENT_SIZE, PACKED_PLACE, EventLog, Written
from millrace.dialects.projection import Dialect
from millrace.funnel.facts import Fact
from millrace.funnel.response_log import ResponseLog
from millrace.wire.limits import MERGE_TOKENS
from tests.support.clock import ManualClock
from tests.support.codec import PlainCodec
from tests.support.scripted_models import request

ALL = 10**9  # bytes of room


class Listener:
    """Takes frames from a number on while it is ready, and can be told not to be."""

    def __init__(self, event_log: EventLog, *, ready: bool = True, start: int = 0) -> None:
        self.ready = ready
        self.congested = False
        self.frames: list[bytes] = []
        self.sizes: list[int] = []
        self._event_log = event_log
        self._at = start
        event_log.join(self)

    def fail(self) -> None: ...

    def show(self, deltas: list[str], number: int) -> bool:
        return False

    def notify(self, size: int) -> None:
        self.sizes.append(size)
        if self.ready:
            self.take(ALL)

    def take(self, max_bytes: int) -> list[bytes]:
        """Take what there is, into so many bytes of room."""
        frames = self._event_log.frames(self._at, PlainCodec(), max_bytes)
        self._at += len(frames)
        self.frames += frames
        return frames

    @property
    def has_ended(self) -> bool:
        return self._event_log.ends_at(self._at)


def new_log() -> EventLog:
    return EventLog(ResponseLog(request(), ManualClock()))


def replay(event_log: EventLog, start: int = 0) -> list[bytes]:
    return event_log.frames(start, PlainCodec(), ALL)


# Numbers


def test_a_listener_that_keeps_up_gets_every_delta_under_its_own_number() -> None:
    event_log = new_log()
    listener = Listener(event_log)
    event_log.text(["a", "b"])
    event_log.event(("x",))
    event_log.text(["c"])
    assert listener.frames == [b"0:a", b"1:b", b"2<x>", b"3:c"]


def test_text_that_waits_is_merged_and_never_across_an_event() -> None:
    """Its number is given when it is taken, so numbers have no gap (PROTOCOL.md, What always holds, 2)."""
    event_log = new_log()
    listener = Listener(event_log, ready=False)
    event_log.text(["a", "b"])
    event_log.text(["c"])
    event_log.event(("x",))
    event_log.event(("y",))
    event_log.text(["d"])
    assert listener.take(ALL) == [b"0:abc", b"1<x>", b"2<y>", b"3:d"]
    event_log.text(["e"])
    assert listener.take(ALL) == [b"4:e"]


def test_however_much_waits_is_one_delta() -> None:
    """A merge window bounds what a cap may be passed by, not what is merged (PROTOCOL.md, Slow readers)."""
    event_log = new_log()
    listener = Listener(event_log, ready=False)
    for _ in range(10 * MERGE_TOKENS):
        event_log.text(["a"])
    assert listener.take(ALL) == [b"0:" + b"a" * 10 * MERGE_TOKENS]


def test_what_was_taken_is_not_merged_any_more() -> None:
    event_log = new_log()
    listener = Listener(event_log, ready=False)
    event_log.text(["a"])
    listener.take(ALL)
    event_log.text(["b"])
    listener.take(ALL)
    assert listener.frames == [b"0:a", b"1:b"]


def test_text_that_comes_while_older_text_waits_is_merged_into_it_even_if_someone_is_ready() -> None:
    """Or it would overtake."""
    event_log = new_log()
    listener = Listener(event_log, ready=False)
    event_log.text(["a"])
    listener.ready = True
    event_log.text(["b"])
    event_log.text(["c"])
    assert listener.frames == [b"0:ab", b"1:c"]


def test_an_event_that_comes_while_others_wait_comes_after_them() -> None:
    event_log = new_log()
    listener = Listener(event_log, ready=False)
    event_log.event(("x",))
    listener.ready = True
    event_log.event(("y",))
    assert listener.frames == [b"0<x>", b"1<y>"]


def test_no_frame_begins_past_the_room_there_is() -> None:
    """One more may begin while a byte is left. What found no room is not numbered, and goes on being merged."""
    event_log = new_log()
    listener = Listener(event_log, ready=False)
    event_log.event(("x",))
    event_log.event(("y",))
    event_log.text(["a"])
    assert listener.take(0) == []
    assert listener.take(1) == [b"0<x>"]
    assert listener.take(len(b"1<y>")) == [b"1<y>"]
    event_log.text(["b"])
    assert listener.take(1) == [b"2:ab"]
    assert listener.take(1) == []


def test_the_words_of_a_read_are_the_logs_own() -> None:
    """The list they came in may change afterwards."""
    event_log, deltas = new_log(), ["a"]
    event_log.text(deltas)
    deltas.append("b")
    assert replay(event_log) == [b"0:a"]


# Two listeners


def test_a_fast_listener_is_not_held_back_and_a_slow_one_gets_the_same_frames() -> None:
    """What the fast one takes is numbered by that; the slow one finds it so."""
    event_log = new_log()
    fast, slow = Listener(event_log), Listener(event_log, ready=False)
    for word in "abc":
        event_log.text([word])
    assert fast.frames == [b"0:a", b"1:b", b"2:c"]
    assert slow.take(1) == [b"0:a"]
    fast.ready = False
    event_log.text(["d"])
    event_log.text(["e"])
    slow.take(ALL)
    fast.take(ALL)
    assert slow.frames == fast.frames == [b"0:a", b"1:b", b"2:c", b"3:de"]


def test_a_listener_that_joins_later_takes_what_there_is_from_any_number_on() -> None:
    """PROTOCOL.md, What always holds, 8: a resume replays the same bytes."""
    event_log = new_log()
    first = Listener(event_log)
    event_log.text(["a", "b"])
    event_log.event(("x",))
    late = Listener(event_log, start=1)
    event_log.text(["c"])
    assert first.frames == [b"0:a", b"1:b", b"2<x>", b"3:c"]
    assert late.frames == first.frames[1:]


def test_joining_alone_takes_nothing() -> None:
    """The listener does, when it likes."""
    event_log = new_log()
    event_log.text(["a"])
    listener = Listener(event_log)
    assert (listener.frames, listener.sizes) == ([], [])
    assert listener.take(ALL) == [b"0:a"]


def test_who_leaves_is_told_no_more() -> None:
    """Leaving twice is leaving once."""
    event_log = new_log()
    listener, other = Listener(event_log), Listener(event_log)
    event_log.leave(listener)
    event_log.leave(listener)
    event_log.text(["a"])
    assert (listener.frames, other.frames) == ([], [b"0:a"])


def test_what_nobody_listens_to_is_merged_until_somebody_does() -> None:
    event_log = new_log()
    event_log.text(["a"])
    event_log.text(["b"])
    assert Listener(event_log).take(ALL) == [b"0:ab"]


# What is known of it


def test_it_ends_when_the_last_of_it_has_been_taken() -> None:
    """Not while something waits, nor before it is finished."""
    event_log = new_log()
    fast, slow = Listener(event_log), Listener(event_log, ready=False)
    event_log.text(["a"])
    assert not fast.has_ended
    fast.ready = False
    event_log.text(["b"])
    event_log.finish()
    assert not fast.has_ended
    fast.take(ALL)
    assert fast.has_ended
    assert not slow.has_ended
    slow.take(ALL)
    assert slow.has_ended


def test_a_finish_wakes_its_listeners_though_it_has_no_bytes() -> None:
    event_log = new_log()
    listener = Listener(event_log, ready=False)
    event_log.finish()
    assert listener.sizes == [0]
    assert listener.has_ended


def test_what_was_told_last_is_known_before_it_is_taken() -> None:
    event_log = new_log()
    assert not event_log.is_begun
    event_log.event(("x",))
    assert event_log.is_begun
    assert event_log.last == ("x",)
    replay(event_log)
    assert event_log.is_begun
    assert event_log.last == ("x",)
    event_log.event(("y",))
    assert event_log.last == ("y",)


def test_listeners_hear_what_is_in_memory_and_in_frames_and_the_log_counts_what_it_keeps() -> None:
    """About. Frames may repeat what is kept once: only the new words of an event are counted."""
    event_log = new_log()
    listener = Listener(event_log, ready=False)
    event_log.text(["four", "by", "two"])
    event_log.event(("x",), 1000, repeated=500)
    event_log.finish()
    assert listener.sizes == [9 + 3 * DELTA_SIZE, EVENT_SIZE + 1500, 0]
    assert event_log.log_bytes == 9 + EVENT_SIZE + 1000


def test_a_dialect_is_its_name_and_variant() -> None:
    """However its projections are made."""
    one: Dialect[Any] = Dialect("responses", True, lambda response, created_at: None)
    same: Dialect[Any] = Dialect("responses", True, lambda response, created_at: None)
    assert (one, hash(one)) == (same, hash(same))
    assert one != Dialect("responses", False, one.make)
    assert one != Dialect("chat", True, one.make)


# Congestion


class Projection:
    """What a response sees of the event log's listeners."""

    is_metered = False

    def __init__(self, event_log: EventLog) -> None:
        self.event_log = event_log

    @property
    def congested(self) -> bool | None:
        return self.event_log.congested

    def fail(self) -> None: ...

    def text(self, deltas: list[str]) -> None:
        """Not used."""

    def fact(self, fact: Fact) -> None:
        """Not used."""


def test_it_is_behind_when_all_its_listeners_are() -> None:
    """With none there is nobody to wait for."""
    event_log = new_log()
    assert event_log.congested is None
    one, other = Listener(event_log), Listener(event_log)
    assert event_log.congested is False
    one.congested = True
    assert event_log.congested is False
    other.congested = True
    assert event_log.congested is True


def test_coming_and_going_steers_the_response() -> None:
    event_log = new_log()
    response = event_log.response
    response.subscribe(Projection(event_log))
    slow = Listener(event_log)
    slow.congested = True
    response.apply_backpressure()
    assert response.paused
    fast = Listener(event_log)
    assert not response.paused
    event_log.leave(fast)
    assert response.paused
    event_log.leave(slow)
    assert not response.paused


# Any order


class EventLogMachine(RuleBasedStateMachine):
    """Listeners of any speed, which join and leave at any time, against the plain sequence of what was put in."""

    def __init__(self) -> None:
        super().__init__()
        self.event_log = new_log()
        self.put: list[str] = []  # text by character, events as `<name>`
        self.listeners: list[tuple[Listener, int]] = []  # and the number it began at
        self.finished = False

    @initialize(ready=st.booleans())
    def begin(self, *, ready: bool) -> None:
        self.listeners.append((Listener(self.event_log, ready=ready), 0))

    @rule(deltas=st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=3))
    def text(self, deltas: list[str]) -> None:
        if not self.finished:
            self.put += [*"".join(deltas)]
            self.event_log.text(deltas)

    @rule(name=st.sampled_from(["x", "y"]))
    def event(self, name: str) -> None:
        if not self.finished:
            self.put.append(f"<{name}>")
            self.event_log.event((name,))

    @rule(data=st.data(), ready=st.booleans())
    def join(self, data: st.DataObject, *, ready: bool) -> None:
        start = data.draw(st.integers(0, len(self.event_log.written)))
        self.listeners.append((Listener(self.event_log, ready=ready, start=start), start))

    @rule(which=st.integers(0, 5), room=st.integers(0, 12))
    def take(self, which: int, room: int) -> None:
        if self.listeners:
            self.listeners[which % len(self.listeners)][0].take(room)

    @rule(which=st.integers(0, 5))
    def change_speed(self, which: int) -> None:
        if self.listeners:
            listener, _ = self.listeners[which % len(self.listeners)]
            listener.ready = not listener.ready

    @rule(which=st.integers(0, 5))
    def leave(self, which: int) -> None:
        if self.listeners:
            listener, _ = self.listeners.pop(which % len(self.listeners))
            self.event_log.leave(listener)

    @rule()
    def finish(self) -> None:
        if not self.finished:
            self.finished = True
            self.event_log.finish()

    @rule(text=st.text("abc", max_size=4))
    def pack(self, text: str) -> None:
        self.event_log.pack(text)

    @invariant()
    def every_listener_has_a_part_of_the_one_sequence(self) -> None:
        """Each frame is as it was when it was first taken, and numbers have no gap."""
        codec = PlainCodec()
        written = [
            codec.delta(each, number) if isinstance(each, str) else codec.event(each, number)
            for number, each in enumerate(self.event_log.written)
        ]
        for listener, start in self.listeners:
            assert listener.frames == written[start : start + len(listener.frames)]

    def teardown(self) -> None:
        """What all frames hold is what was put in, and everyone comes to the end of it."""
        self.finish()
        listeners = [*self.listeners, (Listener(self.event_log), 0)]
        for listener, _ in listeners:
            listener.take(ALL)
            assert listener.has_ended
        content: list[str] = []
        for frame in listeners[-1][0].frames:
            _, colon, words = frame.decode().partition(":")
            content += [*words] if colon else ["<" + frame.decode().partition("<")[2]]
        assert content == self.put
        frames = listeners[-1][0].frames
        assert all(listener.frames == frames[start:] for listener, start in listeners)
        for listener, _ in listeners:
            self.event_log.leave(listener)
        self.event_log.pack("abc")
        assert self.event_log.is_packed
        again = Listener(self.event_log)
        again.take(ALL)
        assert again.frames == frames


TestEventLog = EventLogMachine.TestCase


@given(st.lists(st.sampled_from(["a", "bc", ("x",)]), max_size=12), st.data())
def test_a_replay_is_the_same_bytes_from_any_number_and_in_any_portions(
    events: list[str | tuple[str]], data: st.DataObject
) -> None:
    event_log = new_log()
    live = Listener(event_log, ready=data.draw(st.booleans()))
    for event in events:
        event_log.text([event]) if isinstance(event, str) else event_log.event(event)
    live.take(ALL)
    start = data.draw(st.integers(0, len(live.frames)))
    again = Listener(event_log, start=start)
    while again.take(data.draw(st.integers(1, 9))):
        pass
    assert again.frames == live.frames[start:]


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("characters", [2, 2**16 - 1, 2**16, 2**16 + 1])
def test_a_packed_log_has_the_same_events_in_less_memory(characters: int, *, is_known: bool) -> None:
    """Numbers, deltas and events stay as they were; the text is the one that others have, if it is the same."""
    event_log = new_log()
    listener = Listener(event_log)
    events: list[Any] = [("begun",), "I", "", "m" * (characters - 1), ("done",)]
    for event in events:
        event_log.text([event]) if isinstance(event, str) else event_log.event(event)
    event_log.pack("")
    assert not event_log.is_packed  # it goes on
    event_log.finish()
    before, text = event_log.size, "I" + (characters - 1) * ("m" if is_known else "n")
    event_log.pack(text)
    assert not event_log.is_packed  # somebody still listens
    event_log.leave(listener)
    event_log.pack(text)
    assert isinstance(event_log.written, Written)
    assert (event_log.written[-5:], event_log.written[-1], event_log.last) == (events, ("done",), ("done",))
    assert (event_log.written._text is text) == is_known
    assert event_log.size == before - 5 * (DELTA_PLACE - PACKED_PLACE)
    assert Listener(event_log, start=2).take(ALL) == listener.frames[2:]
    with pytest.raises(IndexError):
        event_log.written[5]


def test_what_waits_when_a_log_is_packed_is_written_by_whoever_comes() -> None:
    """It was left in the middle; what came since is one delta, and the log can be packed again."""
    event_log = new_log()
    early = Listener(event_log)
    event_log.text(["a", "b"])
    event_log.leave(early)
    event_log.pack("ab")
    assert not event_log.is_packed  # more will come
    event_log.text(["c"])
    event_log.text(["d"])
    event_log.event(("done",))
    event_log.finish()
    event_log.pack("abcd")
    assert ([*event_log.written], event_log.last, event_log.is_packed) == (["a", "b"], ("done",), True)
    late = Listener(event_log, start=1)
    late.take(ALL)
    assert late.frames == replay(event_log)[1:]
    assert ([*event_log.written], late.has_ended) == (["a", "b", "cd", ("done",)], True)
    event_log.leave(late)
    event_log.pack("abcd")
    assert (event_log.is_packed, replay(event_log)[1:]) == (True, late.frames)


@pytest.mark.parametrize("ready", [True, False])
def test_an_empty_log_has_nothing_to_tell(*, ready: bool) -> None:
    event_log = new_log()
    listener = Listener(event_log, ready=ready)
    assert listener.take(ALL) == []
    assert not listener.has_ended
