"""The body of a chat completion. It is read into the same `Create` as a Responses body."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from millrace.errors import invalid
from millrace.types import Message, Part, Path, Paths, Prompt, Tool, ToolCall, Unread
from millrace.types.tool_choice import ToolChoice
from millrace.wire import carried, items
from millrace.wire.items import MAX_ID, Id, InputAudio, PlainText, RefusalPart
from millrace.wire.passed_on import OwnFieldsByPlace, by_index, parted, passed_on, placed, told, unread
from millrace.wire.reading import convert
from millrace.wire.requests import (
    Body,
    Create,
    ObjectForm,
    SchemaForm as Schema,
    TextForm,
    Tokens,
    TopLogprobs,
    Word,
    create,
    form_of,
    logprobs_of,
    named_extras,
)
from millrace.wire.tools import MAX_TOOLS, MOST, AnyText, Choice, ToolName, settled

PATHS = Paths(
    dialect="chat",
    input="messages",
    schema="response_format.json_schema.schema",
    tool="tools[{}].function.parameters",
)
MAX_STOPS = 16

# Fields that are refused, and why. Null, false and an empty array count as absent.
UNSUPPORTED = {
    "functions": "replaced by tools; write tools",
    "function_call": "replaced by tool_choice; write tool_choice",
    "audio": "answers are text; leave it out",
    "modalities": "answers are text; leave it out",
    "n": "only one answer is returned; leave it out",
    "web_search_options": "web search is not available; leave it out",
}
HARMLESS: dict[str, tuple[object, ...]] = {"n": (1,), "modalities": (["text"],)}  # values accepted nevertheless

Name = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]  # of who speaks
Bias = Annotated[int, Meta(ge=-100, le=100)] | Annotated[float, Meta(ge=-100, le=100)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


class ImageUrl(Struct):
    """The URL of an image; `data:` URLs are allowed."""

    url: Annotated[str, Meta(min_length=1)]
    detail: str | None = None


class ImagePart(Struct, tag="image_url"):
    """An image. The provider gets it unchanged."""

    image_url: ImageUrl


class FileData(Struct):
    """A file's data, or its id at the provider."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(Struct, tag="file"):
    """A file. The provider gets it unchanged."""

    file: FileData


UserPart = PlainText | ImagePart | FilePart | InputAudio


class SystemMessage(Struct, tag="system", tag_field="role"):
    """Instructions for the whole conversation."""

    content: str | list[PlainText]
    name: Name | None = None


class DeveloperMessage(SystemMessage, tag="developer", tag_field="role"):
    """A system message, by its newer name."""


class UserMessage(Struct, tag="user", tag_field="role"):
    """A turn of the user."""

    content: str | list[UserPart]
    name: Name | None = None


class CalledFunction(Struct):
    """The function that is called. `arguments` is JSON as the model wrote it."""

    name: ToolName
    arguments: str


class CallPart(Struct, tag="function"):
    """A tool call of an earlier answer."""

    id: Id
    function: CalledFunction


class CalledCustom(Struct):
    """The custom tool that is called, and the text that the model wrote."""

    name: ToolName
    input: str


class CustomCallPart(Struct, tag="custom"):
    """A call of a custom tool in an earlier answer."""

    id: Id
    custom: CalledCustom


class AssistantMessage(Struct, tag="assistant", tag_field="role"):
    """An earlier answer: text, tool calls or a refusal, and its reasoning if the client has it."""

    content: str | list[PlainText | RefusalPart] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None  # another name of it, if it is a text
    tool_calls: list[CallPart | CustomCallPart] | None = None
    encrypted_content: Any = None  # what Millrace wrote there of blocks that only one API understands
    name: Name | None = None


class ToolMessage(Struct, tag="tool", tag_field="role"):
    """The result of a tool call. `tool_call_id` is the id of an earlier call."""

    content: str | list[PlainText]
    tool_call_id: Id


ChatMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class ToolPart(Struct, tag="function"):
    """A function the model may call."""

    function: "Function"


class Function(Struct):
    """A function. `parameters` is a JSON schema."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class GrammarText(Struct):
    """A grammar, in lark or as a regular expression."""

    syntax: str
    definition: str


class GrammarForm(Struct, tag="grammar"):
    """Text that a grammar accepts. The provider sees to that; it is not checked here."""

    grammar: GrammarText


class Custom(Struct):
    """A custom tool, and the format of its text."""

    name: ToolName
    description: str | None = None
    format: AnyText | GrammarForm | None = None


class CustomPart(Struct, tag="custom"):
    """A tool that is called with a text."""

    custom: Custom


class ChosenName(Struct):
    """The name of a tool."""

    name: ToolName


class ChosenTool(Struct, tag="function"):
    """The function the model must call."""

    function: ChosenName


class ChosenCustom(Struct, tag="custom"):
    """The custom tool the model must call."""

    custom: ChosenName


class AllowedTool(Struct):
    """A tool that may be called: a function or a custom tool."""

    type: Literal["function", "custom"]
    function: ChosenName | None = None
    custom: ChosenName | None = None


class Allowed(Struct):
    """The only tools that may be called, and whether one must be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Meta(max_length=MOST)]


