"""What is told of one response in one dialect: events in order, numbered as they are written, kept for a replay.

A projection puts text and events in; listeners take frames out, each at its own speed. While nobody can take more,
text that waits is merged. A number is given once, when the first listener takes the event, and never changes.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from millrace.funnel.response_log import ResponseLog, Subscriber


class Codec(Protocol):
    """Turns what is told into the frames of one listener."""

    def delta(self, text: str, number: int) -> bytes:
        """Return the frame of some words."""
        ...

    def event(self, event: Any, number: int) -> bytes:
        """Return the frame of anything else."""
        ...


class Listener(Protocol):
    """Someone who takes frames. `ready`: more can go out at once; `behind`: too much waits to go out."""

    @property
    def ready(self) -> bool: ...  # noqa: D102 - said above

    @property
    def congested(self) -> bool: ...  # noqa: D102 - said above

    def more(self, size: int) -> None:
        """Hear that about so many bytes more can be taken."""
        ...


class Projection(Subscriber, Protocol):
    """A subscriber of a response that shows it in one dialect."""

    @property
    def event_log(self) -> "EventLog":
        """The events it has made."""
        ...


P_co = TypeVar("P_co", bound=Projection, covariant=True)


@dataclass(frozen=True, slots=True)
class Dialect(Generic[P_co]):
    """A way of showing responses. Two are equal when they show the same; then their listeners share one projection."""

    name: str
    variant: bool  # the one thing in which listeners of a dialect differ
    make: Callable[[ResponseLog, int], P_co] = field(compare=False)  # of a response created at Unix seconds


EVENT_SIZE = 400  # bytes of an event without words, about


class EventLog:
    """The events of one response for all who listen in one dialect."""

    def __init__(self, response: ResponseLog) -> None:
        self.response = response
        self.written: list[Any] = []  # by number: words, or an event
        self.log_bytes = 0  # of what is kept to send it again, about: what frames repeat is kept once
        self._finished = False
        self._waiting: deque[Any] = deque()  # a list of words to be merged, or an event
        self._listeners: list[Listener] = []

    @property
    def congested(self) -> bool | None:
        """Whether all who listen are behind; None where nobody listens."""
        return all(listener.congested for listener in self._listeners) if self._listeners else None

    @property
    def is_begun(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.written or self._waiting)

    @property
    def last(self) -> Any:
        """What was told last, written or not."""
        return self._waiting[-1] if self._waiting else self.written[-1]

    def join(self, listener: Listener) -> None:
        """Tell a listener of everything new from now on; it takes what there is already when it likes."""
        self._listeners.append(listener)
        self.response.apply_backpressure()

    def leave(self, listener: Listener) -> None:
        """Tell a listener no more. Idempotent."""
        if listener in self._listeners:
            self._listeners.remove(listener)
            self.response.apply_backpressure()

    def text(self, deltas: list[str]) -> None:
        """Add the words of one read."""
        if not self._waiting and self._is_heard():
            self.written += deltas
        elif self._waiting and isinstance(self._waiting[-1], list):
            self._waiting[-1] += deltas
        else:
            self._waiting.append([*deltas])
        size = sum(map(len, deltas))
        self.log_bytes += size
        self._notify(size)

    def event(self, event: Any, words: int = 0) -> None:
        """Add anything else, and how many characters of somebody's it holds."""
        if not self._waiting and self._is_heard():
            self.written.append(event)
        else:
            self._waiting.append(event)
        self.log_bytes += EVENT_SIZE
        self._notify(EVENT_SIZE + words)

    def finish(self) -> None:
        """Say that nothing more will come."""
        self._finished = True
        self._notify(0)

    def frames(self, number: int, codec: Codec, max_bytes: int) -> list[bytes]:
        """Return the frames from a number on, as many as there are; none begins past so many bytes of room."""
        frames: list[bytes] = []
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

    def ends_at(self, number: int) -> bool:
        """Whether all has been told before this number, to the end."""
        return self._finished and number == len(self.written) and not self._waiting

    def _write_next(self) -> bool:
        """Give what has waited longest its number, if anything has."""
        if not self._waiting:
            return False
        event_or_text = self._waiting.popleft()
        self.written.append("".join(event_or_text) if isinstance(event_or_text, list) else event_or_text)
        return True

    def _is_heard(self) -> bool:
        """Whether somebody takes at once what comes."""
        for listener in self._listeners:  # noqa: SIM110 - a generator costs more than all the rest, for every token
            if listener.ready:
                return True
        return False

    def _notify(self, size: int) -> None:
        for listener in self._listeners:
            listener.more(size)
