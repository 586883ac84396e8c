"""The chat-completions dialect: `Call` -> request body; stream chunks and error bodies -> values. No I/O."""

from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from msgspec import Struct

from millrace.errors import UpstreamError
from millrace.ports import Clock
from millrace.types import Call, FinishReason, Format, Media, Message, Part, Prompt, Tool, ToolCall, Usage
from millrace.types.tool_choice import ToolChoice

MAX_MESSAGE = 300  # characters of a provider's error message that clients see
MAX_TOKENS = 10**9  # of one call; a provider's count above that is wrong and is clamped
MAX_RETRY_AFTER_S = 86_400.0

# OpenAI's own, and what other servers of this API send in their place.
_FINISHES = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
}
_MEDIA = {"image": "image_url", "file": "file", "audio": "input_audio"}
# Fields that a client's extras must not set: a second cap, several answers, tools that the reader does not expect.
_RESERVED = {"max_tokens", "max_completion_tokens", "n", "functions", "function_call"}
_RESERVED |= {"tools", "tool_choice", "parallel_tool_calls"}
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_OVERLOADED = ("overloaded", "rate_limit", "too_many_requests", "429", "503", "529")


class UnreadableError(UpstreamError):
    """An event that is not a chunk."""


class _PromptDetails(Struct):
    cached_tokens: float | None = None


class _CompletionDetails(Struct):
    reasoning_tokens: float | None = None


class _Usage(Struct):
    prompt_tokens: float | None = None  # some servers count in floats, or send null
    completion_tokens: float | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class ChatDelta(Struct, gc=False):
    """What one chunk adds to the answer."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None  # if it is a string, another name for `reasoning_content`
    tool_calls: list[Any] | None = None
    function_call: Any = None  # the predecessor of `tool_calls`


class _Choice(Struct, gc=False):
    index: Any = None  # of the answer, where several were asked for
    delta: ChatDelta | None = None
    finish_reason: str | None = None


class ChatChunk(Struct, gc=False):
    """One `chat.completion.chunk`, or an error in its place."""

    choices: list[_Choice] | None = None
    usage: Any = None  # decoded later by `usage`, since a bad count must not fail an answer
    error: Any = None


_decode = msgspec.json.Decoder(ChatChunk).decode


def body(call: Call, max_tokens_field: str) -> bytes:
    """Return the request body of a call. The client's extras never replace a field that Millrace sets."""
    prompt = call.prompt
    fields: dict[str, Any] = {
        "model": call.model.id,
        "messages": [_message(message) for message in prompt.sent],
        max_tokens_field: call.sent_cap,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "response_format": _response_format(prompt.format),
        "verbosity": prompt.verbosity,
        "reasoning_effort": prompt.reasoning_effort,
        **_tools(prompt),
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    extras = {name: value for name, value in prompt.extras.items() if name not in _RESERVED}
    return msgspec.json.encode(fields | {name: value for name, value in extras.items() if name not in fields})


def read_chunk(data: bytes, model: str, key: str | None = None) -> ChatChunk:
    """Decode one event. Raises `UnreadableError` if it is no chunk, `UpstreamError` if it is a provider's error."""
    try:
        chunk = _decode(data)
    except _UNREADABLE:
        raise UnreadableError("upstream_error", f"{model} sent a chunk that cannot be read") from None
    if chunk.error is not None:
        raise _error(chunk.error, model, key)
    return chunk


def masked(words: str, key: str | None) -> str:
    """Return a provider's words without the key, which it may repeat. Before they are cut, or a part of it is left."""
    return words.replace(key, "[key]") if key else words


def finish_reason(given: str, model: str, key: str | None = None) -> FinishReason:
    """Translate a provider's `finish_reason`. Raises `upstream_error` if it is unknown."""
    reason = _FINISHES.get(given)
    if reason is None:
        raise UpstreamError(
            "upstream_error", f"{model} ended with the unknown finish_reason {masked(given, key)[:40]!r}"
        )
    return reason


def usage(given: Any, most: int = MAX_TOKENS) -> Usage | None:
    """Return reported usage, each count clamped to `most`; None if it cannot be decoded or has no counts."""
    try:
        reported = msgspec.convert(given, _Usage | None)
    except msgspec.ValidationError:
        return None
    if reported is None or reported.prompt_tokens is None or reported.completion_tokens is None:
        return None
    cached = reported.prompt_tokens_details and reported.prompt_tokens_details.cached_tokens
    reasoning = reported.completion_tokens_details and reported.completion_tokens_details.reasoning_tokens
    input_tokens, output_tokens = _clamped(reported.prompt_tokens, most), _clamped(reported.completion_tokens, most)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=_clamped(cached or 0, input_tokens),
        reasoning_tokens=_clamped(reasoning or 0, output_tokens),
    )


