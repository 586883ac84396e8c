"""The body of a chat completions request, checked."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec

from millrace.simulator.directives import Directives, read_directives, without_directives
from millrace.simulator.shapes import BadRequestError

_FIELD = re.compile(r"field `(\w+)`|`\$\.(\w+)")


class Part(msgspec.Struct, frozen=True):
    """One part of a message; parts that are not text count as empty."""

    type: str = "text"
    text: str = ""


class Message(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    role: str
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """All the text of the message."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(msgspec.Struct, frozen=True):
    """What a stream carries besides the text."""

    include_usage: bool = False


class JsonSchema(msgspec.Struct, frozen=True):
    """A named schema."""

    schema: dict[str, Any]


class ResponseFormat(msgspec.Struct, frozen=True):
    """The form that the answer should have."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None

    def __post_init__(self) -> None:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("Object missing required field `json_schema`")


class Body(msgspec.Struct, frozen=True):
    """The fields that have an effect here; all others are accepted and ignored."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    response_format: ResponseFormat | None = None


@dataclass(frozen=True)
class Question:
    """A valid request together with the directives in it."""

    body: Body
    directives: Directives

    @cached_property
    def prompt(self) -> str:
        """The last user message, without directives."""
        return without_directives(_last_user_text(self.body.messages))

    @property
    def conversation(self) -> str:
        """Every message without directives: the same one always gets the same answer."""
        return "\n".join(f"{message.role}: {without_directives(message.text)}" for message in self.body.messages)

    @property
    def limit(self) -> int | None:
        """The most tokens the caller wants."""
        return self.body.max_completion_tokens or self.body.max_tokens

    @property
    def wants_usage(self) -> bool:
        """Whether the answer is to carry its usage; a whole answer always does."""
        options = self.body.stream_options
        return not self.body.stream or (options is not None and options.include_usage)


def decode(raw: bytes) -> Any:
    """Decode a request body, whatever it holds."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequestError("We could not parse the JSON body of your request.") from None


def read_question(document: Any, header: str, profile: str) -> Question:
    """Check a decoded body and read the directives in it."""
    try:
        body = msgspec.convert(document, Body)
    except msgspec.ValidationError as error:
        raise BadRequestError(str(error), param=_field(str(error))) from None
    # Only the last user message: a directive in the history has had its effect.
    return Question(body, read_directives(_last_user_text(body.messages), header, profile))


def _last_user_text(messages: list[Message]) -> str:
    return next((message.text for message in reversed(messages) if message.role == "user"), "")


def _field(complaint: str) -> str | None:
    """The top-level field that msgspec complains about."""
    names = [name for match in _FIELD.findall(complaint) for name in match if name]
    return names[-1] if names else None
