"""The body of a chat completions request, and its validation."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Annotated, Any, Literal

import msgspec

from millrace.simulator.conversation import Message, check_results
from millrace.simulator.directives import Directives, read_directives, without_directives
from millrace.simulator.prompted import is_fenced, schema_in
from millrace.simulator.shapes import BadRequestError

_FIELD = re.compile(r"field `(\w+)`|`\$\.(\w+)")


class StreamOptions(msgspec.Struct, frozen=True):
    """The stream options of a request."""

    include_usage: bool = False


class JsonSchema(msgspec.Struct, frozen=True):
    """The JSON schema of a response format."""

    schema: dict[str, Any]


class ResponseFormat(msgspec.Struct, frozen=True):
    """The requested format of the answer."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None

    def __post_init__(self) -> None:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("Object missing required field `json_schema`")


class Function(msgspec.Struct, frozen=True):
    """A function that the model may call."""

    name: str
    parameters: dict[str, Any] | None = None
    description: str | None = None


class Tool(msgspec.Struct, frozen=True):
    """An entry of `tools`."""

    function: Function


class _Named(msgspec.Struct, frozen=True):
    name: str


class Chosen(msgspec.Struct, frozen=True):
    """A `tool_choice` that names the function to call."""

    function: _Named


class Body(msgspec.Struct, frozen=True):
    """The fields with an effect here; all others are accepted and ignored."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    model: str | None = None  # any name is taken
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | Chosen | None = None
    parallel_tool_calls: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str = ""
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None


@dataclass(frozen=True)
class Question:
    """A valid request and its directives."""

    body: Body
    directives: Directives

    @cached_property
    def prompt(self) -> str:
        """The last user message, without directives."""
        return without_directives(_last_user_text(self.body.messages))

    @property
    def prompts(self) -> Iterator[str]:
        """What may be the question, without directives: all user messages and their last paragraphs, the last first.

        Before a question there may be its context. Where an answer is to be corrected, the question stands before that.
        """
        texts = (each.text for each in reversed(self.body.messages) if each.role == "user")
        return (without_directives(part) for text in texts for part in (text, text.rpartition("\n\n")[2]))

    @property
    def instructions(self) -> tuple[str, ...]:
        """The system messages."""
        return tuple(each.text for each in self.body.messages if each.role in ("system", "developer"))

    @property
    def conversation(self) -> str:
        """All messages without directives, as one text: it seeds the answer."""
        turns = (
            (message.role, without_directives(message.text), message.tool_call_text) for message in self.body.messages
        )
        return "\n".join(f"{role}: {text}{calls}" for role, text, calls in turns)

    @property
    def results(self) -> tuple[str, ...]:
        """The tool results at the end of the conversation."""
        tail = takewhile(lambda message: message.role == "tool", reversed(self.body.messages))
        return tuple(message.text for message in tail)[::-1]

    @property
    def media(self) -> Counter[str]:
        """The images, files and recordings of the last user message."""
        return next((message.media for message in reversed(self.body.messages) if message.role == "user"), Counter())

    @property
    def functions(self) -> tuple[Function, ...]:
        """The functions to call, in order; none if the conversation ends with tool results: text answers those."""
        body, offered = self.body, {tool.function.name: tool.function for tool in self.body.tools or ()}
        if self.results or self.directives.refuse or body.tool_choice == "none":
            return ()
        names = list(self.directives.tools)
        if isinstance(body.tool_choice, Chosen):
            names = names or [body.tool_choice.function.name]
        elif body.tool_choice == "required":
            names = names or list(offered)[:1]
        functions = tuple(offered.get(name) or _named(name, offered.values()) for name in names)
        return functions[:1] if body.parallel_tool_calls is False else functions

    @property
    def format(self) -> ResponseFormat:
        """The format of the answer: of the field, or with the schema that stands in the prompt."""
        declared = self.body.response_format or ResponseFormat()
        if declared.json_schema is not None or self.body.tools or self.results:
            return declared
        schema = schema_in(self._asking)
        return declared if schema is None else ResponseFormat("json_schema", JsonSchema(schema))

    @property
    def is_fenced(self) -> bool:
        """Whether a document is to be written into a code block."""
        return self.body.response_format is None and is_fenced(self._asking)

    @property
    def _asking(self) -> list[str]:
        return [message.text for message in self.body.messages if message.role not in ("assistant", "tool")]

    @property
    def limit(self) -> int | None:
        """The maximum number of output tokens."""
        return self.body.max_completion_tokens or self.body.max_tokens

    @property
    def wants_usage(self) -> bool:
        """Whether the answer reports its usage; one that is not streamed always does."""
        options = self.body.stream_options
        return not self.body.stream or (options is not None and options.include_usage)


def decode(raw: bytes) -> Any:
    """Decode the JSON of a request body. Raises `BadRequestError`."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequestError("We could not parse the JSON body of your request.") from None


def read_question(document: Any, header: str, profile: str) -> Question:
    """Validate a decoded body and read its directives. Raises `BadRequestError`."""
    try:
        body = msgspec.convert(document, Body)
    except msgspec.ValidationError as error:
        raise BadRequestError(str(error), param=_field(str(error))) from None
    _check_tools(body)
    check_results(body.messages)
    # Only the last user message: directives in the history applied to earlier requests.
    return Question(body, read_directives(_last_user_text(body.messages), header, profile))


def _check_tools(body: Body) -> None:
    """Check `tool_choice` as OpenAI does: it needs tools, and may only name one of them."""
    offered = {tool.function.name for tool in body.tools or ()}
    if body.tool_choice is not None and not offered:
        raise BadRequestError("'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
    if isinstance(body.tool_choice, Chosen) and body.tool_choice.function.name not in offered:
        raise BadRequestError("'tool_choice' names a function that is not in 'tools'.", param="tool_choice")


def _named(name: str, offered: Iterable[Function]) -> Function:
    """Return the function whose name ends with this one, after a namespace; else one that nobody offered."""
    return next((function for function in offered if function.name.endswith(f"__{name}")), Function(name))


def _last_user_text(messages: list[Message]) -> str:
    return next((message.text for message in reversed(messages) if message.role == "user"), "")


def _field(error: str) -> str | None:
    """Return the field named in a validation error of msgspec."""
    names = [name for match in _FIELD.findall(error) for name in match if name]
    return names[-1] if names else None
