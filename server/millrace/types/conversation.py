"""What is said: messages, their parts, tools and tool calls, and the prompt they make up."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from millrace.types.tool_choice import ToolChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A part that is no text; it is passed on as it came and never looked into."""

    kind: str  # image, file or audio
    fields: dict[str, str]  # image: url, detail; file: file_data, file_id, filename; audio: data, format


Part = str | Media


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function the model wants called."""

    id: str
    name: str
    arguments: str  # JSON, as the model wrote it


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None  # a JSON schema
    strict: bool | None = None

    @property
    def size(self) -> int:
        """Characters of its name, description and schema."""
        schema = 0 if self.parameters is None else len(json.dumps(self.parameters))
        return len(self.name) + len(self.description or "") + schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation: its parts in order, and what an assistant's turn has beside them."""

    role: str  # system, user, assistant or tool
    parts: tuple[Part, ...] = ()
    calls: tuple[ToolCall, ...] = ()  # an assistant's
    call_id: str | None = None  # of a tool: which call this is the result of
    reasoning: str = ""  # an assistant's, as its provider showed it
    refusal: str = ""  # an assistant's

    @property
    def texts(self) -> tuple[str, ...]:
        """The parts that are text."""
        return tuple(part for part in self.parts if isinstance(part, str))

    @property
    def text(self) -> str:
        """The text of all parts as one."""
        return "".join(self.texts)

    @property
    def size(self) -> int:
        """Characters of all it says; media are not counted."""
        called = sum(len(call.name) + len(call.arguments) for call in self.calls)
        return sum(map(len, self.texts)) + called + len(self.reasoning) + len(self.refusal)


@dataclass(frozen=True, slots=True)
class Thought:
    """Some words of a model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Some words that the provider marked as a refusal."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPiece:
    """A tool call, or a piece of one: the first piece of an index brings id and name, all bring arguments."""

    index: int  # of the call within the answer
    id: str = ""
    name: str = ""
    arguments: str = ""


Aside = Thought | Refusal | CallPiece  # what a model says that is not the text of its answer


def reasoning_of(asides: Iterable[Aside]) -> str:
    """Return all the reasoning as one text."""
    return "".join(aside.text for aside in asides if isinstance(aside, Thought))


def refusal_of(asides: Iterable[Aside]) -> str:
    """Return the refusal as one text; empty where there is none."""
    return "".join(aside.text for aside in asides if isinstance(aside, Refusal))


def calls_of(asides: Iterable[Aside]) -> tuple[ToolCall, ...]:
    """Put the tool calls together, in the order of their index."""
    pieces: dict[int, list[CallPiece]] = {}
    for aside in asides:
        if isinstance(aside, CallPiece):
            pieces.setdefault(aside.index, []).append(aside)
    return tuple(
        ToolCall(
            id="".join(piece.id for piece in call),
            name="".join(piece.name for piece in call),
            arguments="".join(piece.arguments for piece in call),
        )
        for _, call in sorted(pieces.items())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A declared form of the answer: any JSON object, or JSON after a schema."""

    kind: str  # json_object or json_schema
    name: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What is asked, whoever is going to answer."""

    messages: tuple[Message, ...]
    context: str = ""  # what belongs to the question, as it is sent before it
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None  # as asked; a model's own cap may be lower
    format: Format | None = None
    verbosity: str | None = None
    reasoning_effort: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None  # None: the client chose nothing, or there are no tools
    parallel_tool_calls: bool | None = None
    extras: dict[str, Any] = field(default_factory=dict)  # passed on under their own names: stop, seed, logit_bias, ...
    _tools_size: int | None = field(default=None, init=False, repr=False, compare=False)  # once it was asked for

    @property
    def sent(self) -> tuple[Message, ...]:
        """The messages as they are sent: the context goes with the last question."""
        if not self.context:
            return self.messages
        at = max((at for at, message in enumerate(self.messages) if message.role == "user"), default=None)
        if at is None:
            return (*self.messages, Message(role="user", parts=(self.context,)))
        question = replace(self.messages[at], parts=_joined(self.context, self.messages[at].parts))
        return (*self.messages[:at], question, *self.messages[at + 1 :])

    @property
    def size(self) -> int:
        """Characters of all its texts, those of tools, calls and reasoning included."""
        return sum(message.size for message in self.messages) + self.tools_size

    @property
    def tools_size(self) -> int:
        """Characters of its tools. Their schemas are written for it, once."""
        if self._tools_size is None:
            size = sum(tool.size for tool in self.tools)
            object.__setattr__(self, "_tools_size", size)
            return size
        return self._tools_size


def _joined(context: str, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    first, *rest = parts or ("",)
    return (context + first, *rest) if isinstance(first, str) else (context, *parts)
