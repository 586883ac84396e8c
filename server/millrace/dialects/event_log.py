"""The events of one response in one dialect: in order, numbered when they are written, stored for a replay.

A projection adds text and events; listeners take frames, each at its own speed. `_waiting` holds what has no number
yet, so its text may still be merged. `written` holds numbered events. The index is the `sequence_number`, so numbers
have no gap (PROTOCOL.md, What always holds, 2). The first listener that takes an event gives it its number. After that
neither number nor text changes, since slower listeners and a resume must get the same bytes (8).
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any, Protocol, cast, overload

from millrace import log
from millrace.errors import EXITS, MillraceError
from millrace.funnel.response_log import ResponseLog
from millrace.types import joined, scores_size


class FrameCodec(Protocol):
    """Encodes events as the frames of one listener."""

    def delta(self, text: str, number: int) -> bytes:
        """Encode a text delta."""
        ...

    def event(self, event: Any, number: int) -> bytes:
        """Encode any other event."""
        ...


class Codec(FrameCodec, Protocol):
    """The same over HTTP. `keep_alive` is sent after a silence."""

    @property
    def keep_alive(self) -> bytes: ...  # noqa: D102 - documented above

    def failure(self, error: MillraceError) -> bytes:
        """Encode an error that ends a stream whose log cannot say it."""
        ...


class Listener(Protocol):
    """A client that takes frames. `ready`: it can send more at once. `congested`: too much waits to be sent."""

    @property
    def ready(self) -> bool: ...  # noqa: D102 - documented above

    @property
    def congested(self) -> bool: ...  # noqa: D102 - documented above

    def show(self, deltas: list[str], number: int) -> bool:
        """Write text deltas at once, the first as event `number`; False, and nothing is written, if it cannot."""
        ...

    def notify(self, size: int) -> None:
        """Note that there are new events of about `size` bytes. A listener that raises is dropped; the others go on."""
        ...

    def fail(self) -> None:
        """End with `internal_error`: it has raised, and is notified no more."""
        ...


# Approximate bytes in memory. What waits is counted with them, because a model's text comes in many small deltas.
EVENT_SIZE = 400  # an event without its text
DELTA_SIZE = 100  # a text delta without its text, in all the lists that have it
DELTA_PLACE = 56  # the same in its log alone
SCORED_PLACE = 150  # the same with log-probabilities, beside these
PACKED_PLACE = 4  # the same once the log is packed
_NOTHING = cast("list[Any]", ())  # of thousands of logs; nothing can be added to it
_SHORT = 2**16  # characters, or events, whose places take two bytes each


class Written(Sequence[Any]):
    """Events that were written, in less memory: of the text deltas there is one string, and where each one ends."""

    __slots__ = ("_ends", "_events", "_numbers", "_text")

    def __init__(self, written: Sequence[Any], text: str) -> None:
        """Take all events by number; `text` is kept in place of their own text if it is the same."""
        plain = [each if type(each) is str else "" for each in written]
        own_text = "".join(plain)
        self._text = text if text == own_text else own_text
        self._ends = array("H" if len(own_text) < _SHORT else "I", accumulate(map(len, plain)))
        numbers = [number for number, each in enumerate(written) if type(each) is not str]
        self._events = tuple([written[number] for number in numbers])
        self._numbers = array("H" if len(written) < _SHORT else "I", numbers)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> Any: ...

    @overload
    def __getitem__(self, number: slice) -> list[Any]: ...

    def __getitem__(self, number: int | slice) -> Any:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        at = bisect_left(self._numbers, number)
        if at < len(self._numbers) and self._numbers[at] == number:
            return self._events[at]
        return self._text[self._ends[number - 1] if number else 0 : self._ends[number]]


class EventLog:
    """The events of one response, for all listeners in one dialect."""

    __slots__ = (
        "_has_scores",
        "_listeners",
        "_packed",
        "_untold",
        "_waiting",
        "_written",
        "is_broken",
        "is_finished",
        "log_bytes",
        "response",
    )

    def __init__(self, response: ResponseLog) -> None:
        self.response = response
        self._written: list[Any] = []  # by number: a text delta, or an event
        self._packed: Written | None = None  # in place of these, once there will be no more
        self.log_bytes = 0  # approximate size of what is stored for a replay; text that frames repeat counts once
        self.is_broken = False  # it has ended without a terminal: its projection has raised
        self.is_finished = False  # no event will follow
        self._has_scores = response.request.prompt.wants_logprobs
        # In order: a list of text deltas to be merged, or an event. Seldom much; only `_wait` may add to it.
        self._waiting: list[Any] = _NOTHING
        self._listeners: tuple[Listener, ...] = ()
        self._untold: int | None = None  # bytes of new events, while it is held

    @property
    def congested(self) -> bool | None:
        """Whether all listeners are congested; None if there are none."""
        for listener in self._listeners:
            if not listener.congested:
                return False
        return True if self._listeners else None

    @property
    def written(self) -> Sequence[Any]:
        """All events that have a number: each a text delta, or an event."""
        return self._written if self._packed is None else self._packed

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        place = SCORED_PLACE if self._has_scores else DELTA_PLACE if self._packed is None else PACKED_PLACE
        return self.log_bytes + len(self.written) * place

    @property
    def is_begun(self) -> bool:
        """Whether there is any event."""
        return bool(self.written or self._waiting)

    @property
    def last(self) -> Any:
        """The last event, written or not."""
        return self._waiting[-1] if self._waiting else self.written[-1]

    def join(self, listener: Listener) -> None:
        """Add a listener. It is notified of new events, and reads earlier ones through `frames`."""
        self._listeners = (*self._listeners, listener)
        self.response.apply_backpressure()

    def leave(self, listener: Listener) -> None:
        """Remove a listener. Idempotent."""
        if listener in self._listeners:
            self._listeners = tuple([other for other in self._listeners if other is not listener])
            self.response.apply_backpressure()

    def text(self, deltas: list[str]) -> None:
        """Add the text deltas of one read.

        If a listener is ready and nothing waits, each delta becomes an event at once. Otherwise the deltas wait and are
        merged with text that waits already, but never across another event (PROTOCOL.md, A connection, Slow readers).
        While anything waits, new text must wait too, or it would get a lower number than what came before it.

        The hot path: nearly always there is one listener, which has read all and writes at once.
        """
        size = len(deltas[0]) if len(deltas) == 1 else sum(map(len, deltas))
        if self._has_scores:
            size += scores_size(deltas)
        self.log_bytes += size
        listeners, written = self._listeners, self._written
        if not self._waiting and len(listeners) == 1:
            try:
                if listeners[0].show(deltas, len(written)):
                    written += deltas
                    return
            except BaseException as error:
                self._drop(listeners[0], error)
        if not self._waiting and self._has_ready_listener():
            self._written += deltas
        elif self._waiting and isinstance(self._waiting[-1], list):
            self._waiting[-1] += deltas
        else:
            self._wait([*deltas])
        self._notify(size + DELTA_SIZE * len(deltas))

    def event(self, event: Any, characters: int = 0, *, repeated: int = 0) -> None:
        """Add any other event, with so many characters of new text, and of text that earlier events have too.

        Both count for backpressure. Only new text counts for what is stored.
        """
        if not self._waiting and self._has_ready_listener():
            self._written.append(event)
        else:
            self._wait(event)
        size = EVENT_SIZE + characters
        self.log_bytes += size
        if self._untold is None:
            self._notify(size + repeated)
        else:
            self._untold += size + repeated

    def _wait(self, event_or_texts: Any) -> None:
        if self._waiting:
            self._waiting.append(event_or_texts)
        else:
            self._waiting = [event_or_texts]

    def finish(self) -> None:
        """Note that no event will follow."""
        self.is_finished = True
        self._notify(0)

    @property
    def is_packed(self) -> bool:
        """Whether what is written is kept in less memory."""
        return self._packed is not None

    def pack(self, text: str) -> None:
        """Keep what was written in less memory, if nobody listens to what has ended; with `text`, if that is its text.

        Deltas with log-probabilities are not packed: these are most of what they keep.
        """
        if self.is_finished and not self._listeners and not self._has_scores and self._packed is None:
            self._packed, self._written = Written(self._written, text), _NOTHING
            waiting = [[joined(each)] if isinstance(each, list) else each for each in self._waiting]
            self._waiting = waiting or _NOTHING

    def frames(self, number: int, codec: FrameCodec, max_bytes: int) -> list[bytes]:
        """Return the frames from `number` on. The last one may exceed `max_bytes`, but no further frame follows it.

        A listener that has read all written events writes the next waiting one, which gives it its number.
        """
        frames: list[bytes] = []
        if self._packed is not None and self._waiting:  # more is going to be written
            self._written, self._packed = list(self._packed), None
        written = self.written
        while max_bytes > 0 and (number < len(written) or self._write_next()):
            event_or_text = written[number]
            frame = (
                codec.delta(event_or_text, number)
                if isinstance(event_or_text, str)
                else codec.event(event_or_text, number)
            )
            frames.append(frame)
            max_bytes -= len(frame)
            number += 1
        return frames

    def text_since(self, kind: type) -> str:
        """Return all text since the last event of a kind, as it was shown or is going to be."""
        shown: list[str] = []
        for event_or_texts in chain(self.written, self._waiting):
            if isinstance(event_or_texts, str):  # nearly all are
                shown.append(event_or_texts)
            elif isinstance(event_or_texts, list):
                shown += event_or_texts
            elif isinstance(event_or_texts, kind):
                shown.clear()
        return joined(shown)

    def ends_at(self, number: int) -> bool:
        """Whether `number` is past the last event, and no event will follow."""
        return self.is_finished and number == len(self.written) and not self._waiting

    def _write_next(self) -> bool:
        """Write the event that has waited longest; False if none waits."""
        if not self._waiting:
            return False
        event_or_text = self._waiting.pop(0)
        self._written.append(joined(event_or_text) if isinstance(event_or_text, list) else event_or_text)
        return True

    def _has_ready_listener(self) -> bool:
        for listener in self._listeners:  # noqa: SIM110 - runs for every token, and a generator would cost more than all the rest
            if listener.ready:
                return True
        return False

    def hold(self) -> None:
        """Notify nobody until `release`: one fact may bring ten events, which are written at once then."""
        self._untold = 0

    def release(self) -> None:
        """Notify of all events since `hold`."""
        size, self._untold = self._untold, None
        if size:
            self._notify(size)

    def _notify(self, size: int) -> None:
        if self._untold is not None:
            self._untold += size or 1  # the end is news too
            return
        for listener in self._listeners:
            try:
                listener.notify(size)
            except BaseException as error:
                self._drop(listener, error)

    def _drop(self, listener: Listener, error: BaseException) -> None:
        """End a listener that has raised. They are replaced, not changed: one may iterate over them right now."""
        if isinstance(error, EXITS):
            raise error
        log.get().error("listener crashed", id=self.response.id, exc_info=error)
        self._listeners = tuple([other for other in self._listeners if other is not listener])
        listener.fail()
        self.response.apply_backpressure()
