"""One request as the client sees it: its events as they come, its text with every revise applied, its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from millrace.errors import MillraceError
from millrace.wire import responses as wire

Event = wire.ServerEvent
Delta = wire.TextDelta | wire.ReasoningDelta | wire.RefusalDelta


class ConnectionLostError(ConnectionError):
    """The connection ended before the answer did."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the model wants called; `arguments` is JSON as it wrote it. Answer with a `function_call_output`."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer, and what it came to. Money in dollars."""

    id: str  # for `previous_response_id`
    text: str
    refusal: str  # words that the provider marked as one
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    status: str  # completed, incomplete or cancelled
    model: str
    route: str | None  # small, large or cache
    cache: str | None  # miss, exact, semantic or joined
    check: str | None  # passed, or the check the small model's answer failed
    reason: str | None  # why it is incomplete
    input_tokens: int
    output_tokens: int
    cost_usd: float
    saved_usd: float


class Stream:
    """An async iterator of events. Leaving `async with` early cancels; so does `cancel()`."""

    def __init__(
        self,
        event_id: str,
        lane: str | None,
        send_cancel: Callable[[Stream], None],
        fields: dict[str, Any] | None = None,
    ) -> None:
        self.event_id = event_id
        self.asked_lane = lane
        self.lane: str | None = None  # once it has been sent
        self.fields = fields or {}  # of the request; none where a response of before is resumed
        self.id: str | None = None  # the response's, once it has begun
        self.response: wire.ResponseBody | None = None  # once it has begun, whole at its end
        self.ended = False
        self.is_cancelled = False  # while there is no connection to say so
        self.seen = -1  # the last `sequence_number`
        self.epoch: str | None = None  # the process that answers
        self._send_cancel = send_cancel
        self._events: deque[Event] = deque()
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self._deltas: list[Delta] = []  # those that still stand

    @property
    def text(self) -> str:
        """The words that stand, after the events read until now."""
        return self._joined(wire.TextDelta)

    @property
    def reasoning(self) -> str:
        """The model's reasoning until now, where its provider shows it."""
        return self._joined(wire.ReasoningDelta)

    @property
    def refusal(self) -> str:
        """The words until now that the provider marked as a refusal."""
        return self._joined(wire.RefusalDelta)

    @property
    def is_detached(self) -> bool:
        """Whether the server goes on with it where the connection is lost."""
        return not self.fields or self._option("on_disconnect") == "detach"

    @property
    def is_repeatable(self) -> bool:
        """Whether asking again does not bill twice while the server remembers."""
        return self._option("idempotency_key") is not None

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
            raise error_of(self.response.error)
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
        if isinstance(event, wire.Event):
            self.seen = event.sequence_number
        match event:
            case wire.Created() | wire.InProgress():
                self.response, self.id = event.response, event.response.id
            case wire.Completed() | wire.Failed() | wire.Incomplete():
                self.response = event.response
                self.ended = True
            case wire.Error():
                self.fail(error_of(event.error))
                return
        self._events.append(event)
        self._news.set()

    def _read(self, event: Event) -> None:
        """Keep the text in step with the events that were handed out; a response asked for again begins anew."""
        match event:
            case wire.Created():
                self._deltas = []
            case wire.TextDelta() | wire.ReasoningDelta() | wire.RefusalDelta():
                self._deltas.append(event)
            case wire.Revise():
                kept, item = event.keep_through, event.item_id
                self._deltas = [
                    delta for delta in self._deltas if delta.item_id != item or delta.sequence_number <= kept
                ]

    def _joined(self, kind: type[Delta]) -> str:
        return "".join(delta.delta for delta in self._deltas if isinstance(delta, kind))

    def fail(self, error: Exception) -> None:
        """End without a terminal."""
        if not self.ended:
            self.ended = True
            self._error = error
        self._news.set()

    def begin_again(self) -> None:
        """Forget what was seen, before the same is asked again."""
        self.id, self.seen, self.epoch = None, -1, None

    def _option(self, name: str) -> Any:
        options, metadata = self.fields.get("millrace"), self.fields.get("metadata")
        chosen = options.get(name) if isinstance(options, dict) else None
        return chosen or (metadata.get(f"millrace.{name}") if isinstance(metadata, dict) else None)


def lost(why: str = "the connection to Millrace ended before the answer did") -> ConnectionLostError:
    """Return the error of a stream whose end will not come."""
    return ConnectionLostError(why)


def error_of(body: wire.ErrorBody) -> MillraceError:
    """Return what the server said as an exception."""
    retry = body.retry_after_ms if isinstance(body.retry_after_ms, int) else None
    return MillraceError(body.code, body.message, param=body.param, retry_after_ms=retry)


def _reply(response: wire.ResponseBody) -> Reply:
    usage, metadata = response.usage, response.metadata
    said = [part for item in response.output if isinstance(item, wire.OutputMessage) for part in item.content]
    thought = [part for item in response.output if isinstance(item, wire.Reasoning) for part in item.content]
    calls = [item for item in response.output if isinstance(item, wire.FunctionCall)]
    return Reply(
        id=response.id,
        text=response.output_text,
        refusal="".join(part.refusal for part in said if isinstance(part, wire.OutputRefusal)),
        reasoning="".join(part.text for part in thought),
        tool_calls=tuple(ToolCall(call.call_id, call.name, call.arguments) for call in calls),
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
