"""What the AI SDK's chat transport receives: frames, and the UI message chunks in them. No I/O.

The structs define the format, as version 7 of the SDK reads it: it closes the connection on a frame or a chunk that it
does not know. Only `data-*` parts are free. Those of Millrace are transient: the SDK hands them to `onData` and keeps
them out of the message. Text deltas, one chunk per token, are written from a template, which is faster.
"""

from typing import Any, Literal

import msgspec
import orjson
from msgspec import UNSET, Struct, UnsetType

from millrace.errors import MillraceError
from millrace.wire.responses import ErrorBody, Event, UsageBody, encode, error_body

TEXT, REASONING = "text", "reasoning"  # ids of the parts: one of each is open at most
CARRIED = "millrace.carried"  # the kind of a part that only Millrace reads
OURS = "millrace"  # whose metadata it is

FinishReason = Literal["stop", "length", "content-filter", "tool-calls", "error", "interrupted", "other"]
ProviderMetadata = dict[str, dict[str, Any]]


class UiChunk(Struct, kw_only=True, gc=False):
    """One piece of a message. Its number is written beside it."""


class StartChunk(UiChunk, tag="start"):
    """The message begins, or goes on after the results of its tools: then the id is that of the message."""

    message_id: str = msgspec.field(name="messageId")


class StartStepChunk(UiChunk, tag="start-step"):
    """A step begins: the answer of one response."""


class ResetStepChunk(UiChunk, tag="reset-step"):
    """All that the step has shown so far is taken back."""


class FinishStepChunk(UiChunk, tag="finish-step"):
    """The step has ended."""


class TextStartChunk(UiChunk, tag="text-start"):
    """A text begins."""

    id: str = TEXT


class TextDeltaChunk(UiChunk, tag="text-delta", kw_only=True):
    """More text."""

    id: str = TEXT
    delta: str


class TextEndChunk(UiChunk, tag="text-end"):
    """A text is complete."""

    id: str = TEXT


class ReasoningStartChunk(UiChunk, tag="reasoning-start"):
    """The model thinks."""

    id: str = REASONING


class ReasoningDeltaChunk(UiChunk, tag="reasoning-delta", kw_only=True):
    """More of what it thinks."""

    id: str = REASONING
    delta: str


class ReasoningEndChunk(UiChunk, tag="reasoning-end"):
    """It has thought."""

    id: str = REASONING


class ToolInputChunk(UiChunk, tag="tool-input-available"):
    """The model calls a tool. `input` is JSON; of a custom tool it is the text that the model wrote."""

    tool_call_id: str = msgspec.field(name="toolCallId")
    tool_name: str = msgspec.field(name="toolName")
    input: Any
    provider_metadata: ProviderMetadata | UnsetType = msgspec.field(name="providerMetadata", default=UNSET)


class ToolInputErrorChunk(UiChunk, tag="tool-input-error"):
    """The model calls a tool with what is no JSON."""

    tool_call_id: str = msgspec.field(name="toolCallId")
    tool_name: str = msgspec.field(name="toolName")
    input: str
    error_text: str = msgspec.field(name="errorText")
    provider_metadata: ProviderMetadata | UnsetType = msgspec.field(name="providerMetadata", default=UNSET)


class ToolInputStartChunk(UiChunk, tag="tool-input-start"):
    """A call of an earlier step; only where a message that goes on is shown again, as the next four."""

    tool_call_id: str = msgspec.field(name="toolCallId")
    tool_name: str = msgspec.field(name="toolName")
    dynamic: bool
    provider_metadata: ProviderMetadata | UnsetType = msgspec.field(name="providerMetadata", default=UNSET)


class ToolInputDeltaChunk(UiChunk, tag="tool-input-delta"):
    """What it was called with, whole, as JSON."""

    tool_call_id: str = msgspec.field(name="toolCallId")
    input_text_delta: str = msgspec.field(name="inputTextDelta")


class ToolOutputChunk(UiChunk, tag="tool-output-available"):
    """Its result, as the client has sent it."""

    tool_call_id: str = msgspec.field(name="toolCallId")
    output: Any


class ToolOutputErrorChunk(UiChunk, tag="tool-output-error"):
    """It has failed."""

    tool_call_id: str = msgspec.field(name="toolCallId")
    error_text: str = msgspec.field(name="errorText")


class ToolOutputDeniedChunk(UiChunk, tag="tool-output-denied"):
    """The user has not allowed it."""

    tool_call_id: str = msgspec.field(name="toolCallId")


class CustomChunk(UiChunk, tag="custom", kw_only=True):
    """What the provider wants back with the answer, and nobody else can read. The client sends it back as it came."""

    kind: str = CARRIED
    provider_metadata: ProviderMetadata = msgspec.field(name="providerMetadata")


class ErrorChunk(UiChunk, tag="error"):
    """The request has failed. What was shown before it stays."""

    error_text: str = msgspec.field(name="errorText")


class AbortChunk(UiChunk, tag="abort"):
    """The response was cancelled, here or by another client of the chat."""

    reason: str


class FinishChunk(UiChunk, tag="finish"):
    """The message is complete, and why it ended."""

    finish_reason: FinishReason = msgspec.field(name="finishReason")


class Transient(UiChunk, kw_only=True):
    """A part that is told and not kept."""

    transient: Literal[True] = True


class EndData(Struct, kw_only=True, gc=False):
    """How the response ended, as its terminal event has it."""

    response_id: str
    status: str
    model: str
    reason: str | None
    metadata: dict[str, str]
    usage: UsageBody


