"""The events of a stream of chat completions, as lenient as providers are careless. No I/O."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from millrace.json_text import is_json

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class UnreadableError(Exception):
    """An event that is no JSON object."""


class Delta(Struct, gc=False):
    """What one chunk adds to the answer. Any field may be of another type than it should."""

    content: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None  # other names of `reasoning_content`
    reasoning_details: Any = None
    thinking: Any = None
    extra_content: Any = None  # Gemini
    thinking_blocks: Any = None  # LiteLLM
    provider_specific_fields: Any = None
    reasoning_opaque: Any = None  # Copilot
    tool_calls: Any = None
    function_call: Any = None  # the predecessor of `tool_calls`


class Choice(Struct, gc=False):
    """One answer of those that were asked for; `message` is a whole answer in place of a delta."""

    index: Any = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: Any = None
    finishReason: Any = None  # noqa: N815 - of gateways to Gemini
    usage: Any = None
    text: Any = None  # of a text completion
    error: Any = None  # of OpenRouter, beside the finish reason `error`
    logprobs: Any = None


class Chunk(Struct, gc=False):
    """One `chat.completion.chunk`."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    x_groq: Any = None
    usageMetadata: Any = None  # noqa: N815 - of gateways to Gemini
    service_tier: Any = None


# Fields of a delta that go back to some provider with the answer.
OWN_FIELDS = ("reasoning_details", "extra_content", "thinking_blocks", "provider_specific_fields", "reasoning_opaque")

_decode = msgspec.json.Decoder(Chunk).decode


def read(data: bytes) -> Chunk:
    """Decode one event. Raises `UnreadableError` if it is no JSON object."""
    try:
        return _decode(data)
    except _UNREADABLE:
        return _read_leniently(data)


def fields_of(data: bytes) -> dict[str, Any]:
    """Decode one event to its fields. Raises `UnreadableError` if it is no JSON object.

    A stray byte and half a character become surrogates, which `characters` joins.
    """
    try:
        fields = json.loads(data.decode("utf-8", "surrogateescape"), strict=False)
    except (ValueError, RecursionError):
        raise UnreadableError from None
    if isinstance(fields, list) and len(fields) == 1:
        (fields,) = fields
    if not isinstance(fields, dict):
        raise UnreadableError
    return fields


def _read_leniently(data: bytes) -> Chunk:
    fields = fields_of(data)
    choices = fields.get("choices")
    choices = [choices] if isinstance(choices, dict) else choices
    return Chunk(
        choices=[_choice(given) for given in choices if isinstance(given, dict)] if isinstance(choices, list) else None,
        usage=fields.get("usage"),
        error=fields.get("error"),
        x_groq=fields.get("x_groq"),
        usageMetadata=fields.get("usageMetadata"),
        service_tier=fields.get("service_tier"),
    )


def _choice(given: dict[str, Any]) -> Choice:
    fields = {name: given.get(name) for name in ("index", "finish_reason", "finishReason", "usage", "text", "logprobs")}
    return Choice(delta=_delta(given.get("delta")), message=_delta(given.get("message")), **fields)


def _delta(given: Any) -> Delta | None:
    if isinstance(given, str):
        return Delta(content=given)
    if not isinstance(given, dict):
        return None
    return Delta(**{name: given.get(name) for name in Delta.__struct_fields__})


def whole_of(choice: Choice, *, has_begun: bool) -> Delta | None:
    """Return what a choice without a delta brings: a whole answer, unless one has begun; or a completion's text."""
    if choice.message is not None:
        return None if has_begun else choice.message
    return Delta(content=choice.text) if choice.text else None


def thought_of(delta: Delta) -> str:
    """Return the reasoning of a delta, whatever it is called."""
    for given in (delta.reasoning_content, delta.reasoning, delta.thinking, delta.reasoning_details):
        if thought := "".join(_texts(given, ("text", "thinking", "content", "reasoning", "summary"))):
            return thought
    return ""


def scores_of(logprobs: Any) -> bytes:
    """Return the log-probabilities of a choice as `Scored` has them; empty if there are none that can be read."""
    given = logprobs.get("content") if isinstance(logprobs, dict) else None
    scores = [score for score in given if isinstance(score, dict)] if isinstance(given, list) else []
    try:
        return msgspec.json.encode(scores)[1:-1]
    except UnicodeEncodeError:  # a token that is half a character
        written = json.dumps(scores, ensure_ascii=False).encode("utf-8", "replace")
        return written[1:-1] if is_json(written) else b""


def parts_of(content: Any) -> tuple[str, str]:
    """Return the text and the reasoning of a content that is a list of parts, or one part."""
    text: list[str] = []
    thoughts: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        kind = str(part.get("type", "")) if isinstance(part, dict) else ""
        is_thought = any(word in kind for word in ("thinking", "reasoning", "thought"))
        into = thoughts if is_thought else text
        into.extend(_texts(part, ("text", "thinking", "content", "reasoning", "summary") if is_thought else ("text",)))
    return "".join(text), "".join(thoughts)


def _texts(given: Any, names: tuple[str, ...]) -> Iterator[str]:
    """Yield the texts in a text, a part or a list of parts; `names` are the fields of a part that may hold it."""
    if isinstance(given, str):
        yield given
    elif isinstance(given, list):
        for part in given:
            yield from _texts(part, names)
    elif isinstance(given, dict):
        value = next((given[name] for name in names if given.get(name)), None)
        yield from _texts(value, names)
