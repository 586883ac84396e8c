"""The body of a Messages request. It is read into the same `Create` as a Responses body.

What only this API understands stays as it is in `Prompt.native`, in sealed blocks and in unread fields.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from millrace.errors import invalid
from millrace.types import Api, Format, Message, Native, Part, Path, Paths, Prompt, Sealed, Tool, ToolCall
from millrace.types.tool_choice import ToolChoice
from millrace.wire import blocks, carried, items, limits
from millrace.wire.blocks import Content
from millrace.wire.passed_on import told, unread
from millrace.wire.reading import convert
from millrace.wire.requests import Create, RequestBody, Tokens, Word, create
from millrace.wire.tools import ToolName

PATHS = Paths(dialect="messages", input="messages", schema="output_config.format.schema", tool="tools[{}].input_schema")
MAX_MESSAGES = 100_000  # of one request: there is no other way to go on with a conversation
MAX_TOOLS = limits.MOST_TOOLS  # agents bring those of all their servers
TIERS = {"auto": "auto", "standard_only": "default"}  # as other APIs name them
HEADERS = ("anthropic-version", "anthropic-beta")  # of a request, for this API alone

Sampling = Annotated[float, Meta(ge=0, le=1)]


class MessageParam(Struct):
    """One turn: a text, or content blocks as the Messages API has them."""

    role: Literal["user", "assistant", "system"]
    content: str | Content


class CustomTool(Struct):
    """A tool that the client runs. `input_schema` is a JSON schema."""

    name: ToolName
    input_schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None
    type: Literal["custom"] | None = None


class Choice(Struct):
    """Which tool the model may or must call."""

    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None  # with `tool`
    disable_parallel_tool_use: bool | None = None


class JsonSchema(Struct, tag="json_schema"):
    """JSON that matches a schema. An answer that does not fails the check `form`."""

    schema: dict[str, Any]


class OutputConfig(Struct):
    """How much the model may spend on its answer, and the format that it must have."""

    effort: Word | None = None
    format: JsonSchema | None = None


class ThinkingConfig(Struct):
    """Whether the model thinks: enabled, disabled, adaptive and so on. Only models of this API get it."""

    type: Word


class CountBody(RequestBody, kw_only=True):
    """What the tokens of a request are counted of. All fields of a request are taken."""

    messages: Annotated[list[MessageParam], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: str | Content | None = None
    temperature: Sampling | None = None
    stop_sequences: list[str] | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: JsonSchema | None = None  # the earlier place of `output_config.format`
    tools: Annotated[list[dict[str, Any]], Meta(max_length=limits.MOST_TOOLS)] | None = None
    tool_choice: Choice | None = None
    service_tier: Literal["auto", "standard_only"] | None = None


class MessagesBody(CountBody, kw_only=True):
    """A Messages request, as `POST /v1/messages` takes it."""

    max_tokens: Tokens


_NEUTRAL = frozenset(MessagesBody.__struct_fields__) - {"thinking"} | {"millrace"}


class _Turns(Struct):
    """The messages read so far."""

    messages: list[Message] = field(default_factory=list)
    calls: set[str] = field(default_factory=set)  # ids
    lost: list[Path] = field(default_factory=list)


def read_messages(fields: dict[str, Any], checks: Collection[str], headers: Mapping[str, str]) -> Create:
    """Read the body of a Messages request, and what its headers say to a model of this API.

    `checks` are the names of all checks that exist. Raises `invalid_request` with the path of the field.
    """
    body = convert(fields, MessagesBody)
    return _create(fields, body, checks, headers, body.max_tokens)


def read_count(fields: dict[str, Any], checks: Collection[str], headers: Mapping[str, str]) -> Create:
    """Read a request whose tokens are counted; it needs no `max_tokens`."""
    return _create(fields, convert(fields, CountBody), checks, headers, None)


def _create(
    fields: dict[str, Any], body: CountBody, checks: Collection[str], headers: Mapping[str, str], most: int | None
) -> Create:
    turns = _turns(fields, body)
    items.check_answerable(turns.messages, "messages")
    tools = tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(body.tools or ()))
    thinks_not = body.thinking is not None and body.thinking.type == "disabled"
    effort = body.output_config.effort if body.output_config and not thinks_not else None
    metadata = dict(body.metadata or {})
    user = metadata.pop("user_id", None)
    form, schema_path = _form(body)
    prompt = Prompt(
        messages=tuple(turns.messages),
        temperature=body.temperature,
        top_p=body.top_p,
        max_output_tokens=most,
        format=form,
        reasoning_effort=effort,
        tools=tools,
        tool_choice=_choice(body.tool_choice, tools),
        parallel_tool_calls=False
        if tools and body.tool_choice and body.tool_choice.disable_parallel_tool_use
        else None,
        extras=_extras(body, user),
        native=Native(api=Api.MESSAGES, fields=_native(fields, body, effort), headers=dict(headers)),
    )
    body.metadata = metadata
    lost = [*turns.lost, *_unread(fields, body)]
    return create(body, prompt, checks, replace(PATHS, schema=schema_path), not_passed_on=told(lost))


def _unread(fields: dict[str, Any], body: CountBody) -> Iterator[Path]:
    """Yield the paths of what was not read of fields that are sent in words of another API, or made anew."""
    for name in ("tool_choice", "output_format"):
        yield from ((name, *path) for path, _ in unread(fields.get(name), getattr(body, name)))
    if body.output_config is not None:
        inner = unread(fields["output_config"].get("format"), body.output_config.format)
        yield from (("output_config", "format", *path) for path, _ in inner)


def _form(body: CountBody) -> tuple[Format | None, str]:
    """Return the format of the answer, and the path of its schema."""
    if body.output_config is not None and body.output_config.format is not None:
        form, path = body.output_config.format, PATHS.schema
    elif body.output_format is not None:
        form, path = body.output_format, "output_format.schema"
    else:
        return None, PATHS.schema
    return Format(kind="json_schema", name="answer", schema=form.schema), path


def _extras(body: CountBody, user: Any) -> dict[str, Any]:
    """Return what other APIs have too, under the names of chat completions."""
    if user is not None and not isinstance(user, str):
        raise invalid("metadata.user_id", "metadata.user_id: expected a string")
    given = {"stop": body.stop_sequences or None, "user": user, "service_tier": TIERS.get(body.service_tier or "")}
    return {name: value for name, value in given.items() if value is not None}


def _native(fields: dict[str, Any], body: CountBody, effort: str | None) -> dict[str, Any]:
    """Return the fields that no other API has."""
    native = {name: value for name, value in fields.items() if name not in _NEUTRAL and value is not None}
    config = {name: value for name, value in (fields.get("output_config") or {}).items() if name != "format"}
    if effort is not None:
        config.pop("effort")
    config = {name: value for name, value in config.items() if value is not None}
    return native | ({"output_config": config} if config else {})


def _turns(fields: dict[str, Any], body: CountBody) -> _Turns:
    turns = _Turns()
    if body.system:
        parts, left = blocks.parts_of(body.system, blocks.OF_SYSTEM, "system")
        turns.messages.append(Message(role="system", parts=parts).with_unread(tuple(left), Api.MESSAGES))
    for index, (given, message) in enumerate(zip(fields["messages"], body.messages, strict=True)):
        path = f"messages[{index}].content"
        turns.lost += [("messages", index, *place) for place, _ in unread(given, message)]
        if message.role == "assistant":
            turns.messages.append(_answer(message.content, path, turns.calls))
        elif message.role == "system":
            parts, left = blocks.parts_of(message.content, blocks.OF_SYSTEM, path)
            turns.messages.append(Message(role="system", parts=parts).with_unread(tuple(left), Api.MESSAGES))
        else:
            turns.messages += _user(message.content, path, turns.calls)
    return turns


def _user(content: str | Sequence[dict[str, Any]], path: str, calls: Collection[str]) -> Iterator[Message]:
    """Yield a message of each result of a tool, then one of what the user says beside them."""
    if isinstance(content, str):
        yield Message(role="user", parts=(content,))
        return
    parts: list[Part] = []
    left: list[tuple[Path, Any]] = []
    results = 0
    for index, block in enumerate(content):
        if blocks.kind_of(block) == "tool_result":
            yield _result(block, f"{path}[{index}]", calls)
            results += 1
            continue
        part, extras = blocks.part_of(block, blocks.OF_A_USER, f"{path}[{index}]")
        left += blocks.placed(extras, "content", len(parts))
        parts.append(part)
    if parts or not results:
        yield Message(role="user", parts=tuple(parts)).with_unread(tuple(left), Api.MESSAGES)


def _result(block: dict[str, Any], path: str, calls: Collection[str]) -> Message:
    result = convert(block, blocks.ToolResult, path)
    if result.tool_use_id not in calls:
        raise items.no_such_call(f"{path}.tool_use_id", "tool_use")
    parts, left = blocks.parts_of(result.content or "", blocks.OF_A_RESULT, f"{path}.content")
    beside = [(place, value) for place, value in unread(block, result) if place[0] != "content"]
    message = Message(role="tool", parts=parts, call_id=result.tool_use_id, is_error=bool(result.is_error))
    return message.with_unread((*beside, *left), Api.MESSAGES)


def _answer(content: str | Sequence[dict[str, Any]], path: str, ids: set[str]) -> Message:
    """Return an earlier answer. The ids of its calls are added to `ids`."""
    if isinstance(content, str):
        return Message(role="assistant", parts=(content,) if content else ())
    parts: list[Part] = []
    calls: list[ToolCall] = []
    sealed: list[Sealed] = []
    thoughts: list[str] = []
    left: list[tuple[Path, Any]] = []
    own_fields: dict[str, Any] = {}
    of_calls: dict[str, dict[str, Any]] = {}
    for index, block in enumerate(content):
        at = f"{path}[{index}]"
        whole = Sealed(api=Api.MESSAGES, fields=block, parts_before=len(parts), calls_before=len(calls))
        if (kind := blocks.kind_of(block)) and kind not in blocks.OF_AN_ANSWER:
            sealed.append(whole)  # what the provider has run, or what is newer than this
            continue
        match read := blocks.read(block, blocks.OF_AN_ANSWER, at):
            case blocks.TextBlock():
                left += blocks.placed(tuple(unread(block, read)), "content", len(parts))
                parts.append(read.text)
            case blocks.ToolUse():
                left += blocks.placed(tuple(unread(block, read)), "tool_calls", len(calls))
                calls.append(blocks.call_of(read))
            case blocks.RedactedThinking():
                sealed.append(whole)
            case blocks.Thinking():
                thoughts.append(read.thinking)
                if carried.is_foreign(read.signature):
                    sealed.append(whole)
                else:
                    word = carried.read(read.signature)
                    own_fields |= word.message
                    of_calls |= word.calls
                    sealed += (dataclasses.replace(whole, api=one.api, fields=one.fields) for one in word.blocks)
    ids |= {call.id for call in calls}
    return Message(
        role="assistant",
        parts=tuple(parts),
        calls=tuple(replace(call, own_fields=of_calls.get(call.id, {})) for call in calls),
        reasoning="".join(thoughts),
        own_fields=own_fields,
        sealed=tuple(sealed),
    ).with_unread(tuple(left), Api.MESSAGES)


def _tool(given: dict[str, Any], path: str) -> Tool:
    kind = given.get("type")
    if kind is not None and not isinstance(kind, str):
        raise invalid(f"{path}.type", f"{path}.type: expected a string")
    if kind not in (None, "custom"):  # one that the provider defines; its calls, if any, come under its name
        name = given.get("name")
        hosted = Sealed(api=Api.MESSAGES, fields=given)
        return Tool(name=name if isinstance(name, str) and name else str(kind), hosted=hosted)
    tool = convert(given, CustomTool, path)
    return Tool(
        name=tool.name,
        description=tool.description,
        parameters=tool.input_schema,
        strict=tool.strict,
        unread=tuple(unread(given, tool)),
        unread_api=Api.MESSAGES,
    )


def _choice(choice: Choice | None, tools: Sequence[Tool]) -> ToolChoice | None:
    """Return the tool choice. Providers refuse one without tools, so there is none then."""
    if choice is None:
        return None
    if choice.type == "tool":
        chosen = next((tool for tool in tools if tool.name == choice.name), None)
        if chosen is None:
            path = "tool_choice.name"
            why = "missing" if choice.name is None else f"{choice.name[:40]!r} is not one of the tools"
            raise invalid(path, f"{path}: {why}; name one of them, or write auto")
        return ToolChoice("function" if chosen.hosted is None else "hosted", chosen.name)
    if choice.type == "any":
        if not tools:
            path = "tool_choice.type"
            raise invalid(path, f"{path}: any, but there are no tools; send tools, or write auto")
        return ToolChoice("required")
    return ToolChoice(choice.type) if tools else None
