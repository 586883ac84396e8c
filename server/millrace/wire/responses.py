"""Server to client: the events of the Responses API, and Millrace's own.

The structs define the format: the server encodes them, the client decodes them. Only the text delta, one event per
token, is written from a template (`DeltaWriter`), which is faster. Its struct decodes it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
from msgspec import UNSET, Struct, UnsetType

from millrace.errors import MillraceError
from millrace.types import Scored
from millrace.wire.bodies import (
    Attempt as Attempt,
    BudgetSoFar as BudgetSoFar,
    CallItem as CallItem,
    ContentPart as ContentPart,
    CustomCall as CustomCall,
    ErrorBody as ErrorBody,
    FunctionCall as FunctionCall,
    IncompleteDetails as IncompleteDetails,
    InputDetails as InputDetails,
    Item as Item,
    OutputDetails as OutputDetails,
    OutputMessage as OutputMessage,
    OutputRefusal as OutputRefusal,
    OutputText as OutputText,
    Part as Part,
    Reasoning as Reasoning,
    ReasoningText as ReasoningText,
    ResponseBody as ResponseBody,
    SummaryText as SummaryText,
    UsageBody as UsageBody,
    attempt as attempt,
    call_item as call_item,
    error_body as error_body,
    output_text as output_text,
    tokens as tokens,
    tool_choice as tool_choice,
    tools_of as tools_of,
    usage_body as usage_body,
)

KEEP_ALIVE = b": still there\n\n"  # a comment of a server-sent stream, which no client shows
SUBPROTOCOL = "millrace.v1"
_NO_LOGPROBS = b'"logprobs":[]'


class Event(Struct, kw_only=True, gc=False):
    """An event of a response. It is numbered when it is written, after merging."""

    sequence_number: int = 0
    stream_id: str | UnsetType = UNSET


class Created(Event, tag="response.created"):
    """The request has started."""

    response: ResponseBody


class InProgress(Event, tag="response.in_progress"):
    """The request is running."""

    response: ResponseBody


class ItemAdded(Event, tag="response.output_item.added"):
    """An output item starts. Its content follows."""

    item: Item
    output_index: int = 0


class PartAdded(Event, tag="response.content_part.added"):
    """A content part starts."""

    item_id: str
    part: ContentPart
    output_index: int = 0
    content_index: int = 0


class TextDelta(Event, tag="response.output_text.delta"):
    """A piece of the answer's text. Written by `DeltaWriter`."""

    item_id: str
    delta: str
    output_index: int = 0
    content_index: int = 0
    logprobs: Sequence[Any] = ()


class TextDone(Event, tag="response.output_text.done"):
    """The complete text, accepted."""

    item_id: str
    text: str
    output_index: int = 0
    content_index: int = 0
    logprobs: Sequence[Any] = ()


class PartDone(Event, tag="response.content_part.done"):
    """A content part is complete."""

    item_id: str
    part: ContentPart
    output_index: int = 0
    content_index: int = 0


class ItemDone(Event, tag="response.output_item.done"):
    """An output item is complete."""

    item: Item
    output_index: int = 0


class RefusalDelta(Event, tag="response.refusal.delta"):
    """A piece of a refusal."""

    item_id: str
    delta: str
    output_index: int = 0
    content_index: int = 0


class RefusalDone(Event, tag="response.refusal.done"):
    """The complete refusal."""

    item_id: str
    refusal: str
    output_index: int = 0
    content_index: int = 0


class ReasoningDelta(Event, tag="response.reasoning_text.delta"):
    """A piece of the reasoning."""

    item_id: str
    delta: str
    output_index: int = 0
    content_index: int = 0


class ReasoningDone(Event, tag="response.reasoning_text.done"):
    """The complete reasoning."""

    item_id: str
    text: str
    output_index: int = 0
    content_index: int = 0


class SummaryPartAdded(Event, tag="response.reasoning_summary_part.added"):
    """The reasoning starts, for a client that asked for a summary."""

    item_id: str
    part: SummaryText
    output_index: int = 0
    summary_index: int = 0


class SummaryDelta(Event, tag="response.reasoning_summary_text.delta"):
    """A piece of the reasoning, for a client that asked for a summary."""

    item_id: str
    delta: str
    output_index: int = 0
    summary_index: int = 0


class SummaryDone(Event, tag="response.reasoning_summary_text.done"):
    """The complete reasoning, for a client that asked for a summary."""

    item_id: str
    text: str
    output_index: int = 0
    summary_index: int = 0