def _clamped(tokens: float, most: int) -> int:
    return int(min(max(0, tokens), most))


def refused(
    status: int, retry_after: str | None, answer: bytes, model: str, wall: Clock, key: str | None = None
) -> UpstreamError:
    """Return the error for an HTTP status other than 200. Providers charge nothing for these."""
    if status in (401, 403):  # the provider's message may repeat a part of the key
        return UpstreamError(
            "upstream_error",
            f"the provider of {model} refused the key (HTTP {status}); check api_key_env of that model",
            billable=False,
        )
    code = {408: "upstream_timeout", 504: "upstream_timeout"}.get(status, "upstream_error")
    if status in (429, 503, 529):
        code = "upstream_overloaded"
    return UpstreamError(
        code,
        f"{model} answered HTTP {status}{_detail(answer, key)}",
        billable=False,
        retry_after_ms=_retry_after_ms(retry_after, wall),
    )


def _message(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = {"role": message.role, "content": _content(message)}
    if message.call_id is not None:
        fields["tool_call_id"] = message.call_id
    if message.calls:
        fields["tool_calls"] = [_call(call) for call in message.calls]
    if message.refusal:
        fields["refusal"] = message.refusal
    if message.reasoning:
        fields["reasoning_content"] = message.reasoning
    return fields


def _content(message: Message) -> str | list[dict[str, Any]] | None:
    if not message.parts:
        return None if message.calls or message.refusal else ""
    first = message.parts[0]
    return first if len(message.parts) == 1 and isinstance(first, str) else [_part(part) for part in message.parts]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Media):
        kind = _MEDIA[part.kind]
        return {"type": kind, kind: part.fields}
    return {"type": "text", "text": part}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _tools(prompt: Prompt) -> dict[str, Any]:
    """Return the fields about tools; none without tools, since providers refuse a `tool_choice` without them."""
    if not prompt.tools:
        return {}
    return {
        "tools": [{"type": "function", "function": _function(tool)} for tool in prompt.tools],
        "tool_choice": prompt.tool_choice and _tool_choice(prompt.tool_choice),
        "parallel_tool_calls": prompt.parallel_tool_calls,
    }


def _tool_choice(choice: ToolChoice) -> str | dict[str, Any]:
    return {"type": "function", "function": {"name": choice.name}} if choice.mode == "function" else choice.mode


def _function(tool: Tool) -> dict[str, Any]:
    fields = {"name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    return {name: value for name, value in fields.items() if value is not None}


def _response_format(form: Format | None) -> dict[str, Any] | None:
    if form is None:
        return None
    if form.schema is None:
        return {"type": form.kind}
    schema = {"name": form.name, "schema": form.schema, "strict": form.strict, "description": form.description}
    return {"type": form.kind, "json_schema": {key: value for key, value in schema.items() if value is not None}}


def _error(given: Any, model: str, key: str | None) -> UpstreamError:
    fields = given if isinstance(given, dict) else {"message": given}
    kind = f"{fields.get('type')} {fields.get('code')}".lower()
    code = "upstream_overloaded" if any(word in kind for word in _OVERLOADED) else "upstream_error"
    code = "upstream_timeout" if "timeout" in kind else code
    message = masked(str(fields.get("message") or "no reason given"), key)[:MAX_MESSAGE]
    return UpstreamError(code, f"{model} failed in mid-stream: {message}")


def _detail(answer: bytes, key: str | None) -> str:
    try:
        error = msgspec.json.decode(answer)["error"]
        message = str(error["message"] if isinstance(error, dict) else error)
        return f": {masked(message, key)[:MAX_MESSAGE]}"
    except (*_UNREADABLE, KeyError, TypeError):
        return ""


def _retry_after_ms(given: str | None, wall: Clock) -> int | None:
    if not given:
        return None
    try:
        seconds = float(given) if given.strip().isdigit() else parsedate_to_datetime(given).timestamp() - wall()
    except (TypeError, ValueError):
        return None
    return round(min(max(0.0, seconds), MAX_RETRY_AFTER_S) * 1000)
