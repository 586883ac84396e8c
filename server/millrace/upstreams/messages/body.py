"""The Messages API: `Call` -> request body. No I/O."""

from typing import Any

import msgspec

from millrace.types import CACHE_CONTROL, Api, Call, Prompt, Tool
from millrace.types.tool_choice import ToolChoice
from millrace.upstreams import foreign
from millrace.upstreams.messages import marks
from millrace.upstreams.messages.thinking import thinking_of
from millrace.upstreams.messages.turns import Turns
from millrace.upstreams.quirks import STRICT, Quirks
from millrace.upstreams.sent_tools import SentTools

Fields = dict[str, Any]

MOST_OUTPUT = 64_000  # tokens; the cap where nobody sets one. A model that can give less says so, and is believed
_HOTTEST = 1.0  # temperature; other APIs go up to 2
_TIERS = {"auto": "auto", "default": "standard_only", "standard": "standard_only", "on_demand": "standard_only"}
# Fields of the body that Millrace does not set, by which a client of another API may mean this one.
_KNOWN = {"cache_control", "container", "context_management", "diagnostics", "fallbacks", "inference_geo"}
_KNOWN |= {"mcp_servers", "metadata", "output_config", "speed", "thinking", "top_k"}
_UNPRICED = ("speed", "fallbacks")  # ask for another speed or model, and what these cost is not known
# Of chat completions, and sent under other names.
_TRANSLATED = {"stop", "user", "safety_identifier", "service_tier"}
_RESERVED = {"model", "messages", "system", "max_tokens", "stream", "tools", "tool_choice", "temperature", "top_p"}


def request(call: Call, quirks: Quirks) -> tuple[Fields, bytes, list[str]]:
    """Return the fields of a request body, the body, and notes on what is left out."""
    fields, notes = _fields(call, quirks)
    if CACHE_CONTROL in quirks.drop:
        fields = marks.without_marks(fields)
    elif quirks.marks and call.prefix.is_read_again:
        marks.mark(fields, is_last_stable=not call.prompt.context)
    return fields, msgspec.json.encode(fields), [*dict.fromkeys(notes)]


def _fields(call: Call, quirks: Quirks) -> tuple[Fields, list[str]]:
    prompt = call.prompt
    tools = SentTools(prompt.tools, prompt.tool_choice)
    turns = Turns(prompt.sent, tools, quirks)
    given, lost = _given(call)
    lost += turns.lost + foreign.left_out(prompt, Api.MESSAGES)
    most = call.sent_cap or min(call.most, MOST_OUTPUT)
    fields: Fields = {
        "model": call.model.id,
        "max_tokens": most if quirks.output_limit is None else min(most, quirks.output_limit),
        "tools": _tools(prompt, tools, quirks) or None,
        "system": turns.system or None,
        "messages": turns.turns,
        "tool_choice": _tool_choice(prompt, tools),
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "stream": True,
    }
    fields = {name: value for name, value in fields.items() if value is not None} | given
    notes = thinking_of(fields, prompt, quirks)
    if prompt.format is not None and prompt.format.schema is not None:
        form = {"type": "json_schema", "schema": prompt.format.schema}
        fields["output_config"] = {"format": form} | fields.get("output_config", {})
    elif prompt.format is not None:
        lost.append(f"response_format {prompt.format.kind}")
    if prompt.verbosity is not None:
        lost.append("verbosity")
    if fields.get("temperature", 0) > _HOTTEST:
        fields["temperature"] = _HOTTEST
        notes.append(f"with temperature {_HOTTEST:g}")
    fields = {name: value for name, value in fields.items() if name not in quirks.drop}
    return fields, [f"without {name}" for name in lost if name != CACHE_CONTROL] + notes


def _given(call: Call) -> tuple[Fields, list[str]]:
    """Return the client's own fields that the API has, and the names of those that it does not have."""
    prompt = call.prompt
    extras = prompt.extras
    fields = {name: value for name, value in extras.items() if name in _KNOWN}
    lost = [name for name in extras if name not in _KNOWN | _TRANSLATED]
    if stop := extras.get("stop"):
        stops = [stop] if isinstance(stop, str) else stop
        if sequences := [sequence for sequence in stops if sequence.strip()]:  # the answer is ended at others here
            fields["stop_sequences"] = sequences
    if user := extras.get("safety_identifier") or extras.get("user"):
        fields["metadata"] = {"user_id": user}
    if prompt.service_tier in _TIERS:
        fields["service_tier"] = _TIERS[prompt.service_tier]
    elif prompt.service_tier:
        lost.append(f"service_tier {prompt.service_tier}: the API has no such tier")
    if prompt.native is not None and prompt.native.api is Api.MESSAGES:
        fields |= {name: value for name, value in prompt.native.fields.items() if name not in _RESERVED}
    unpriced = [name for name in _UNPRICED if fields.get(name, "standard") != "standard"]
    fields = {name: value for name, value in fields.items() if name not in unpriced}
    return fields, lost + [f"{name}: it has no price here" for name in unpriced]


def _tools(prompt: Prompt, tools: SentTools, quirks: Quirks) -> list[Fields]:
    """Return the definitions in the client's order, with those that the provider runs, as they came."""
    functions = iter(tools.functions)
    choice = prompt.tool_choice
    definitions: list[Fields] = []
    for tool in prompt.tools:
        if tool.hosted is None and (choice is None or choice.allows(tool.key)):
            definitions.append(_function(next(functions), quirks))
        elif tool.hosted is not None and tool.hosted.api is Api.MESSAGES:
            definitions.append({**tool.hosted.fields})
    return definitions


def _function(tool: Tool, quirks: Quirks) -> Fields:
    fields: Fields = {
        "name": tool.name,
        "description": tool.description or None,
        "input_schema": {"type": "object"} | (tool.parameters or {"properties": {}}),
        "strict": (tool.strict and not quirks.drops_within(STRICT)) or None,
    }
    for path, value in tool.unread:
        if tool.unread_api is Api.MESSAGES or path[-1] == CACHE_CONTROL:
            fields.setdefault(str(path[-1]), value)
    return {name: value for name, value in fields.items() if value is not None}


def _tool_choice(prompt: Prompt, tools: SentTools) -> Fields | None:
    """Return which tool may be called, and whether one at a time; None without tools."""
    hosted = [tool for tool in prompt.tools if tool.hosted is not None and tool.hosted.api is Api.MESSAGES]
    if not (tools.functions or hosted):
        return None
    names = {tool.name for tool in (*tools.functions, *hosted)}
    choice = _choice(prompt.tool_choice, tools, names)
    if prompt.parallel_tool_calls is False and (choice is None or choice["type"] != "none"):
        return (choice or {"type": "auto"}) | {"disable_parallel_tool_use": True}
    return choice


def _choice(choice: ToolChoice | None, tools: SentTools, names: set[str]) -> Fields | None:
    """Return a choice in the words of the API; None if nobody has chosen, or a tool that is not sent."""
    match choice:
        case None:
            return None
        case ToolChoice(mode="required"):
            return {"type": "any"}
        case ToolChoice(mode="function" | "hosted"):
            name = tools.name_of((choice.namespace, choice.name))
            return {"type": "tool", "name": name} if name in names else None
    return {"type": choice.mode}