class SummaryPartDone(Event, tag="response.reasoning_summary_part.done"):
    """The reasoning is complete, for a client that asked for a summary."""

    item_id: str
    part: SummaryText
    output_index: int = 0
    summary_index: int = 0


class ArgumentsDelta(Event, tag="response.function_call_arguments.delta"):
    """A piece of a tool call's arguments. It is not sent before the answer is accepted."""

    item_id: str
    delta: str
    output_index: int = 0


class ArgumentsDone(Event, tag="response.function_call_arguments.done"):
    """The complete arguments of a tool call."""

    item_id: str
    name: str
    arguments: str
    output_index: int = 0


class InputDelta(Event, tag="response.custom_tool_call_input.delta"):
    """A piece of the text that a custom tool is called with. It is not sent before the answer is accepted."""

    item_id: str
    delta: str
    output_index: int = 0


class InputDone(Event, tag="response.custom_tool_call_input.done"):
    """The complete text that a custom tool is called with."""

    item_id: str
    input: str
    output_index: int = 0


class Completed(Event, tag="response.completed"):
    """Terminal: the answer is complete."""

    response: ResponseBody


class Failed(Event, tag="response.failed"):
    """Terminal: the request failed."""

    response: ResponseBody


class Incomplete(Event, tag="response.incomplete"):
    """Terminal: the answer was cut short, filtered or cancelled."""

    response: ResponseBody


class ModelFailure(Struct, gc=False):
    """Why a model did not answer. `message` names the model and has its provider's words."""

    model: str
    code: str
    message: str


class Notice(Event, tag="millrace.notice"):
    """A budget has reached a step: told once for a key, a budget, its period and a step."""

    response_id: str
    code: str  # "budget"; a newer server may send others
    message: str
    budget: BudgetSoFar


class Route(Event, tag="millrace.route"):
    """Which model or cache answers, and why. `age_s` is the age of a cached answer; `score` is null as yet.

    `unchecked` has the paths of schemas, or of patterns in them, that are not checked here. `failed` has the models
    that would have answered, but failed. Another event follows when the model that was named has failed.
    """

    response_id: str
    strategy: str  # no enum: a newer server may send other values
    model: str
    tier: str | None
    reason: str
    cache: str
    score: float | None = None
    trimmed_tokens: int | UnsetType = UNSET  # cut from the prompt
    max_output_tokens: int | UnsetType = UNSET  # the operator's cap, if no other one is lower
    similarity: float | UnsetType = UNSET
    entry_id: str | UnsetType = UNSET
    age_s: float | UnsetType = UNSET
    unchecked: list[str] | UnsetType = UNSET
    failed: list[ModelFailure] | UnsetType = UNSET
    session: str | UnsetType = UNSET  # that the request belongs to, if it names or continues one
    budget: BudgetSoFar | UnsetType = UNSET  # of the request, if one has reached a step


class Revise(Event, tag="millrace.revise"):
    """Takes text back: the client drops this item's deltas numbered above `keep_through` (-1: all)."""

    response_id: str
    item_id: str
    from_model: str
    to_model: str
    reason: str
    keep_through: int = -1


class UsageSoFar(Event, tag="millrace.usage"):
    """Tokens and cost so far. At most one event a second."""

    response_id: str
    tokens: int
    cost_usd: float
    saved_usd: float
    attempts: Sequence[Attempt]


class ConnectionLimits(Struct, gc=False):
    """The limits of one connection."""

    in_flight: int
    queued: int
    lanes: int
    max_message_bytes: int
    max_age_s: float


class ResumeLimits(Struct, gc=False):
    """What can be replayed: at most `bytes`, for `ttl_s` after the end, for `detached_s` while nobody listens."""

    ttl_s: float
    detached_s: float
    bytes: int


class Hello(Struct, tag="millrace.hello", kw_only=True, gc=False):
    """The first event on a negotiated connection. `epoch` identifies the process; `resume` says what it can replay."""

    connection_id: str
    epoch: str
    version: str
    limits: ConnectionLimits
    heartbeat_s: float
    resume: ResumeLimits


class Resumed(Struct, tag="millrace.resumed", kw_only=True, gc=False):
    """A replay starts: events `from` to `through` are repeated, later ones are new.

    If nothing was missed, `through` is less than `from`. `gap` is always false: a replay with a gap is an `error`.
    """

    response_id: str
    from_: int = msgspec.field(name="from")
    through: int
    gap: bool = False
    stream_id: str | UnsetType = UNSET


