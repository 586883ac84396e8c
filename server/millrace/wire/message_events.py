"""What the Messages API returns: the events of a stream, or one message; token counts, models and errors. No I/O.

The structs define the format. Only text deltas, one event per token, are written from a template, which is faster.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import orjson
from msgspec import UNSET, Struct, UnsetType

from millrace.errors import FailedWithUsage, MillraceError
from millrace.types import Statement
from millrace.wire.responses import Attempt, usage_body

SERVER_ERROR = 500  # the least status of one
PING = b'event: ping\ndata: {"type":"ping"}\n\n'

# The type of an error, by its status; the type of any other is `invalid_request_error` or `api_error`.
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class CacheCreation(Struct, gc=False):
    """Tokens written to the provider's cache, by how long they are kept."""

    ephemeral_5m_input_tokens: int
    ephemeral_1h_input_tokens: int


class OutputTokens(Struct, gc=False):
    """Output tokens that the model has spent on thinking."""

    thinking_tokens: int


class MessageUsage(Struct, kw_only=True, gc=False):
    """Tokens of the answer shown, and dollars of the whole bill, which is the sum of the attempts.

    As the Messages API counts, `input_tokens` are without those that were read from a cache or written to one. When a
    message starts they are what Millrace has counted, and the rest is not known yet.
    """

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation: CacheCreation | UnsetType = UNSET  # if any were written
    output_tokens: int
    output_tokens_details: OutputTokens | UnsetType = UNSET  # if the model has thought
    service_tier: str | UnsetType = UNSET  # that the provider used
    cost_usd: float | UnsetType = UNSET
    saved_usd: float | UnsetType = UNSET
    attempts: Sequence[Attempt] | UnsetType = UNSET
    estimated: bool | UnsetType = UNSET  # at least one of these numbers is an estimate
    trimmed_tokens: int | UnsetType = UNSET  # cut from the prompt
    max_output_tokens: int | UnsetType = UNSET  # the operator's cap of the answer, if no other one was lower


