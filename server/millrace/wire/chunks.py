"""What clients of chat completions get: chunks of a stream, or one completion. No I/O.

The structs are the contract. Only the words of an answer, the one chunk there is per token, are written by a template.
"""

from typing import Literal

import msgspec
import orjson
from msgspec import UNSET, Struct, UnsetType

from millrace.types import Statement
from millrace.wire.completions import CalledFunction
from millrace.wire.responses import Attempt, ErrorBody, InputDetails, OutputDetails, usage_body

ChatFinish = Literal["stop", "length", "tool_calls", "content_filter"]
DONE = b"data: [DONE]\n\n"


class FunctionDelta(Struct, omit_defaults=True):
    """What a chunk adds to a call: its name with its first chunk, and some of its arguments."""

    name: str | None = None
    arguments: str | None = None


class CallDelta(Struct, omit_defaults=True):
    """A tool call, or more of one; `id` and `type` come with its first chunk."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta | None = None


class Delta(Struct, omit_defaults=True):
    """What a chunk adds to the answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallDelta] | None = None


class ChunkChoice(Struct):
    """The one choice of a chunk."""

    delta: Delta
    finish_reason: ChatFinish | None = None
    index: int = 0
    logprobs: None = None


class UsageOfCompletion(Struct, kw_only=True):
    """Tokens of the answer shown; dollars of the whole bill, which is the sum of the attempts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: InputDetails
    completion_tokens_details: OutputDetails
    cost_usd: float
    saved_usd: float
    attempts: list[Attempt]
    estimated: bool  # some of it, tokens or dollars


class Chunk(Struct, kw_only=True):
    """Some more of an answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int  # Unix seconds
    model: str
    choices: list[ChunkChoice]
    usage: UsageOfCompletion | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET  # with the last chunk: the request's, and the marks of Millrace


class LastChunk(Chunk, kw_only=True):
    """The end of an answer: why it ended, or, where the client asked for it, the usage after that."""


class Broken(Struct):
    """The end of a stream without an answer's end; nothing follows, no `[DONE]` either."""

    error: ErrorBody
    usage: UsageOfCompletion  # what it cost all the same


class CallOfCompletion(Struct):
    """A call the model wants made."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class CompletionMessage(Struct, kw_only=True):
    """The answer, whole."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[CallOfCompletion] | UnsetType = UNSET


class CompletionChoice(Struct):
    """The one choice of a completion."""

    message: CompletionMessage
    finish_reason: ChatFinish
    index: int = 0
    logprobs: None = None


class Completion(Struct, kw_only=True):
    """A whole answer, its usage, its cost."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int  # Unix seconds
    model: str
    choices: list[CompletionChoice]
    usage: UsageOfCompletion
    metadata: dict[str, str]


class ChatCodec:
    """Writes the stream of one answer as server-sent events; a chat completion numbers nothing.

    The words after a chunk are of that chunk's model: there is always one before them.
    """

    __slots__ = ("_prefix",)

    def __init__(self) -> None:
        self._prefix = b""

    def delta(self, text: str, number: int) -> bytes:
        """Return the event of some words."""
        return self._prefix + orjson.dumps(text) + b'},"finish_reason":null,"index":0,"logprobs":null}]}\n\n'

    def event(self, event: Struct, number: int) -> bytes:
        """Return the event of anything else; with the last chunk the end of the stream."""
        written = b"data: " + msgspec.json.encode(event) + b"\n\n"
        if isinstance(event, LastChunk):
            return written + DONE
        if isinstance(event, Chunk):
            self._prefix = _prefix(event)
        return written


def usage_of_completion(statement: Statement) -> UsageOfCompletion:
    """Return a statement as the usage object of chat completions, money beside it."""
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
    )


def _prefix(chunk: Chunk) -> bytes:
    named = orjson.dumps({"id": chunk.id, "object": chunk.object, "created": chunk.created, "model": chunk.model})
    return b"data: " + named[:-1] + b',"choices":[{"delta":{"content":'
