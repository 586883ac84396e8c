"""The chat-completions dialect: `Call` -> request body. No I/O."""

from typing import Any

import msgspec

from millrace.types import CACHE_CONTROL, Call, Format, Media, Message, Part, Prompt, Tool, ToolCall, Unread
from millrace.types.tool_choice import ToolChoice
from millrace.upstreams.quirks import Quirks

OPENAI = Quirks()

_MEDIA = {"image": "image_url", "file": "file", "audio": "input_audio"}
# Fields that a client's extras must not set: a second cap, several answers, tools that the reader does not expect.
_RESERVED = {"max_tokens", "max_completion_tokens", "n", "functions", "function_call"}
_RESERVED |= {"tools", "tool_choice", "parallel_tool_calls", "modalities"}


def fields_of(call: Call, quirks: Quirks = OPENAI) -> dict[str, Any]:
    """Return the fields of a request body. The client's extras never replace a field that Millrace sets."""
    prompt = call.prompt
    fields: dict[str, Any] = {
        "model": call.model.id,
        "messages": [_message(message, quirks) for message in prompt.sent],
        quirks.max_tokens_field: call.sent_cap,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "response_format": _response_format(prompt.format),
        "verbosity": prompt.verbosity,
        "reasoning_effort": prompt.reasoning_effort,
        **_tools(prompt, quirks),
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    extras = {name: value for name, value in prompt.extras.items() if name not in _RESERVED | fields.keys()}
    if not call.service_tier:  # what another one costs is not known
        extras.pop("service_tier", None)
    return {name: value for name, value in (fields | extras).items() if name not in quirks.drop}


def left_out(call: Call, quirks: Quirks, fields: dict[str, Any]) -> list[str]:
    """Return notes on what the client gave and these fields, which are sent, do not have."""
    prompt = call.prompt
    names = [name for name, value in prompt.extras.items() if fields.get(name) is not value]
    extras = [part.unread for part in prompt.messages] + [tool.unread for tool in prompt.tools]
    places = (path for each in extras for path, _ in each)
    if (
        CACHE_CONTROL in quirks.drop
        and CACHE_CONTROL not in names
        and any(path[-1] == CACHE_CONTROL for path in places)
    ):
        names.append(CACHE_CONTROL)
    is_unpriced = prompt.service_tier != call.service_tier
    why = {"service_tier": f" {prompt.service_tier}: it has no price here" if is_unpriced else ""}
    return [f"without {name}{why.get(name, '')}" for name in names]


def request(call: Call, quirks: Quirks = OPENAI) -> tuple[dict[str, Any], bytes, list[str]]:
    """Return the fields of a request body, the body, and notes on what is left out."""
    fields = fields_of(call, quirks)
    return fields, msgspec.json.encode(fields), left_out(call, quirks, fields)


def _with_unread(fields: dict[str, Any], extras: Unread, quirks: Quirks) -> dict[str, Any]:
    """Return a message or a tool with the client's extras at their places."""
    for path, value in extras:
        *parents, name = path
        if name == CACHE_CONTROL and CACHE_CONTROL in quirks.drop:
            continue
        at: Any = fields
        for step in parents:
            at = at[step]
        at.setdefault(name, value)
    return fields


def _message(message: Message, quirks: Quirks) -> dict[str, Any]:
    role = quirks.system_role if message.role == "system" else message.role
    fields: dict[str, Any] = {"role": role, "content": _content(message, quirks)}
    if message.name:
        fields["name"] = message.name
    if message.call_id is not None:
        fields["tool_call_id"] = message.call_id
    if message.calls:
        fields["tool_calls"] = [_call(call) for call in message.calls]
    if message.refusal:
        fields["refusal"] = message.refusal
    if quirks.sends_reasoning(message):
        fields["reasoning_content"] = message.reasoning
    return _with_unread(fields, message.unread, quirks)


def _content(message: Message, quirks: Quirks) -> str | list[dict[str, Any]] | None:
    if not message.parts:
        return None if message.calls or message.refusal else ""
    first = message.parts[0]
    if len(message.parts) > 1 or not isinstance(first, str):
        return [_part(part) for part in message.parts]
    left_out = quirks.drop & {CACHE_CONTROL}
    has_extras = any(path[0] == "content" and path[-1] not in left_out for path, _ in message.unread)
    return [_part(first)] if has_extras else first


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Media):
        kind = _MEDIA[part.kind]
        return {"type": kind, kind: {**part.fields}}
    return {"type": "text", "text": part}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _tools(prompt: Prompt, quirks: Quirks) -> dict[str, Any]:
    """Return the fields about tools; none without tools, since providers refuse a `tool_choice` without them."""
    if not prompt.tools:
        return {}
    return {
        "tools": [
            _with_unread({"type": "function", "function": _function(tool)}, tool.unread, quirks)
            for tool in prompt.tools
        ],
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
