"""One request as the client sees it: its events, its text with every revise applied, and its terminal."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from millrace.errors import MillraceError, rule_of
from millrace.wire import responses as wire

Event = wire.ServerEvent
TERMINALS = wire.Completed, wire.Failed, wire.Incomplete
Delta = wire.TextDelta | wire.ReasoningDelta | wire.SummaryDelta | wire.RefusalDelta

_LOST = "the connection to Millrace was lost before the answer was complete"


class ConnectionLostError(ConnectionError):
    """The connection closed before the answer was complete."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call by the model. Reply with a `function_call_output`, or with a `custom_tool_call_output`."""

    call_id: str
    name: str
    arguments: str  # JSON text; of a custom tool any text
    namespace: str = ""
    is_custom: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer and its bill. Money is in dollars."""

    id: str  # for `previous_response_id`
    text: str
    refusal: str  # text that the provider marked as a refusal
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    status: str  # completed, incomplete or cancelled
    model: str
    route: str | None  # small, large or cache
    cache: str | None  # miss, exact, semantic or joined
    check: str | None  # passed, or the check that the small model's answer failed
    reason: str | None  # why it is incomplete
    input_tokens: int
    output_tokens: int
    cost_usd: float
    saved_usd: float


class Stream:
    """An async iterator of events. `cancel()` cancels the request; so does leaving `async with` early."""

    def __init__(
        self,
        event_id: str,
        lane: str | None,
        send_cancel: Callable[[Stream], None],
        fields: dict[str, Any] | None = None,
    ) -> None:
        self.event_id = event_id
        self.asked_lane = lane
        self.lane: str | None = None  # set when the request is sent
        self.fields = fields or {}  # of the request; empty for a resumed response
        self.id: str | None = None  # of the response; set by its first event
        self.response: wire.ResponseBody | None = None  # set by the first event, complete after the terminal
        self.ended = False
        self.is_cancelled = False  # `cancel` was called
        self.seen = -1  # the last `sequence_number`
        self.epoch: str | None = None  # of the server process that runs it
        self._send_cancel = send_cancel
        self._events: deque[Event] = deque()
        self._error: Exception | None = None
        self._changed = asyncio.Event()
        self._deltas: list[Delta] = []  # those not taken back

    @property
    def text(self) -> str:
        """The text so far, without what was taken back, after the events read until now."""
        return self._joined(wire.TextDelta)

    @property
    def reasoning(self) -> str:
        """The model's reasoning so far, if its provider shows it."""
        return self._joined(wire.ReasoningDelta, wire.SummaryDelta)

    @property
    def refusal(self) -> str:
        """The text so far that the provider marked as a refusal."""
        return self._joined(wire.RefusalDelta)

    @property
    def is_detached(self) -> bool:
        """Whether the server keeps running it after a disconnect."""
        return not self.fields or self._option("on_disconnect") == "detach"

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it again is safe: a repeat with an `idempotency_key` is billed once."""
        return self._option("idempotency_key") is not None

    def cancel(self) -> None:
        """Ask the server to stop. The terminal event still arrives, with the cost."""
        if not self.ended:
            self._send_cancel(self)

    async def reply(self) -> Reply:
        """Read to the end and return the answer. Raises `MillraceError` if it failed."""
        async for _ in self:
            pass
        return self.result()

    def result(self) -> Reply:
        """Return the answer of a stream that was read to its end. Raises `MillraceError` if it failed."""
        assert self.response is not None, "a stream that ends without an error has a terminal"
        if self.response.error is not None:
            raise error_of(self.response.error)
        return _reply(self.response)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await self.wait()
        event = self.poll()
        if event is None:
            raise StopAsyncIteration
        return event

    async def wait(self) -> None:
        """Wait until there is an event to read, or the stream has ended."""
        while not self._events and not self.ended:
            self._changed.clear()
            await self._changed.wait()

    def poll(self) -> Event | None:
        """Return the next event that has arrived and update the text; None if there is none now, or no more.

        Raises the stream's error after the last event. It may be called in another thread than the client's.
        """
        ended = self.ended  # before the events, since the last one is queued before it is set
        if self._events:
            event = self._events.popleft()
            self._apply(event)
            return event
        if ended and self._error is not None:
            raise self._error
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def take(self, event: Event) -> None:
        """Queue the next event of this request; called by the client."""
        if isinstance(event, wire.Event):
            self.seen = event.sequence_number
        match event:
            case wire.Created() | wire.InProgress():
                self.response, self.id = event.response, event.response.id
            case wire.Completed() | wire.Failed() | wire.Incomplete():
                self.response = event.response
            case wire.Error():
                self.fail(error_of(event.error))
                return
        self._events.append(event)
        self.ended = self.ended or isinstance(event, TERMINALS)
        self._changed.set()

    def _apply(self, event: Event) -> None:
        """Update the text when an event is read; `created` clears it, as a request may be sent again."""
        match event:
            case wire.Created():
                self._deltas = []
            case wire.TextDelta() | wire.ReasoningDelta() | wire.SummaryDelta() | wire.RefusalDelta():
                self._deltas.append(event)
            case wire.Revise():
                last_kept, item = event.keep_through, event.item_id
                self._deltas = [
                    delta for delta in self._deltas if delta.item_id != item or delta.sequence_number <= last_kept
                ]

    def _joined(self, *kinds: type[Delta]) -> str:
        return "".join(delta.delta for delta in self._deltas if isinstance(delta, kinds))

    def fail(self, error: Exception) -> None:
        """End without a terminal event; the reader gets `error` after the queued events."""
        if not self.ended:
            self._error = error
            self.ended = True
        self._changed.set()

    def begin_again(self) -> None:
        """Forget the previous response, before the same request is sent again."""
        self.id, self.seen, self.epoch = None, -1, None

    def _option(self, name: str) -> Any:
        options, metadata = self.fields.get("millrace"), self.fields.get("metadata")
        value = options.get(name) if isinstance(options, dict) else None
        return value or (metadata.get(f"millrace.{name}") if isinstance(metadata, dict) else None)


def lost_error(message: str = _LOST) -> ConnectionLostError:
    """Return the error of a stream whose terminal event will not arrive."""
    return ConnectionLostError(message)


def error_of(body: wire.ErrorBody) -> MillraceError:
    """Return the exception for an error sent by the server."""
    retry = body.retry_after_ms if isinstance(body.retry_after_ms, int) else None
    rule = rule_of(body.code, body.type)
    return MillraceError(body.code, body.message, param=body.param, retry_after_ms=retry, rule=rule)


def _reply(response: wire.ResponseBody) -> Reply:
    usage, metadata = response.usage, response.metadata
    texts = [part for item in response.output if isinstance(item, wire.OutputMessage) for part in item.content]
    reasoning = [item for item in response.output if isinstance(item, wire.Reasoning)]
    thoughts = [part.text for item in reasoning for part in item.content]
    thoughts += [part.text for item in reasoning for part in item.summary]
    calls = [item for item in response.output if isinstance(item, wire.CallItem)]
    return Reply(
        id=response.id,
        text=response.output_text,
        refusal="".join(part.refusal for part in texts if isinstance(part, wire.OutputRefusal)),
        reasoning="".join(thoughts),
        tool_calls=tuple(map(_tool_call, calls)),
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


def _tool_call(call: wire.CallItem) -> ToolCall:
    is_custom = isinstance(call, wire.CustomCall)
    arguments = call.input if isinstance(call, wire.CustomCall) else call.arguments
    return ToolCall(call.call_id, call.name, arguments, call.namespace or "", is_custom)