class WholeMessage(Struct, kw_only=True, gc=False):
    """An answer. When a stream starts it has no content yet. `model` is the name that the request gave."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[dict[str, Any]]
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Any = UNSET  # what a model of this API says besides, as the next two
    container: Any = UNSET
    context_management: Any = UNSET
    usage: MessageUsage
    metadata: dict[str, str] | UnsetType = UNSET  # the request's, and the `millrace.*` keys


class MessageStart(Struct, tag="message_start", gc=False):
    """A message begins."""

    message: WholeMessage


class BlockStart(Struct, tag="content_block_start", gc=False):
    """A content block begins. One that is not made of deltas is whole."""

    index: int
    content_block: dict[str, Any]


class TextDelta(Struct, tag="text_delta", gc=False):
    """Text of the answer."""

    text: str


class ThinkingDelta(Struct, tag="thinking_delta", gc=False):
    """What the model thinks."""

    thinking: str


class SignatureDelta(Struct, tag="signature_delta", gc=False):
    """What the model needs to know its thoughts again. Opaque; clients send it back."""

    signature: str


class InputDelta(Struct, tag="input_json_delta", gc=False):
    """A piece of the input of a tool call, which is JSON as the model wrote it."""

    partial_json: str


class CitationsDelta(Struct, tag="citations_delta", gc=False):
    """What a text cites."""

    citation: Any


class BlockDelta(Struct, tag="content_block_delta", gc=False):
    """A content block grows."""

    index: int
    delta: TextDelta | ThinkingDelta | SignatureDelta | InputDelta | CitationsDelta


class BlockStop(Struct, tag="content_block_stop", gc=False):
    """A content block is whole."""

    index: int


class Stopped(Struct, gc=False):
    """Why the answer ended."""

    stop_reason: str
    stop_sequence: str | None = None
    stop_details: Any = UNSET  # what a model of this API says besides
    container: Any = UNSET


class MessageDelta(Struct, tag="message_delta", kw_only=True, gc=False):
    """The answer has ended: why, and what it used and cost."""

    delta: Stopped
    usage: MessageUsage
    metadata: dict[str, str]  # the request's, and the `millrace.*` keys
    context_management: Any = UNSET  # what a model of this API says besides


class MessageStop(Struct, tag="message_stop", gc=False):
    """The last event of an answer."""


class Ping(Struct, tag="ping", gc=False):
    """Nothing new; the stream goes on."""


class MessageError(Struct, gc=False):
    """An error. `type` is the API's; `code`, and `param`, which is the path of the faulty field, are Millrace's."""

    type: str
    message: str
    code: str
    param: str | UnsetType = UNSET


class MessageFailed(Struct, tag="error", kw_only=True, gc=False):
    """Why there is no answer, or no more of it. `usage` is what the failed request cost."""

    error: MessageError
    request_id: str
    usage: MessageUsage | UnsetType = UNSET


class TokenCount(Struct):
    """The tokens of a request, as Millrace counts them. Providers count a little differently."""

    input_tokens: int


class MessageModel(Struct, tag="model"):
    """A name that a request may give as its `model`."""

    id: str
    display_name: str
    created_at: str = "1970-01-01T00:00:00Z"  # not known


class MessageModels(Struct):
    """All names that a request may give as its `model`."""

    data: list[MessageModel]
    first_id: str | None
    last_id: str | None
    has_more: Literal[False] = False


Event = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping | MessageFailed


class MessagesCodec:
    """Writes the stream of one answer as server-sent events. They have no sequence numbers.

    A text delta is one of the block that the event before it began.
    """

    __slots__ = ("_prefix", "_request_id")

    keep_alive = PING

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._prefix = b""

    def delta(self, text: str, number: int) -> bytes:
        """Return the event of a text delta."""
        return self._prefix + orjson.dumps(text) + b"}}\n\n"

    def event(self, event: Event, number: int) -> bytes:
        """Return any other event."""
        if isinstance(event, BlockStart):
            self._prefix = _prefix(event.index)
        name = str(event.__struct_config__.tag).encode()
        return b"event: " + name + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"

    def failure(self, error: MillraceError) -> bytes:
        """Return the error that ends a stream, with what it cost if that is known."""
        return self.event(failed(error, self._request_id), 0)


def usage_of_message(statement: Statement, service_tier: str = "") -> MessageUsage:
    """Return a statement as the usage object of the Messages API, with the cost added."""
    usage, body = statement.usage, usage_body(statement)
    written, for_an_hour = usage.cache_write_tokens, usage.cache_write_1h_tokens
    return MessageUsage(
        input_tokens=max(0, usage.input_tokens - usage.cached_input_tokens - written),
        cache_read_input_tokens=usage.cached_input_tokens,
        cache_creation_input_tokens=written,
        cache_creation=CacheCreation(written - for_an_hour, for_an_hour) if written else UNSET,
        output_tokens=usage.output_tokens,
        output_tokens_details=OutputTokens(usage.reasoning_tokens) if usage.reasoning_tokens else UNSET,
        service_tier=service_tier or UNSET,
        cost_usd=body.cost_usd,
        saved_usd=body.saved_usd,
        attempts=body.attempts,
        estimated=body.estimated,
        trimmed_tokens=body.trimmed_tokens,
        max_output_tokens=body.max_output_tokens,
    )


def failed(error: MillraceError, request_id: str, status: int | None = None) -> MessageFailed:
    """Return an error as the wire shows it; `status` if it is not that of its code."""
    status = status or error.rule.status
    other = "invalid_request_error" if status < SERVER_ERROR else "api_error"
    detail = MessageError(_TYPES.get(status, other), error.message, error.code, error.param or UNSET)
    return MessageFailed(
        error=detail, request_id=request_id, usage=error.usage if isinstance(error, FailedWithUsage) else UNSET
    )


def encoded(value: Any) -> str:
    """Return a value as JSON."""
    return msgspec.json.encode(value).decode()


def _prefix(index: int) -> bytes:
    event = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,' % index
    return event + b'"delta":{"type":"text_delta","text":'
