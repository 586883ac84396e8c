"""What chat completions return: the chunks of a stream, or one completion. No I/O.

The structs define the format. Only text deltas, one chunk per token, are written from a template, which is faster.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar, cast

import msgspec
import orjson
from msgspec import UNSET, Struct, UnsetType

from millrace.errors import FailedWithUsage, MillraceError
from millrace.types import Scored, Sealed, Statement
from millrace.wire import carried
from millrace.wire.completions import CalledCustom, CalledFunction
from millrace.wire.responses import KEEP_ALIVE, Attempt, ErrorBody, InputDetails, OutputDetails, error_body, usage_body

ChatFinish = Literal["stop", "length", "tool_calls", "content_filter"]
S = TypeVar("S", bound=Struct)
DONE = b"data: [DONE]\n\n"


class FunctionDelta(Struct, omit_defaults=True, gc=False):
    """What a chunk adds to a tool call: the name in its first chunk, and a piece of the arguments."""

    name: str | None = None
    arguments: str | None = None


class CustomDelta(Struct, omit_defaults=True, gc=False):
    """The same of a custom tool's call, whose `input` is any text."""

    name: str | None = None
    input: str | None = None


class CallDelta(Struct, omit_defaults=True, gc=False):
    """A piece of a tool call. `id` and `type` come with the first piece."""

    index: int
    id: str | None = None
    type: Literal["function", "custom"] | None = None
    function: FunctionDelta | None = None
    custom: CustomDelta | None = None


class Delta(Struct, omit_defaults=True, gc=False):
    """What a chunk adds to the answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallDelta] | None = None


class Logprobs(Struct, gc=False):
    """The log-probabilities of the text's tokens, as the provider sent them."""

    content: list[Any]
    refusal: None = None


class ChunkChoice(Struct, gc=False):
    """The only choice of a chunk."""

    delta: Delta
    finish_reason: ChatFinish | None = None
    index: int = 0
    logprobs: Logprobs | None = None


class UsageOfCompletion(Struct, kw_only=True, gc=False):
    """Tokens of the answer shown, and dollars of the whole bill, which is the sum of the attempts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: InputDetails
    completion_tokens_details: OutputDetails
    cost_usd: float
    saved_usd: float
    attempts: Sequence[Attempt]
    estimated: bool  # at least one of these numbers is an estimate
    trimmed_tokens: int | UnsetType = UNSET  # cut from the prompt
    max_output_tokens: int | UnsetType = UNSET  # the operator's cap of the answer, if no other one was lower


class Chunk(Struct, kw_only=True, gc=False):
    """One event of a streamed completion."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int  # Unix seconds
    model: str
    choices: list[ChunkChoice]
    usage: UsageOfCompletion | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET  # in the last chunk: the request's, and the `millrace.*` keys
    service_tier: str | UnsetType = UNSET  # in the last chunk: that the provider used


class LastChunk(Chunk, kw_only=True):
    """The last chunk of a stream: the finish reason, or the usage if `include_usage` asked for it."""


class Broken(Struct, gc=False):
    """The end of a stream that failed. Nothing follows it, not even `[DONE]`."""

    error: ErrorBody
    usage: UsageOfCompletion | UnsetType = UNSET  # what the failed request cost


class CallOfCompletion(Struct, tag="function", gc=False):
    """A function call of the answer."""

    id: str
    function: CalledFunction


class CustomCallOfCompletion(Struct, tag="custom", gc=False):
    """A call of a custom tool."""

    id: str
    custom: CalledCustom


class CompletionMessage(Struct, kw_only=True, gc=False):
    """The complete answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[CallOfCompletion | CustomCallOfCompletion] | UnsetType = UNSET


class CompletionChoice(Struct, gc=False):
    """The only choice of a completion."""

    message: CompletionMessage
    finish_reason: ChatFinish
    index: int = 0
    logprobs: Logprobs | None = None


class Completion(Struct, kw_only=True, gc=False):
    """A complete answer with its usage and cost."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int  # Unix seconds
    model: str
    choices: list[CompletionChoice]
    usage: UsageOfCompletion
    metadata: dict[str, str]
    service_tier: str | UnsetType = UNSET  # that the provider used


class ChatCodec:
    """Writes the stream of one answer as server-sent events. Chat chunks have no sequence numbers.

    A text delta repeats the id and the model of the chunk before it, so the first event must be a chunk.
    """

    __slots__ = ("_prefix",)

    keep_alive = KEEP_ALIVE

    def __init__(self) -> None:
        self._prefix = b""

    def delta(self, text: str, number: int) -> bytes:
        """Return the event of a text delta."""
        if type(text) is Scored:
            rest = b'},"finish_reason":null,"index":0,"logprobs":{"content":[%b],"refusal":null}}]}\n\n' % text.scores
            return self._prefix + orjson.dumps(text) + rest
        return self._prefix + orjson.dumps(text) + b'},"finish_reason":null,"index":0,"logprobs":null}]}\n\n'

    def event(self, event: Struct, number: int) -> bytes:
        """Return any other event; after the last chunk also `[DONE]`."""
        encoded = b"data: " + msgspec.json.encode(event) + b"\n\n"
        if isinstance(event, LastChunk):
            return encoded + DONE
        if isinstance(event, Chunk):
            self._prefix = _prefix(event)
        return encoded

    def failure(self, error: MillraceError) -> bytes:
        """Return the error that ends a stream, with what it cost if that is known."""
        usage = error.usage if isinstance(error, FailedWithUsage) else UNSET
        return b"data: " + msgspec.json.encode(Broken(error_body(error), usage)) + b"\n\n"


def logprobs_of(scores: bytes) -> Logprobs | None:
    """Return the log-probabilities of a text, written as they came and never decoded; None if there are none."""
    return Logprobs([msgspec.Raw(scores)]) if scores else None


def usage_of_completion(statement: Statement) -> UsageOfCompletion:
    """Return a statement as the usage object of chat completions, with the cost added."""
    body = usage_body(statement)
    return UsageOfCompletion(
        prompt_tokens=body.input_tokens,
        completion_tokens=body.output_tokens,
        total_tokens=body.total_tokens,
        prompt_tokens_details=body.input_tokens_details,
        completion_tokens_details=body.output_tokens_details,
        cost_usd=body.cost_usd,
        saved_usd=body.saved_usd,
        attempts=body.attempts,
        estimated=body.estimated,
        trimmed_tokens=body.trimmed_tokens,
        max_output_tokens=body.max_output_tokens,
    )


def with_own_fields(written: S, own_fields: dict[str, Any]) -> S:
    """Return a part of a completion with the provider's own fields beside its own; it can only be encoded."""
    return cast("S", own_fields | msgspec.to_builtins(written)) if own_fields else written


def with_sealed(written: S, sealed: Sequence[Sealed]) -> S:
    """Return a part of a completion with the blocks of the answer that only their own API understands, as one word."""
    return with_own_fields(written, {carried.FIELD: carried.write({}, {}, sealed)}) if sealed else written


def _prefix(chunk: Chunk) -> bytes:
    fields = orjson.dumps({"id": chunk.id, "object": chunk.object, "created": chunk.created, "model": chunk.model})
    return b"data: " + fields[:-1] + b',"choices":[{"delta":{"content":'