class Draining(Struct, tag="millrace.draining", kw_only=True, gc=False):
    """The connection takes no new requests. Running ones have `deadline_ms`. Reconnect after `reconnect_after_ms`."""

    deadline_ms: int
    reconnect_after_ms: int


class Pong(Struct, tag="millrace.pong", kw_only=True, gc=False):
    """The answer to a `millrace.ping`, with the same `t`."""

    t: Any = None


class SteerFailed(Struct, tag="response.steer.failed", kw_only=True, gc=False):
    """Steering is not supported. `steer` repeats what was sent."""

    error: ErrorBody
    steer: dict[str, Any]
    stream_id: str | UnsetType = UNSET
    event_id: str | UnsetType = UNSET


class Deleted(Struct, kw_only=True, gc=False):
    """The answer to a `DELETE`."""

    id: str
    object: str = "response"
    deleted: bool = True


class Error(Struct, tag="error", kw_only=True, gc=False):
    """A request that was refused before it became a response."""

    status: int
    error: ErrorBody
    stream_id: str | UnsetType = UNSET
    event_id: str | UnsetType = UNSET


Terminal = Completed | Failed | Incomplete
ServerEvent = (
    Created
    | InProgress
    | ItemAdded
    | PartAdded
    | TextDelta
    | TextDone
    | PartDone
    | ItemDone
    | RefusalDelta
    | RefusalDone
    | ReasoningDelta
    | ReasoningDone
    | SummaryPartAdded
    | SummaryDelta
    | SummaryDone
    | SummaryPartDone
    | ArgumentsDelta
    | ArgumentsDone
    | InputDelta
    | InputDone
    | Completed
    | Failed
    | Incomplete
    | Notice
    | Route
    | Revise
    | UsageSoFar
    | Hello
    | Resumed
    | Draining
    | Pong
    | SteerFailed
    | Error
)


encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[ServerEvent] = msgspec.json.Decoder(ServerEvent)


def decode(raw: str | bytes) -> ServerEvent | None:
    """Decode one event. Return None if this version does not know it; clients must ignore it."""
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError:
        return None


class DeltaWriter:
    """Writes the text deltas of one item on one lane: prefix, escaped text, suffix."""

    __slots__ = ("_prefix", "_suffix")

    def __init__(self, item_id: str, output_index: int, content_index: int, stream_id: str | UnsetType) -> None:
        lane = b"" if stream_id is UNSET else b',"stream_id":' + orjson.dumps(stream_id)
        self._prefix = (
            b'{"type":"response.output_text.delta","item_id":'
            + orjson.dumps(item_id)
            + b',"output_index":%d,"content_index":%d,%b' % (output_index, content_index, _NO_LOGPROBS)
            + lane
            + b',"delta":'
        )
        self._suffix = b',"sequence_number":%d}'

    def write(self, delta: str, sequence_number: int) -> bytes:
        """Return one frame."""
        if type(delta) is Scored:
            prefix = self._prefix.replace(_NO_LOGPROBS, b'"logprobs":[%b]' % delta.scores, 1)
            return prefix + orjson.dumps(delta) + self._suffix % sequence_number
        return self._prefix + orjson.dumps(delta) + self._suffix % sequence_number


def type_of(event: Struct) -> str:
    """Return the `type` of an event."""
    return str(event.__struct_config__.tag)


def lane(stream_id: str | None) -> str | UnsetType:
    """Return the `stream_id` of an event; it is unset on the default lane."""
    return UNSET if stream_id is None else stream_id


def steer_failed(steer: dict[str, Any], stream_id: str | None, event_id: str | None) -> bytes:
    """Return the frame that refuses steering and repeats what was sent."""
    message = "response.steer: steering is not supported; cancel the response and send a new request"
    sent: dict[str, Any] = {name: steer[name] for name in ("id", "input", "previous_response_id") if name in steer}
    return encode(
        SteerFailed(
            error=ErrorBody("invalid_request_error", "steering_unsupported", message),
            steer=sent,
            stream_id=lane(stream_id),
            event_id=lane(event_id),
        )
    )


def error_event(error: MillraceError, stream_id: str | None = None, event_id: str | None = None) -> bytes:
    """Return the frame that refuses a request."""
    return encode(
        Error(
            status=error.rule.status,
            error=error_body(error),
            stream_id=lane(stream_id),
            event_id=lane(event_id),
        )
    )
