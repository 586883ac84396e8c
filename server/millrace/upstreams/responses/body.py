"""The Responses API: `Call` -> request body, and what is learned from what a server refuses. No I/O."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from millrace.types import Api, Call, Format, Prompt, Tool
from millrace.types.tool_choice import ToolChoice
from millrace.upstreams.quirks import (
    CACHE_KEY,
    DROPPABLE,
    ENCRYPTED_REASONING,
    REASONING_SUMMARY,
    Change,
    Quirks,
    is_meant,
)
from millrace.upstreams.responses.items import ENCRYPTED, Input, with_unread
from millrace.upstreams.responses.reasoning import reasoning_of

LEAST_CAP = 16  # tokens; the API refuses less, and the answer is cut at the lower cap
LOGPROBS = "message.output_text.logprobs"  # of `include`
# Fields that a client's extras must not set: they would add to the input, or change how the answer comes.
_RESERVED = {"input", "instructions", "previous_response_id", "conversation", "prompt", "background", "generate"}
_RESERVED |= {"max_output_tokens", "tools", "tool_choice", "parallel_tool_calls", "stream_options", "store"}
# Fields of chat completions that this API does not have.
_OF_CHAT = {"seed", "presence_penalty", "frequency_penalty", "logit_bias", "n", "max_tokens", "audio"}
_OF_CHAT |= {"max_completion_tokens", "response_format", "prediction", "modalities", "web_search_options"}
_MERGED = {"include", "reasoning", "text", "logprobs"}  # the client's values are a part of what is sent
_NO_SUMMARY = re.compile(r"reasoning[ .]summar")
_UNVERIFIED = re.compile(r"invalid_encrypted_content|encrypted content\b.*\b(verified|decrypted)")


def request(call: Call, quirks: Quirks) -> tuple[dict[str, Any], bytes, list[str]]:
    """Return the fields of a request body, the body, and notes on what is left out."""
    prompt, given, lost = call.prompt, *_given(call.prompt)
    items = Input(prompt.sent, quirks)
    lost += items.lost
    fields: dict[str, Any] = {
        "model": call.model.id,
        "input": items.items,
        "stream": True,
        "store": False,  # Millrace keeps conversations
        "include": _include(prompt, given, quirks),
        "max_output_tokens": None if call.sent_cap is None else max(call.sent_cap, LEAST_CAP),
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "text": _text(prompt, given),
        "reasoning": reasoning_of(prompt, given, quirks, lost),
        **_tools(prompt, quirks, lost),
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    for name, value in given.items():
        if name == "stop":  # the API has none
            lost.append("stop: Millrace ends the answer there")
        elif name == "service_tier" and not call.service_tier:  # what another one costs is not known
            lost.append(f"service_tier {value}: it has no price here")
        elif name in _RESERVED | _OF_CHAT or (name in quirks.drop and name not in _MERGED):
            lost.append(name)
        elif name not in _MERGED:
            fields.setdefault(name, value)
    if quirks.cache_key and call.prefix.key:
        fields.setdefault(CACHE_KEY, call.prefix.key)
    fields = {name: value for name, value in fields.items() if name not in quirks.drop}
    return fields, msgspec.json.encode(fields), [f"without {name}" for name in dict.fromkeys(lost)]


def change_for(refusal: str, sent: Mapping[str, Any]) -> Change | None:
    """Return the difference that the words of a 400 or 422 ask for; None if it is something else."""
    lower = refusal.lower()
    if "encrypted content is not supported" in lower and ENCRYPTED_REASONING in sent.get("include", ()):
        return Change(f"without {ENCRYPTED_REASONING}")
    if _NO_SUMMARY.search(lower) and "summary" in sent.get("reasoning", ()):
        return Change(f"without {REASONING_SUMMARY}")
    if _UNVERIFIED.search(lower) and any(ENCRYPTED in item for item in sent["input"]):  # of another model or account
        return Change(f"without {ENCRYPTED}")
    words, roles = set(re.findall(r"[a-z_]+", lower)), {item.get("role") for item in sent["input"]}
    for role, other in (("developer", "system"), ("system", "developer")):
        if role in roles and role in words and ("role" in words or other in words):
            return Change(f"with {other}")
    refused = (field for field in DROPPABLE if field in sent and field in words)
    return next((Change(f"without {field}") for field in refused if is_meant(refusal, field)), None)


def _given(prompt: Prompt) -> tuple[dict[str, Any], list[str]]:
    """Return the fields that the client gives for the provider, and the names of those that only another API has."""
    native = prompt.native
    if native is None:
        return prompt.extras, []
    return (prompt.extras | native.fields, []) if native.api is Api.RESPONSES else (prompt.extras, [*native.fields])


def _include(prompt: Prompt, given: Mapping[str, Any], quirks: Quirks) -> list[str] | None:
    """Return what the answer must have too: reasoning that can be sent back, and what the client asks for."""
    names = [ENCRYPTED_REASONING, *_of_type(given.get("include"), list)]
    names += [LOGPROBS] if prompt.wants_logprobs else []
    return [name for name in dict.fromkeys(names) if name not in quirks.drop] or None


def _text(prompt: Prompt, given: Mapping[str, Any]) -> dict[str, Any] | None:
    fields = {"format": _format(prompt.format), "verbosity": prompt.verbosity}
    return _of_type(given.get("text"), dict) | {name: value for name, value in fields.items() if value} or None


def _of_type(given: Any, kind: type[Any]) -> Any:
    return given if isinstance(given, kind) else kind()


def _format(form: Format | None) -> dict[str, Any] | None:
    if form is None:
        return None
    if form.schema is None:
        return {"type": form.kind}
    fields = {"name": form.name, "schema": form.schema, "strict": form.strict, "description": form.description}
    return {"type": form.kind} | {name: value for name, value in fields.items() if value is not None}


def _tools(prompt: Prompt, quirks: Quirks, lost: list[str]) -> dict[str, Any]:
    """Return the fields about tools; none without tools, since servers refuse a `tool_choice` without them."""
    tools: list[dict[str, Any]] = []
    namespaces: dict[str, list[dict[str, Any]]] = {}
    for tool in prompt.tools:
        if tool.hosted is not None and tool.hosted.api is not Api.RESPONSES:
            lost.append(tool.name)
        elif tool.hosted is not None or not tool.namespace:
            tools.append(_tool(tool, quirks, lost))
        else:
            if tool.namespace not in namespaces:
                within = namespaces[tool.namespace] = []
                space = {"name": tool.namespace, "description": tool.namespace_description, "tools": within}
                tools.append({"type": "namespace"} | space)
            namespaces[tool.namespace].append(_tool(tool, quirks, lost))
    if not tools:
        return {}
    choice = prompt.tool_choice and _tool_choice(prompt.tool_choice, prompt, lost)
    return {"tools": tools, "tool_choice": choice, "parallel_tool_calls": prompt.parallel_tool_calls}


def _tool(tool: Tool, quirks: Quirks, lost: list[str]) -> dict[str, Any]:
    if tool.hosted is not None:
        return tool.hosted.fields
    kind = "custom" if tool.is_custom else "function"
    fields: dict[str, Any] = {"type": kind, "name": tool.name, "description": tool.description}
    if tool.is_custom:
        fields["format"] = tool.grammar
    else:
        fields["parameters"] = {"type": "object", "properties": {}} if tool.parameters is None else tool.parameters
        fields["strict"] = tool.strict
    return with_unread({name: value for name, value in fields.items() if value is not None}, tool, quirks, lost)


def _tool_choice(choice: ToolChoice, prompt: Prompt, lost: list[str]) -> str | dict[str, Any] | None:
    """Return the choice as the client gave it, if it speaks this API, else in its form."""
    if choice.given is not None:
        return choice.given
    if choice.allowed is not None and choice.mode in ("auto", "required"):
        allowed = [_named(tool) for tool in prompt.tools if choice.allows(tool.key)]
        return {"type": "allowed_tools", "mode": choice.mode, "tools": allowed}
    if choice.mode not in ("function", "hosted"):
        return choice.mode
    key = (choice.namespace, choice.name)
    tool = next((tool for tool in prompt.tools if tool.key == key), None)
    if tool is None or (tool.hosted is not None and tool.hosted.api is not Api.RESPONSES):
        lost.append("tool_choice")
        return None
    return _named(tool)


def _named(tool: Tool) -> dict[str, Any]:
    """Return what names a tool in a choice."""
    if tool.hosted is not None:
        return {"type": tool.name} | ({"server_label": tool.namespace} if tool.namespace else {})
    kind = "custom" if tool.is_custom else "function"
    return {"type": kind, "name": tool.name} | ({"namespace": tool.namespace} if tool.namespace else {})