class AllowedTools(Struct, tag="allowed_tools"):
    """A choice among some of the tools."""

    allowed_tools: Allowed


class NamedSchema(Struct):
    """A JSON schema and the name that the models see."""

    schema: dict[str, Any]
    name: str = ""
    strict: bool | None = None
    description: str | None = None


class SchemaFormat(Struct, tag="json_schema"):
    """JSON that matches a schema. An answer that does not fails the check `form`."""

    json_schema: NamedSchema


class StreamOptions(Struct):
    """Whether the stream ends with a chunk of usage and cost."""

    include_usage: bool | None = None


class CompletionBody(Body, kw_only=True):
    """A chat completion's request, as `POST /v1/chat/completions` takes it."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=items.MAX_ITEMS)]
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = None  # older name of max_completion_tokens
    stop: str | Annotated[list[str], Meta(max_length=MAX_STOPS)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Bias] | None = None
    response_format: TextForm | ObjectForm | SchemaFormat | None = None
    tools: Annotated[list[ToolPart | CustomPart], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Choice | ChosenTool | ChosenCustom | AllowedTools | None = None
    reasoning_effort: Word | None = None
    verbosity: Word | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None  # only with logprobs
    n: Literal[1] | None = None  # only one answer is returned
    modalities: list[Literal["text"]] | None = None


_LOST_OF_ANSWERS = {("audio",), ("function_call",)}  # no use to a provider that did not write them
_READ = frozenset(CompletionBody.__struct_fields__) | set(UNSUPPORTED)


def read_completion(fields: dict[str, Any], checks: Collection[str]) -> Create:
    """Read the body of a chat completion. `checks` are the names of all checks that exist.

    Raises `invalid_request` with the path of the field.
    """
    for name, reason in UNSUPPORTED.items():
        if fields.get(name) not in (None, False, [], *HARMLESS.get(name, ())):
            raise invalid(name, f"{name}: not supported: {reason}")
    body = convert(fields, CompletionBody)
    if body.top_logprobs and not body.logprobs:
        raise invalid("top_logprobs", "top_logprobs: needs logprobs; write logprobs: true, or leave it out")
    passed, lost = passed_on(fields, _READ)
    left = [(path, value) for path, value in unread(fields, body) if len(path) > 1]
    lost += [path for path, _ in left if path[0] not in ("messages", "tools")]
    messages = _messages(body.messages, by_index(left, "messages"), lost)
    items.check_answerable(messages, "messages")
    tools = _tools(body.tools or (), by_index(left, "tools"), lost)
    prompt = Prompt(
        messages=messages,
        temperature=body.temperature,
        top_p=body.top_p,
        max_output_tokens=body.max_completion_tokens or body.max_tokens,
        format=form_of(_form(body.response_format)),
        verbosity=body.verbosity,
        reasoning_effort=body.reasoning_effort,
        tools=tools,
        tool_choice=_choice(body.tool_choice),
        parallel_tool_calls=body.parallel_tool_calls,
        extras=passed | named_extras(body) | _extras(body),
    )
    kind = "custom" if isinstance(body.tool_choice, ChosenCustom) else "function"
    prompt = settled(prompt, f"tool_choice.{kind}.name", "tool_choice.allowed_tools.tools")
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    return create(body, prompt, checks, PATHS, include_usage=include_usage, store=body.store, not_passed_on=told(lost))


def _messages(given: Sequence[ChatMessage], left: Mapping[int, Unread], lost: list[Path]) -> tuple[Message, ...]:
    """Return the turns. `left` was not read of each; the paths of what cannot be passed on are added to `lost`."""
    calls: set[str] = set()
    messages: list[Message] = []
    for index, message in enumerate(given):
        extras, unplaced = placed(left.get(index, ()), ("messages", index))
        extras, of_refusals = items.beside_refusals(message.content, extras, ("messages", index))
        lost += unplaced + of_refusals
        own_fields: OwnFieldsByPlace = {}
        if isinstance(message, AssistantMessage):
            lost += [("messages", index, *path) for path, _ in extras if path in _LOST_OF_ANSWERS]
            lost += [("messages", index, carried.FIELD)] if carried.is_foreign(_word(message)) else []
            own_fields, extras = parted(extra for extra in extras if extra[0] not in _LOST_OF_ANSWERS)
        messages.append(_message(message, own_fields, f"messages[{index}]", calls).with_unread(extras))
    return tuple(messages)


def _message(message: ChatMessage, own_fields: OwnFieldsByPlace, path: str, calls: set[str]) -> Message:
    """Return one turn. `calls` are the ids of all calls so far; those of this message are added."""
    match message:
        case AssistantMessage():
            calls |= {call.id for call in message.tool_calls or ()}
            return _assistant(message, own_fields, path)
        case ToolMessage():
            if message.tool_call_id not in calls:
                raise items.no_such_call(f"{path}.tool_call_id", "tool call")
            return Message(role="tool", parts=_parts(message.content, path), call_id=message.tool_call_id)
        case UserMessage():
            return Message(role="user", parts=_parts(message.content, path), name=message.name or "")
        case SystemMessage():
            return Message(role="system", parts=_parts(message.content, path), name=message.name or "")


def _assistant(message: AssistantMessage, own_fields: OwnFieldsByPlace, path: str) -> Message:
    content = message.content
    other_name = message.reasoning
    refusal = "" if not isinstance(content, list) else "".join(p.refusal for p in content if isinstance(p, RefusalPart))
    text = [part for part in content if isinstance(part, PlainText)] if isinstance(content, list) else content or ""
    turn = Message(
        role="assistant",
        parts=() if text == "" else _parts(text, path),
        calls=tuple(
            _call(call, own_fields.get(("tool_calls", index), {}))
            for index, call in enumerate(message.tool_calls or ())
        ),
        own_fields=own_fields.get((), {}),
        reasoning=message.reasoning_content or (other_name if isinstance(other_name, str) else ""),
        name=message.name or "",
        refusal=(message.refusal or "") + refusal,
        sealed=carried.read(_word(message)).blocks,
    )
    if content is None and not turn.calls and not turn.refusal:
        raise invalid(f"{path}.content", f"{path}.content: missing; write the text, or send tool_calls or a refusal")
    return turn


def _word(message: AssistantMessage) -> str:
    return "" if message.encrypted_content is None else str(message.encrypted_content)


def _parts(content: str | Sequence[UserPart], path: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (content,)
    return tuple(_part(part, f"{path}.content[{index}]") for index, part in enumerate(content))


def _part(part: UserPart, path: str) -> Part:
    match part:
        case PlainText():
            return part.text
        case ImagePart():
            return items.media("image", url=part.image_url.url, detail=part.image_url.detail)
        case FilePart():
            file = part.file
            items.one_of(f"{path}.file", file_data=file.file_data, file_id=file.file_id)
            return items.media("file", file_data=file.file_data, file_id=file.file_id, filename=file.filename)
        case InputAudio():
            return items.media("audio", data=part.input_audio.data, format=part.input_audio.format)


def _call(call: CallPart | CustomCallPart, own_fields: dict[str, Any]) -> ToolCall:
    if isinstance(call, CustomCallPart):
        name, text = call.custom.name, call.custom.input
        return ToolCall(id=call.id, name=name, arguments=text, is_custom=True, own_fields=own_fields)
    return ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments, own_fields=own_fields)


def _tools(given: Sequence[ToolPart | CustomPart], left: Mapping[int, Unread], lost: list[Path]) -> tuple[Tool, ...]:
    """Return the tools. `left` was not read of each; the paths of what cannot be passed on are added to `lost`."""
    tools: list[Tool] = []
    for index, part in enumerate(given):
        extras, unplaced = placed(left.get(index, ()), ("tools", index))
        lost += unplaced
        if isinstance(part, CustomPart):
            tool = part.custom
            form = tool.format if isinstance(tool.format, GrammarForm) else None
            grammar = None
            if form is not None:
                syntax, definition = form.grammar.syntax, form.grammar.definition
                grammar = {"type": "grammar", "syntax": syntax, "definition": definition}
            lost += [("tools", index, *path) for path, _ in extras]
            tools.append(Tool(name=tool.name, description=tool.description, is_custom=True, grammar=grammar))
        else:
            function = part.function
            tools.append(
                Tool(
                    name=function.name,
                    description=function.description,
                    parameters=function.parameters,
                    strict=function.strict,
                    unread=extras,
                )
            )
    return tuple(tools)


def _choice(given: Choice | ChosenTool | ChosenCustom | AllowedTools | None) -> ToolChoice | None:
    match given:
        case ChosenTool():
            return ToolChoice("function", given.function.name)
        case ChosenCustom():
            return ToolChoice("function", given.custom.name)
        case AllowedTools():
            names = (named.name for tool in given.allowed_tools.tools if (named := tool.function or tool.custom))
            return ToolChoice(given.allowed_tools.mode, allowed=tuple(("", name) for name in names))
    return None if given is None else ToolChoice(given)


def _form(given: TextForm | ObjectForm | SchemaFormat | None) -> TextForm | ObjectForm | Schema | None:
    if not isinstance(given, SchemaFormat):
        return given
    named = given.json_schema
    return Schema(schema=named.schema, name=named.name, strict=named.strict, description=named.description)


def _extras(body: CompletionBody) -> dict[str, Any]:
    given = {
        "stop": body.stop or None,
        "seed": body.seed,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "logit_bias": body.logit_bias or None,
        **(logprobs_of(body.top_logprobs) if body.logprobs else {}),
    }
    return {name: value for name, value in given.items() if value is not None}
