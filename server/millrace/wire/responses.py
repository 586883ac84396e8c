"""Server to client: the events of the Responses WebSocket mode, and Millrace's own beside them.

The structs are the contract: the server encodes them, the client decodes them. Only the text delta, the one event
there is per token, is written by a template (`DeltaWriter`) and read by its struct.
"""

from typing import Any

import msgspec
import orjson
from msgspec import UNSET, Struct, UnsetType

from millrace.errors import MillraceError
from millrace.types import Charge, Statement, Usage

SUBPROTOCOL = "millrace.v1"


class OutputText(Struct, tag="output_text"):
    """The one content part of an answer."""

    text: str
    annotations: list[Any] = []
    logprobs: list[Any] = []


class OutputMessage(Struct, tag="message"):
    """The one output item of an answer."""

    id: str
    status: str
    content: list[OutputText]
    role: str = "assistant"


class InputDetails(Struct):
    """How many input tokens the provider had cached."""

    cached_tokens: int


class OutputDetails(Struct):
    """How many output tokens went into reasoning."""

    reasoning_tokens: int


class Attempt(Struct):
    """One upstream call on the bill."""

    model: str
    tokens: int  # input and output
    cost_usd: float
    outcome: str
    estimated: bool = False


class UsageBody(Struct):
    """Tokens of the answer shown; dollars of the whole bill, which is the sum of the attempts."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int
    cost_usd: float
    saved_usd: float
    attempts: list[Attempt] = []
    estimated: bool = False  # some of it, tokens or dollars


class ErrorBody(Struct):
    """What went wrong; `param` is the path of the fault in the request."""

    type: str
    code: str
    message: str
    param: str | None = None
    retry_after_ms: int | UnsetType = UNSET


class IncompleteDetails(Struct):
    """Why an answer is not whole."""

    reason: str


class ResponseBody(Struct):
    """The response as the lifecycle events carry it."""

    id: str
    created_at: int
    status: str
    model: str
    metadata: dict[str, str]
    object: str = "response"
    output: list[OutputMessage] = []
    usage: UsageBody | None = None
    error: ErrorBody | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    previous_response_id: str | None = None
    parallel_tool_calls: bool = True
    tool_choice: str = "auto"
    tools: list[Any] = []


class Event(Struct, kw_only=True):
    """An event of a response: numbered, on its lane."""

    sequence_number: int
    stream_id: str | UnsetType = UNSET


class Created(Event, tag="response.created"):
    """The request starts to run."""

    response: ResponseBody


class InProgress(Event, tag="response.in_progress"):
    """It runs."""

    response: ResponseBody


class ItemAdded(Event, tag="response.output_item.added"):
    """The first words are about to follow."""

    item: OutputMessage
    output_index: int = 0


class PartAdded(Event, tag="response.content_part.added"):
    """The text part opens."""

    item_id: str
    part: OutputText
    output_index: int = 0
    content_index: int = 0


class TextDelta(Event, tag="response.output_text.delta"):
    """Some words. Written by `DeltaWriter`."""

    item_id: str
    delta: str
    output_index: int = 0
    content_index: int = 0
    logprobs: list[Any] = []


class TextDone(Event, tag="response.output_text.done"):
    """The accepted text, whole."""

    item_id: str
    text: str
    output_index: int = 0
    content_index: int = 0
    logprobs: list[Any] = []


class PartDone(Event, tag="response.content_part.done"):
    """The text part closes."""

    item_id: str
    part: OutputText
    output_index: int = 0
    content_index: int = 0


class ItemDone(Event, tag="response.output_item.done"):
    """The item closes."""

    item: OutputMessage
    output_index: int = 0


class Completed(Event, tag="response.completed"):
    """Terminal: a whole answer."""

    response: ResponseBody


class Failed(Event, tag="response.failed"):
    """Terminal: no answer, or a broken one."""

    response: ResponseBody


class Incomplete(Event, tag="response.incomplete"):
    """Terminal: cut, filtered or cancelled."""

    response: ResponseBody


class Route(Event, tag="millrace.route"):
    """Who is going to answer, and why. `score` is the router's, `age_s` a cached answer's."""

    response_id: str
    strategy: str  # a newer server may have more of these than this version knows
    model: str
    tier: str | None
    reason: str
    cache: str
    score: float | None = None
    similarity: float | UnsetType = UNSET
    entry_id: str | UnsetType = UNSET
    age_s: float | UnsetType = UNSET


class Revise(Event, tag="millrace.revise"):
    """Take words back: drop this item's deltas numbered above `keep_through` (-1: all)."""

    response_id: str
    item_id: str
    from_model: str
    to_model: str
    reason: str
    keep_through: int = -1


