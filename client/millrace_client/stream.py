"""One request as the client sees it: its events as they come, its text with every revise applied, its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from millrace.errors import MillraceError
from millrace.wire import responses as wire

Event = wire.ServerEvent


class ConnectionLostError(ConnectionError):
    """The connection ended before the answer did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer, and what it came to. Money in dollars."""

    text: str
    status: str  # completed, incomplete or cancelled
    model: str
    route: str | None  # small, large or cache
    cache: str | None  # miss or exact
    check: str | None  # passed, or the check the small model's answer failed
    reason: str | None  # why it is incomplete
    input_tokens: int
    output_tokens: int
    cost_usd: float
    saved_usd: float


class Stream:
    """An async iterator of events. Leaving `async with` early cancels; so does `cancel()`."""

    def __init__(self, event_id: str, lane: str | None, send_cancel: Callable[[Stream], None]) -> None:
        self.event_id = event_id
        self.asked_lane = lane
        self.lane: str | None = None  # once it has been sent
        self.response: wire.ResponseBody | None = None  # once it has begun, whole at its end
        self.ended = False
        self._send_cancel = send_cancel
        self._events: deque[Event] = deque()
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self._deltas: list[tuple[int, str]] = []  # (sequence_number, words) that still stand

    @property
    def text(self) -> str:
        """The words that stand, after the events read until now."""
        return "".join(words for _, words in self._deltas)

    @property
    def id(self) -> str | None:
        """The response's id, once it has begun."""
        return self.response.id if self.response else None

    def cancel(self) -> None:
        """Ask the server to stop; the terminal event, with what it cost, still comes."""
        if not self.ended:
            self._send_cancel(self)

    async def reply(self) -> Reply:
        """Read to the end and return the answer; a failed one raises `MillraceError`."""
        async for _ in self:
            pass
        assert self.response is not None, "a stream that ends without an error has a terminal"
        if self.response.error is not None:
            raise _error(self.response.error)
        return _reply(self.response)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._error is not None:
                raise self._error
            if self.ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        event = self._events.popleft()
        self._read(event)
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def take(self, event: Event) -> None:
        """Take the next event of this request; called by the client."""
        match event:
            case wire.Created() | wire.InProgress():
                self.response = event.response
            case wire.Completed() | wire.Failed() | wire.Incomplete():
                self.response = event.response
                self.ended = True
            case wire.Error():
                self.fail(_error(event.error))
                return
        self._events.append(event)
        self._news.set()

    def _read(self, event: Event) -> None:
        """Keep the text in step with the events that were handed out."""
        match event:
            case wire.TextDelta():
                self._deltas.append((event.sequence_number, event.delta))
            case wire.Revise():
                self._deltas = [delta for delta in self._deltas if delta[0] <= event.keep_through]

    def fail(self, error: Exception) -> None:
        """End without a terminal."""
        if not self.ended:
            self.ended = True
            self._error = error
        self._news.set()


def _error(body: wire.ErrorBody) -> MillraceError:
    retry = body.retry_after_ms if isinstance(body.retry_after_ms, int) else None
    return MillraceError(body.code, body.message, param=body.param, retry_after_ms=retry)


def _reply(response: wire.ResponseBody) -> Reply:
    usage, metadata = response.usage, response.metadata
    return Reply(
        text="".join(part.text for item in response.output for part in item.content),
        status=response.status,
        model=response.model,
        route=metadata.get("millrace.route"),
        cache=metadata.get("millrace.cache"),
        check=metadata.get("millrace.check"),
        reason=response.incomplete_details.reason if response.incomplete_details else None,
        input_tokens=usage.input_tokens if usage else 0,
        output_tokens=usage.output_tokens if usage else 0,
        cost_usd=usage.cost_usd if usage else 0.0,
        saved_usd=usage.saved_usd if usage else 0.0,
    )
