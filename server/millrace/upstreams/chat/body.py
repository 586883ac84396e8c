"""The chat-completions dialect: `Call` -> request body. No I/O."""

import hashlib
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from millrace.types import Api, Call, Format, Media, Message, Part, Prompt, Tool, ToolCall
from millrace.types.tool_choice import ToolChoice
from millrace.upstreams import foreign
from millrace.upstreams.quirks import ALL, CACHE_KEY, CallIds, Quirks, Reasoning
from millrace.upstreams.sent_tools import SentTools

OPENAI = Quirks()
SHORT_ID = 40  # characters of an id that OpenAI takes

_NINE = re.compile(r"[A-Za-z0-9]{9}")
_LETTERS = string.ascii_letters + string.digits
# What Gemini takes for the signature of a call that it did not make.
_UNSIGNED = {"extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}}
_MEDIA = {"image": "image_url", "file": "file", "audio": "input_audio"}
_OF_RESPONSES = {"defer_loading", "allowed_callers", "output_schema"}  # fields of tools that only Responses has
# Fields that a client's extras must not set: a second cap, several answers, tools that the reader does not expect.
_RESERVED = {"max_tokens", "max_completion_tokens", "n", "functions", "function_call"}
_RESERVED |= {"tools", "tool_choice", "parallel_tool_calls", "modalities"}


def fields_of(call: Call, quirks: Quirks = OPENAI) -> dict[str, Any]:
    """Return the fields of a request body. The client's extras never replace a field that Millrace sets."""
    prompt = call.prompt
    tools = SentTools(prompt.tools, prompt.tool_choice)
    fields: dict[str, Any] = {
        "model": call.model.id,
        "messages": _messages(prompt.sent, quirks, tools),
        quirks.max_tokens_field: call.sent_cap,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "response_format": _response_format(prompt.format),
        "verbosity": prompt.verbosity,
        "reasoning_effort": prompt.reasoning_effort,
        **_tools(prompt, quirks, tools),
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    if prompt.extras:
        extras = {name: value for name, value in prompt.extras.items() if name not in _RESERVED | fields.keys()}
        if not call.service_tier:  # what another one costs is not known
            extras.pop("service_tier", None)
        fields |= extras
    if quirks.cache_key and call.prefix.key:
        fields.setdefault(CACHE_KEY, call.prefix.key)
    return {name: value for name, value in fields.items() if name not in quirks.drop} if quirks.drop else fields


def left_out(call: Call, quirks: Quirks, fields: dict[str, Any]) -> list[str]:
    """Return notes on what the client gave and these fields, which are sent, do not have."""
    prompt = call.prompt
    names = [name for name, value in prompt.extras.items() if fields.get(name) is not value]
    for message in prompt.messages:
        if message.own_fields or message.calls:
            for own_fields in (message.own_fields, *(made.own_fields for made in message.calls)):
                names += own_fields.keys() - _sent_own_fields(own_fields, quirks).keys()
    names += [f"{one.role}.name" for one in prompt.messages if one.name and _drops(quirks, one.role, "name")]
    given: tuple[Message | Tool, ...] = (*prompt.messages, *prompt.tools)
    for one in given:
        if one.unread and one.unread_api is Api.CHAT:
            last = [path[-1] for path, _ in one.unread]
            names += [str(name) for name in last if quirks.drops_within(name) or name in _OF_RESPONSES]
    names += foreign.left_out(prompt, Api.CHAT)
    if not names:
        return []
    is_unpriced = prompt.service_tier != call.service_tier
    why = {"service_tier": f" {prompt.service_tier}: it has no price here" if is_unpriced else ""}
    return [f"without {name}{why.get(name, '')}" for name in dict.fromkeys(names)]


def request(call: Call, quirks: Quirks = OPENAI) -> tuple[dict[str, Any], bytes, list[str]]:
    """Return the fields of a request body, the body, and notes on what is left out."""
    fields = fields_of(call, quirks)
    return fields, msgspec.json.encode(fields), left_out(call, quirks, fields)


def _with_unread(fields: dict[str, Any], of: Message | Tool, quirks: Quirks) -> dict[str, Any]:
    """Return a message or a tool with the client's extras at their places, if they are of this API."""
    if not of.unread or of.unread_api is not Api.CHAT:
        return fields
    for path, value in of.unread:
        *parents, name = path
        if quirks.drops_within(name) or name in _OF_RESPONSES:
            continue
        at: Any = fields
        for step in parents:
            at = at[step]
        at.setdefault(name, value)
    return fields


def _messages(messages: Sequence[Message], quirks: Quirks, tools: SentTools) -> list[dict[str, Any]]:
    messages = [_plain(message, tools) for message in messages]
    names = {call.id: call.name for message in messages for call in message.calls}
    return [_message(message.in_words(), names, quirks) for message in messages if not message.is_sealed]


def _plain(message: Message, tools: SentTools) -> Message:
    """Return a message with its calls as they are sent, and its text in one piece: sealed blocks may have parted it."""
    if message.calls and any(call.namespace or call.is_custom for call in message.calls):
        message = replace(message, calls=tuple(map(tools.sent, message.calls)))
    if message.sealed and len(message.texts) == len(message.parts) > 1:
        message = replace(message, parts=(message.text,))
    return message


def _message(message: Message, names: Mapping[str, str], quirks: Quirks) -> dict[str, Any]:
    """Return one message. `names` are those of all functions that were called, by the calls' ids."""
    role = quirks.system_role if message.role == "system" else message.role
    fields: dict[str, Any] = {"role": role, "content": _content(message, quirks)}
    if message.name:
        fields["name"] = message.name
    if message.call_id is not None:
        fields["tool_call_id"] = _call_id(message.call_id, quirks)
        if quirks.tool_names and message.call_id in names:
            fields["name"] = names[message.call_id]
    if message.calls:
        fields["tool_calls"] = _calls(message.calls, quirks)
    if message.refusal:
        fields["refusal"] = message.refusal
    if thought := _thought(message, quirks, had_calls=bool(names)):
        fields |= dict.fromkeys(quirks.reasoning_fields, thought)
    if quirks.drop:
        fields = {name: value for name, value in fields.items() if not _drops(quirks, message.role, name)}
    if message.own_fields:
        fields = _sent_own_fields(message.own_fields, quirks) | fields
    return _with_unread(fields, message, quirks)


def _thought(message: Message, quirks: Quirks, *, had_calls: bool) -> str:
    """Return the reasoning that goes back. Where it must and there is none it is a blank: "" counts as missing."""
    if message.role != "assistant" or quirks.reasoning == Reasoning.NO:
        return ""
    return message.reasoning or (" " if quirks.reasoning == Reasoning.CALLS and had_calls else "")


def _content(message: Message, quirks: Quirks) -> str | list[dict[str, Any]] | None:
    if not message.parts:
        if message.refusal and _drops(quirks, message.role, "refusal"):
            return message.refusal
        return None if (message.calls and not quirks.empty_content) or message.refusal else ""
    first = message.parts[0]
    if len(message.parts) > 1 or not isinstance(first, str):
        return [_part(part) for part in message.parts]
    if not message.unread or message.unread_api is not Api.CHAT:
        return first
    has_extras = any(path[0] == "content" and not quirks.drops_within(path[-1]) for path, _ in message.unread)
    return [_part(first)] if has_extras else first


def _drops(quirks: Quirks, role: str, field: str) -> bool:
    return field in quirks.drop or f"{role}.{field}" in quirks.drop


def _sent_own_fields(own_fields: Mapping[str, Any], quirks: Quirks) -> dict[str, Any]:
    """Return those of a provider's own fields that this one takes."""
    return {
        name: value
        for name, value in own_fields.items()
        if (quirks.own_fields == ALL or name in quirks.own_fields) and not quirks.drops_within(name)
    }


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Media):
        kind = _MEDIA[part.kind]
        return {"type": kind, kind: {**part.fields}}
    return {"type": "text", "text": part}


def _calls(calls: Sequence[ToolCall], quirks: Quirks) -> list[dict[str, Any]]:
    sent = [_sent_own_fields(call.own_fields, quirks) | _call(call, quirks) for call in calls]
    if quirks.signatures and not any("extra_content" in call for call in sent):
        sent[0] |= _UNSIGNED
    return sent


def _call(call: ToolCall, quirks: Quirks) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": _call_id(call.id, quirks), "type": "function", "function": function}


def _call_id(given: str, quirks: Quirks) -> str:
    """Return an id that the provider takes: the same one, or one made of it."""
    match quirks.call_ids:
        case CallIds.SHORT if len(given) > SHORT_ID:
            return "call_" + hashlib.sha256(given.encode()).hexdigest()[:32]
        case CallIds.NINE if not _NINE.fullmatch(given):
            number = int.from_bytes(hashlib.sha256(given.encode()).digest())
            return "".join(_LETTERS[number // len(_LETTERS) ** place % len(_LETTERS)] for place in range(9))
    return given


def _tools(prompt: Prompt, quirks: Quirks, tools: SentTools) -> dict[str, Any]:
    """Return the fields about tools; none without tools, since providers refuse a `tool_choice` without them."""
    sent = tools.functions
    if not sent:
        return {}
    return {
        "tools": [_with_unread({"type": "function", "function": _function(tool)}, tool, quirks) for tool in sent],
        "tool_choice": prompt.tool_choice and _tool_choice(prompt.tool_choice, tools),
        "parallel_tool_calls": prompt.parallel_tool_calls,
    }


def _tool_choice(choice: ToolChoice, tools: SentTools) -> str | dict[str, Any] | None:
    if choice.mode == "hosted":
        return None
    if choice.mode != "function":
        return choice.mode
    name = tools.name_of((choice.namespace, choice.name))
    is_sent = any(tool.name == name for tool in tools.functions)
    return {"type": "function", "function": {"name": name}} if is_sent else None


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