class UsageSoFar(Event, tag="millrace.usage"):
    """What it has used and cost until now; at most one a second."""

    response_id: str
    tokens: int
    cost_usd: float
    saved_usd: float
    attempts: list[Attempt]


class Limits(Struct):
    """What one connection may do."""

    in_flight: int
    queued: int
    lanes: int
    max_message_bytes: int


class Hello(Struct, tag="millrace.hello", kw_only=True):
    """First event on a negotiated connection. `epoch` names the process; `resume` is what it can replay."""

    connection_id: str
    epoch: str
    version: str
    limits: Limits
    heartbeat_s: float
    resume: None = None


class Error(Struct, tag="error", kw_only=True):
    """A request that never became a response."""

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
    | Completed
    | Failed
    | Incomplete
    | Route
    | Revise
    | UsageSoFar
    | Hello
    | Error
)


encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[ServerEvent] = msgspec.json.Decoder(ServerEvent)


def decode(raw: str | bytes) -> ServerEvent | None:
    """Read one event; None for one this version does not know, which a client must let pass."""
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError:
        return None


class DeltaWriter:
    """Writes the text deltas of one item on one lane: a prefix, the escaped words, a suffix."""

    __slots__ = ("_prefix", "_suffix")

    def __init__(self, item_id: str, stream_id: str | None) -> None:
        lane = b"" if stream_id is None else b',"stream_id":' + orjson.dumps(stream_id)
        self._prefix = (
            b'{"type":"response.output_text.delta","item_id":'
            + orjson.dumps(item_id)
            + b',"output_index":0,"content_index":0,"logprobs":[]'
            + lane
            + b',"delta":'
        )
        self._suffix = b',"sequence_number":%d}'

    def write(self, delta: str, sequence_number: int) -> bytes:
        """Return one frame."""
        return self._prefix + orjson.dumps(delta) + self._suffix % sequence_number


def usage_body(statement: Statement) -> UsageBody:
    """Return a statement as the standard usage object, money beside it."""
    usage = statement.usage
    return UsageBody(
        input_tokens=usage.input_tokens,
        input_tokens_details=InputDetails(usage.cached_input_tokens),
        output_tokens=usage.output_tokens,
        output_tokens_details=OutputDetails(usage.reasoning_tokens),
        total_tokens=tokens(usage),
        cost_usd=float(statement.cost),
        saved_usd=float(statement.saved),
        attempts=[attempt(charge) for charge in statement.charges],
        estimated=usage.estimated or any(charge.usage.estimated for charge in statement.charges),
    )


def attempt(charge: Charge) -> Attempt:
    """Return one charge as the wire shows it."""
    return Attempt(charge.model, tokens(charge.usage), float(charge.cost), charge.outcome, charge.usage.estimated)


def tokens(usage: Usage) -> int:
    """Return all tokens of a call."""
    return usage.input_tokens + usage.output_tokens


def error_body(error: MillraceError) -> ErrorBody:
    """Return an error as the wire shows it."""
    retry: int | UnsetType = UNSET if error.retry_after_ms is None else error.retry_after_ms
    return ErrorBody(error.rule.type, error.code, error.message, error.param, retry)


def error_event(error: MillraceError, stream_id: str | None = None, event_id: str | None = None) -> bytes:
    """Return the frame that refuses a request."""
    return encode(
        Error(
            status=error.rule.status,
            error=error_body(error),
            stream_id=UNSET if stream_id is None else stream_id,
            event_id=UNSET if event_id is None else event_id,
        )
    )