class NoticeChunk(Transient, tag="data-millrace-notice"):
    """A budget has reached a step. `data` has the fields of the event `millrace.notice`."""

    data: dict[str, Any]


class RouteChunk(Transient, tag="data-millrace-route"):
    """Which model or cache answers, and why: the fields of `millrace.route`."""

    data: dict[str, Any]


class ReviseChunk(Transient, tag="data-millrace-revise"):
    """Why the step was reset: the fields of `millrace.revise`."""

    data: dict[str, Any]


class UsageChunk(Transient, tag="data-millrace-usage"):
    """Tokens and cost so far: the fields of `millrace.usage`. The last one of a response is its bill."""

    data: dict[str, Any]


class EndChunk(Transient, tag="data-millrace-end"):
    """How the response ended."""

    data: EndData


class FailureChunk(Transient, tag="data-millrace-error"):
    """The error of the `error` that follows, with its code."""

    data: ErrorBody


ServerChunk = (
    StartChunk
    | StartStepChunk
    | ResetStepChunk
    | FinishStepChunk
    | TextStartChunk
    | TextDeltaChunk
    | TextEndChunk
    | ReasoningStartChunk
    | ReasoningDeltaChunk
    | ReasoningEndChunk
    | ToolInputChunk
    | ToolInputErrorChunk
    | ToolInputStartChunk
    | ToolInputDeltaChunk
    | ToolOutputChunk
    | ToolOutputErrorChunk
    | ToolOutputDeniedChunk
    | CustomChunk
    | ErrorChunk
    | AbortChunk
    | FinishChunk
    | NoticeChunk
    | RouteChunk
    | ReviseChunk
    | UsageChunk
    | EndChunk
    | FailureChunk
)


class ChunkFrame(Struct, tag="chunk", kw_only=True, gc=False):
    """A chunk of the answer to a request, numbered from 0."""

    request_id: str = msgspec.field(name="requestId")
    sequence: int
    chunk: ServerChunk


class StartFrame(Struct, tag="start", kw_only=True, gc=False):
    """There is a response to be resumed; its chunks follow."""

    request_id: str = msgspec.field(name="requestId")


class EndFrame(Struct, tag="end", kw_only=True, gc=False):
    """No more chunks follow."""

    request_id: str = msgspec.field(name="requestId")


class NoActiveFrame(Struct, tag="no-active", kw_only=True, gc=False):
    """There is no response to be resumed."""

    request_id: str = msgspec.field(name="requestId")


class ErrorFrame(Struct, tag="error", kw_only=True, gc=False):
    """A fault ends the stream of a request in its middle."""

    request_id: str = msgspec.field(name="requestId")
    error_text: str = msgspec.field(name="errorText")


ServerFrame = ChunkFrame | StartFrame | EndFrame | NoActiveFrame | ErrorFrame

_OF_EVENTS = frozenset({"type", "sequence_number", "stream_id", "item_id", "keep_through"})
_DELTA = b',"chunk":{"type":"text-delta","id":"text","delta":'


class ChunkCodec:
    """Writes the chunks of one request as frames."""

    __slots__ = ("_head", "_shift", "is_begun")

    def __init__(self, request_id: str, *, shift: int = 0) -> None:
        """`shift`: so many chunks are written beside, after the first of them."""
        self.is_begun = False  # a chunk has been written
        self._shift = shift
        self._head = b'{"type":"chunk","requestId":' + orjson.dumps(request_id) + b',"sequence":'

    def delta(self, text: str, number: int) -> bytes:
        """Return the frame of a text delta."""
        self.is_begun = True
        return self._head + b"%d" % (number + self._shift) + _DELTA + orjson.dumps(text) + b"}}"

    def event(self, event: UiChunk, number: int) -> bytes:
        """Return the frame of any other chunk."""
        self.is_begun = True
        return self.encoded(encode(event), number + self._shift)

    def encoded(self, chunk: bytes, sequence: int) -> bytes:
        """Return the frame of a chunk that is encoded already."""
        return self._head + b'%d,"chunk":%b}' % (sequence, chunk)


def fields_of(event: Event) -> dict[str, Any]:
    """Return what an event of the Responses mode says, without its place there."""
    fields: dict[str, Any] = msgspec.to_builtins(event)
    return {name: value for name, value in fields.items() if name not in _OF_EVENTS}


def refused(request_id: str, error: MillraceError) -> list[bytes]:
    """Return the frames that answer a request which is refused. The code comes first: an error has no place for it."""
    codec = ChunkCodec(request_id)
    chunks = (FailureChunk(data=error_body(error)), ErrorChunk(error_text=error.message))
    return [*(codec.event(chunk, number) for number, chunk in enumerate(chunks)), ended(request_id)]


def broken(request_id: str, error: MillraceError) -> bytes:
    """Return the frame that ends a stream in its middle."""
    return encode(ErrorFrame(request_id=request_id, error_text=error.message))


def ended(request_id: str) -> bytes:
    """Return the frame after the last chunk."""
    return encode(EndFrame(request_id=request_id))


def resumed(request_id: str) -> bytes:
    """Return the frame before the chunks of a response that is resumed."""
    return encode(StartFrame(request_id=request_id))


def nothing_active(request_id: str) -> bytes:
    """Return the frame that says that there is nothing to resume."""
    return encode(NoActiveFrame(request_id=request_id))
