"""The dialect of the AI SDK: a response as one step of a UI message.

All of its clients understand that a step is reset, so text is shown at once, and taken back where it has to be.
"""

from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from millrace.dialects import told
from millrace.dialects.chat import error_of
from millrace.dialects.metadata import metadata_of
from millrace.dialects.projection import Dialect, Projection
from millrace.errors import MillraceError
from millrace.funnel.facts import Ended, Fact, Metered, Revised, Routed, Started
from millrace.funnel.response_log import ResponseLog
from millrace.types import Aside, CallPiece, OwnFields, Refusal, Sealed, Status, Thought, ToolCall, calls_of
from millrace.wire import carried, responses, ui_chunks as wire
from millrace.wire.ui_steps import Earlier

_CUT: dict[str | None, wire.FinishReason] = {"max_output_tokens": "length", "content_filter": "content-filter"}
_NO_JSON = "the model wrote arguments that are no JSON object"


class UiMessageProjection(Projection):
    """A subscriber of a response that makes the chunks of a step. `earlier` are those of its message before it."""

    __slots__ = ("_calls", "_is_carrying", "_open", "earlier")

    def __init__(self, response: ResponseLog, created_at: int, *, earlier: Earlier | None) -> None:
        super().__init__(response, speculative=True)
        self.earlier = earlier
        self.event_log.log_bytes += 0 if earlier is None else earlier.size
        self._open = ""  # the part that is: text, reasoning or none
        self._calls: list[CallPiece] = []
        self._is_carrying = False  # the provider wants more back than text and calls

    @property
    def is_metered(self) -> bool:
        """Clients are told."""
        return True

    @property
    def start(self) -> wire.StartChunk:
        """The first chunk: of a message that goes on, or of a new one."""
        new = "msg_" + self._request.id.removeprefix("resp_")
        return wire.StartChunk(message_id=new if self.earlier is None else self.earlier.message_id)

    def _show_text(self, deltas: list[str]) -> None:
        if self._open != wire.TEXT:
            self._close()
            self._open = wire.TEXT
            self.event_log.event(wire.TextStartChunk())
        self.event_log.text(deltas)
        self._go_on()

    def _show_aside(self, aside: Aside) -> None:
        match aside:
            case Thought():
                self._think(aside.text)
            case Refusal():  # a message has no other place for its words
                self._show_text([aside.text])
            case CallPiece():
                self._calls.append(aside)
                self._is_carrying = self._is_carrying or bool(aside.own_fields)
            case OwnFields() | Sealed():
                self._is_carrying = True

    def _show_fact(self, fact: Fact) -> None:
        match fact:
            case Started():
                self.event_log.event(self.start)
                self.event_log.event(wire.StartStepChunk())
                if (notice := told.notice(self._request)) is not None:
                    self.event_log.event(wire.NoticeChunk(data=wire.fields_of(notice)))
            case Routed():
                self.event_log.event(wire.RouteChunk(data=wire.fields_of(told.route(self._request, fact))))
            case Revised():
                self._reset(fact)
            case Metered():
                self._meter(fact)
            case Ended():
                self._end(fact)
                self.event_log.finish()

    def _think(self, text: str) -> None:
        self._is_plain = False  # text after it begins another part
        if self._open != wire.REASONING:
            self._close()
            self._open = wire.REASONING
            self.event_log.event(wire.ReasoningStartChunk())
        self.event_log.event(wire.ReasoningDeltaChunk(delta=text), len(text))

    def _close(self) -> None:
        """Close the part that is open."""
        if self._open:
            self.event_log.event(wire.TextEndChunk() if self._open == wire.TEXT else wire.ReasoningEndChunk())
            self._open = ""
            self._is_plain = False

    def _reset(self, fact: Revised) -> None:
        """Take back what was shown. The SDK forgets the parts that are open, too."""
        self._open = ""
        self._is_plain = False
        self._calls.clear()
        self._is_carrying = False
        revise = responses.Revise(
            response_id=self._request.id,
            item_id="",
            from_model=fact.from_model,
            to_model=fact.to_model,
            reason=fact.reason,
        )
        self.event_log.event(wire.ReviseChunk(data=wire.fields_of(revise)))
        self.event_log.event(wire.ResetStepChunk())

    def _meter(self, fact: Metered) -> None:
        self.event_log.event(wire.UsageChunk(data=wire.fields_of(told.usage(self._request, fact.statement))))

    def _end(self, fact: Ended) -> None:
        self._close()
        if fact.accepted:
            self._show_calls()
            self.event_log.event(wire.FinishStepChunk())
        self._meter(Metered(fact.statement))
        self.event_log.event(wire.EndChunk(data=self._how(fact)))
        if fact.accepted:
            self.event_log.event(wire.FinishChunk(finish_reason=finish_of(fact, calls=bool(self._calls))))
        elif fact.status is Status.CANCELLED:
            self.event_log.event(wire.AbortChunk(reason="cancelled"))
        else:
            self._show_fault(error_of(fact))

    def _how(self, fact: Ended) -> wire.EndData:
        return wire.EndData(
            response_id=self._request.id,
            status=fact.status.value,
            model=fact.model or self._request.model,
            reason=fact.reason,
            metadata=metadata_of(self._request, fact),
            usage=responses.usage_body(fact.statement),
        )

    def _show_calls(self) -> None:
        """Add the calls, whole, and what the provider wants back with them and with the answer."""
        for call in calls_of(self._calls):
            self.event_log.event(_tool_input(call), len(call.arguments))
        if self._is_carrying:
            message = self._log.message()
            own_fields = {call.id: call.own_fields for call in message.calls}
            word = carried.write(message.own_fields, own_fields, message.sealed)
            self.event_log.event(wire.CustomChunk(provider_metadata={wire.OURS: {carried.FIELD: word}}), len(word))

    def _show_fault(self, error: MillraceError) -> None:
        self.event_log.event(wire.FailureChunk(data=responses.error_body(error)))
        self.event_log.event(wire.ErrorChunk(error_text=error.message))


def _tool_input(call: ToolCall) -> wire.ToolInputChunk | wire.ToolInputErrorChunk:
    """Return a call as a part. What it needs to be sent back, and a part has no place for, is metadata."""
    ours: dict[str, Any] = {name: value for name, value in (("namespace", call.namespace),) if value}
    if call.is_custom:
        ours["custom"] = True
    metadata = {wire.OURS: ours} if ours else UNSET
    given: Any = call.arguments
    arguments = call.arguments or "{}"  # some models write nothing for a tool that takes nothing
    if not call.is_custom:
        try:
            is_object = isinstance(msgspec.json.decode(arguments), dict)
        except (msgspec.DecodeError, RecursionError):
            is_object = False
        if not is_object:
            return wire.ToolInputErrorChunk(
                tool_call_id=call.id,
                tool_name=call.name,
                input=call.arguments,
                error_text=_NO_JSON,
                provider_metadata=metadata,
            )
        given = msgspec.Raw(arguments.encode())
    return wire.ToolInputChunk(tool_call_id=call.id, tool_name=call.name, input=given, provider_metadata=metadata)


def in_ui_messages(earlier: Earlier | None = None) -> Dialect[UiMessageProjection]:
    """Return the dialect, for a message that goes on, or for a new one."""
    return Dialect("ui_messages", variant=False, make=partial(UiMessageProjection, earlier=earlier))


def finish_of(ended: Ended, *, calls: bool) -> wire.FinishReason:
    """Return the finish reason of an accepted answer. A cap goes before tool calls."""
    if ended.status is not Status.COMPLETED:
        return _CUT.get(ended.reason, "length")
    return "tool-calls" if calls else "stop"
