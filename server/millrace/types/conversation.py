"""Messages, their parts, tools and tool calls, and the prompt made of them."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from sys import getsizeof
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from millrace.types.tool_choice import ToolChoice, ToolKey

MESSAGE_SIZE = 300  # bytes of a message or a call in memory, beside its texts
PARSED = 8  # bytes in memory per character of JSON, once it is parsed


Path = tuple[str | int, ...]  # names of fields and indices of lists
Unread = tuple[tuple[Path, Any], ...]  # fields that Millrace does not read: where each goes in what is sent

# Of those: says what a provider should keep in its cache, so it cannot change the answer.
CACHE_CONTROL = "cache_control"
FAILED = "The tool failed: "  # in front of a result, for APIs that have no field for it


class Api(StrEnum):
    """An API of a model provider."""

    CHAT = "chat"  # OpenAI's chat completions
    RESPONSES = "responses"  # OpenAI's Responses
    MESSAGES = "messages"  # Anthropic's Messages


_THOUGHTS = frozenset({"reasoning", "thinking", "redacted_thinking"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A block of an answer that only the API it came from understands: it goes back to that API as it is.

    Signed or redacted thinking, encrypted reasoning, a tool that the provider has run and its result.
    """

    api: Api
    fields: dict[str, Any]  # the block or item, whole
    parts_before: int = 0  # parts of the message in front of it
    calls_before: int = 0  # tool calls of the message in front of it
    maker: str = ""  # the model that wrote it, where it is known
    _size: int | None = field(default=None, init=False, repr=False, compare=False)  # computed on first use

    @property
    def is_thought(self) -> bool:
        """Whether it is what the model thought, and nothing that it did or said."""
        return self.kind in _THOUGHTS

    @property
    def kind(self) -> str:
        """Its type, by its API's name."""
        return str(self.fields.get("type", ""))

    @property
    def size(self) -> int:
        """Bytes of it as JSON. Computed once, since it serializes that."""
        size = self._size
        if size is None:
            size = _json_size(self.fields)
            object.__setattr__(self, "_size", size)
        return size

    @property
    def memory_bytes(self) -> int:
        """Bytes that it holds, about."""
        return MESSAGE_SIZE + PARSED * self.size


class Media(Struct, frozen=True, kw_only=True, gc=False):
    """A part that is not text. It is passed to the model unchanged and never parsed."""

    kind: str  # image, file, audio; block: one that only one API understands
    fields: dict[str, str]  # image: url, detail; file: file_data, file_id, filename; audio: data, format; block: text
    sealed: Sealed | None = None  # of a block; other APIs get its `text`, if it has one

    @property
    def text(self) -> str:
        """What other APIs get of a block; empty if it says nothing to them."""
        return self.fields.get("text", "") if self.kind == "block" else ""

    @property
    def memory_bytes(self) -> int:
        """Bytes that it holds, about."""
        return sum(map(getsizeof, self.fields.values())) + (0 if self.sealed is None else self.sealed.memory_bytes)


Part = str | Media


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """What a request says that only the API of its client understands: it goes to that API alone."""

    api: Api
    fields: dict[str, Any] = field(default_factory=dict)  # of the body
    headers: dict[str, str] = field(default_factory=dict)
    _size: int | None = field(default=None, init=False, repr=False, compare=False)  # computed on first use

    @property
    def size(self) -> int:
        """Bytes of it as JSON. Computed once, since it serializes that."""
        size = self._size
        if size is None:
            size = _json_size(self.fields) + _json_size(self.headers)
            object.__setattr__(self, "_size", size)
        return size

    @property
    def memory_bytes(self) -> int:
        """Bytes that it holds, about."""
        return PARSED * self.size


class ToolCall(Struct, frozen=True, kw_only=True, gc=False):
    """A call of a tool that the model asks for."""

    id: str
    name: str
    arguments: str  # JSON text, unchanged and not validated; of a custom tool any text
    namespace: str = ""  # of the tool
    is_custom: bool = False  # of a custom tool
    own_fields: dict[str, Any] = {}  # the provider's own fields beside it, such as a signature

    @property
    def tool(self) -> ToolKey:
        """Which tool it calls."""
        return self.namespace, self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool the model may call: a function, a custom tool, which takes any text, or one that the provider runs."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None  # a JSON schema
    strict: bool | None = None
    namespace: str = ""  # names are unique within one
    namespace_description: str = ""
    is_custom: bool = False
    grammar: dict[str, Any] | None = None  # of a custom tool: the format of its text, as the Responses API has it
    hosted: Sealed | None = None  # one that the provider runs, as its API has it; `name` is its type then
    unread: Unread = ()  # within the tool, as `unread_api` has it
    unread_api: Api = Api.CHAT
    path: str = field(default="", compare=False)  # of its schema in the request that brought it; empty: by its index
    _size: int | None = field(default=None, init=False, repr=False, compare=False)  # computed on first use

    @property
    def key(self) -> ToolKey:
        """What tells it from other tools."""
        return self.namespace, self.name

    @property
    def size(self) -> int:
        """Characters of its name and description, and bytes of its schema. Computed once, since it serializes that."""
        size = self._size
        if size is None:
            size = sum(map(len, (self.name, self.description or "", self.namespace, self.namespace_description)))
            size += size_of_unread(self.unread)
            size += sum(_json_size(schema) for schema in (self.parameters, self.grammar) if schema is not None)
            size += 0 if self.hosted is None else self.hosted.size
            object.__setattr__(self, "_size", size)
        return size


class Message(Struct, frozen=True, kw_only=True, gc=False):
    """One message: its parts in order, and the fields that only an assistant's or a tool's message has."""

    role: str  # system, user, assistant or tool
    parts: tuple[Part, ...] = ()
    calls: tuple[ToolCall, ...] = ()  # assistant only
    call_id: str | None = None  # tool only: the call that this is the result of
    is_error: bool = False  # tool only: the call has failed
    reasoning: str = ""  # assistant only, as the provider sent it
    refusal: str = ""  # assistant only
    name: str = ""  # of who speaks, where a conversation has several of one role
    own_fields: dict[str, Any] = {}  # the provider's own fields, such as `reasoning_details`
    sealed: tuple[Sealed, ...] = ()  # in order; a tool's message without a call has only these
    tools: tuple[Tool, ...] = ()  # system only: tools that may be called from here on; `Prompt.tools` has them too
    unread: Unread = ()  # fields of `unread_api`; parts are in `content`, calls in `tool_calls`
    unread_api: Api = Api.CHAT
    unread_size: int = 0  # bytes of it, measured once by `with_unread`

    def with_unread(self, unread: Unread, api: Api = Api.CHAT) -> "Message":
        """Return the message with these fields of an API."""
        if not unread:
            return self
        return replace(self, unread=unread, unread_api=api, unread_size=size_of_unread(unread))

    @property
    def texts(self) -> tuple[str, ...]:
        """The parts that are text."""
        return tuple(part for part in self.parts if isinstance(part, str))

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(self.texts)

    @property
    def is_sealed(self) -> bool:
        """Whether it has sealed blocks and nothing else, so that it says nothing to another API."""
        is_more = self.parts or self.calls or self.refusal or self.call_id is not None
        return bool(self.sealed) and not is_more

    def in_words(self) -> "Message":
        """Return it as APIs get it that have no field for a failed tool, and no blocks of another API."""
        if not self.is_error and all(isinstance(part, str) or part.kind != "block" for part in self.parts):
            return self
        texts = (part if isinstance(part, str) or part.kind != "block" else part.text for part in self.parts)
        parts = tuple(part for part in texts if part != "")
        if self.is_error:
            first, *rest = parts or ("",)
            parts = (FAILED + first, *rest) if isinstance(first, str) else (FAILED, *parts)
        return replace(self, parts=parts)

    @property
    def size(self) -> int:
        """Characters of its text, calls, reasoning and refusal. Of media only the text of a block counts."""
        size = len(self.reasoning) + len(self.refusal)
        for part in self.parts:
            size += len(part if isinstance(part, str) else part.text)
        for call in self.calls:
            size += len(call.name) + len(call.arguments)
        return size

    @property
    def memory_bytes(self) -> int:
        """Bytes that it holds, media included, about."""
        held = MESSAGE_SIZE + sum(map(getsizeof, (self.reasoning, self.refusal, *self.texts)))
        held += sum(part.memory_bytes for part in self.parts if isinstance(part, Media))
        held += PARSED * self.unread_size + sum(sealed.memory_bytes for sealed in self.sealed)
        held += sum(MESSAGE_SIZE + getsizeof(call.arguments) for call in self.calls)
        held += PARSED * sum(tool.size for tool in self.tools)
        return held + memory_bytes_of(self.own_fields) + sum(memory_bytes_of(call.own_fields) for call in self.calls)


class Thought(Struct, frozen=True, gc=False):
    """A delta of a model's reasoning."""

    text: str


class Refusal(Struct, frozen=True, gc=False):
    """A delta of text that the provider marked as a refusal."""

    text: str


class CallPiece(Struct, frozen=True, kw_only=True, gc=False):
    """A delta of a tool call. The first one of an index has the id and the name; all may have arguments."""

    index: int  # of the call within the answer
    id: str = ""
    name: str = ""
    arguments: str = ""
    namespace: str = ""
    is_custom: bool = False
    own_fields: dict[str, Any] = {}  # fields of the provider's own


class OwnFields(Struct, frozen=True, gc=False):
    """Fields of the provider's own beside an answer. Some providers want them back with it in the next request."""

    fields: dict[str, Any]


Aside = Thought | Refusal | CallPiece | OwnFields | Sealed  # a delta that is not text of the answer


def reasoning_of(asides: Iterable[Aside]) -> str:
    """Return the reasoning as one string."""
    return "".join(aside.text for aside in asides if isinstance(aside, Thought))


def refusal_of(asides: Iterable[Aside]) -> str:
    """Return the refusal as one string; empty if there is none."""
    return "".join(aside.text for aside in asides if isinstance(aside, Refusal))


def calls_of(asides: Iterable[Aside]) -> tuple[ToolCall, ...]:
    """Assemble the tool calls from their pieces, ordered by index."""
    pieces: dict[int, list[CallPiece]] = {}
    for aside in asides:
        if isinstance(aside, CallPiece):
            pieces.setdefault(aside.index, []).append(aside)
    return tuple(
        ToolCall(
            id="".join(piece.id for piece in call),
            name="".join(piece.name for piece in call),
            arguments="".join(piece.arguments for piece in call),
            namespace="".join(piece.namespace for piece in call),
            is_custom=any(piece.is_custom for piece in call),
            own_fields=merged(piece.own_fields for piece in call),
        )
        for _, call in sorted(pieces.items())
    )


def own_fields_of(asides: Iterable[Aside]) -> dict[str, Any]:
    """Return the provider's own fields beside an answer."""
    return merged(aside.fields for aside in asides if isinstance(aside, OwnFields))


def memory_bytes_of(fields: dict[str, Any]) -> int:
    """Return the bytes that parsed fields hold, about."""
    return PARSED * len(msgspec.json.encode(fields)) if fields else 0


def merged(given: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return all fields; of those with one name the last."""
    return {name: value for fields in given for name, value in fields.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """The format that the answer must have: any JSON object, or JSON that matches a schema."""

    kind: str  # json_object or json_schema
    name: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None
    _size: int | None = field(default=None, init=False, repr=False, compare=False)  # computed on first use

    @property
    def size(self) -> int:
        """Bytes of its schema. Computed once, since it serializes that."""
        size = self._size
        if size is None:
            size = 0 if self.schema is None else _json_size(self.schema)
            object.__setattr__(self, "_size", size)
        return size


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What is sent to a model, whichever model that is."""

    messages: tuple[Message, ...]
    context: str = ""  # context chunks as one text, sent in front of the last question
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None  # as requested; a model's own cap may be lower
    format: Format | None = None
    verbosity: str | None = None
    reasoning_effort: str | None = None
    tools: tuple[Tool, ...] = ()
    added_tools: int = 0  # the last of them, which messages have brought
    tool_choice: ToolChoice | None = None  # None: the client chose nothing, or there are no tools
    parallel_tool_calls: bool | None = None
    extras: dict[str, Any] = field(default_factory=dict)  # passed on under their own names: stop, seed, ...
    extras_size: int = 0  # bytes of them, if the reader has measured it
    native: Native | None = None  # what only the API of the client understands
    _bytes: int | None = field(default=None, init=False, repr=False, compare=False)  # computed on first use
    _size: int | None = field(default=None, init=False, repr=False, compare=False)  # too
    _whole_size: int | None = field(default=None, init=False, repr=False, compare=False)  # too

    @property
    def service_tier(self) -> str:
        """The service tier that the client asks for; empty without one."""
        asked = self.extras.get("service_tier")
        return asked if isinstance(asked, str) else ""

    @property
    def wants_logprobs(self) -> bool:
        """Whether the client asks for the log-probabilities of the answer's tokens."""
        return self.extras.get("logprobs") is True

    @property
    def sent(self) -> tuple[Message, ...]:
        """The messages as they are sent: the context is put in front of the last user message.

        A message that only brings tools is left out, since `tools` has them.
        """
        messages = self.messages
        if self.added_tools:
            messages = tuple(message for message in messages if message.parts or not message.tools)
        if not self.context:
            return messages
        at = max((at for at, message in enumerate(messages) if message.role == "user"), default=None)
        if at is None:
            return (*messages, Message(role="user", parts=(self.context,)))
        question = _with_context(self.context, messages[at])
        return (*messages[:at], question, *messages[at + 1 :])

    @property
    def own_tools(self) -> tuple[Tool, ...]:
        """The tools that the request itself has."""
        return self.tools[: len(self.tools) - self.added_tools]

    def with_tools_of_messages(self) -> "Prompt":
        """Return it with the tools that its messages bring. Of two with the same name the later one counts."""
        if not any(message.tools for message in self.messages):
            return self
        own = self.own_tools
        known = {tool.key for tool in own}
        brought = {tool.key: tool for message in self.messages for tool in message.tools}
        added = [tool for key, tool in brought.items() if key not in known]
        return dataclasses.replace(self, tools=(*own, *added), added_tools=len(added))

    @property
    def size(self) -> int:
        """Characters of all its text, including tools, calls and reasoning. Computed once."""
        size = self._size
        if size is None:
            size = sum(message.size for message in self.messages) + self.tools_size
            object.__setattr__(self, "_size", size)
        return size

    @property
    def whole_size(self) -> int:
        """Characters of all of it: media, extras, sealed blocks and the schema of its format too. Computed once."""
        whole = self._whole_size
        if whole is None:
            whole = self.size + self.extras_size + len(self.context)
            for message in self.messages:
                whole += message.unread_size + sum(one.size for one in message.sealed)
                for part in message.parts:
                    if not isinstance(part, str):
                        whole += 0 if part.kind == "block" else sum(map(len, part.fields.values()))
                        whole += 0 if part.sealed is None else part.sealed.size
            whole += self.native.size if self.native else 0
            whole += self.format.size if self.format else 0
            object.__setattr__(self, "_whole_size", whole)
        return whole

    @property
    def memory_bytes(self) -> int:
        """Bytes that it holds, about. Computed once, since it looks at all of it."""
        held = self._bytes
        if held is None:
            held = sum(message.memory_bytes for message in self.messages) + getsizeof(self.context)
            held += memory_bytes_of(self.extras) + memory_bytes_of((self.format and self.format.schema) or {})
            held += PARSED * self.tools_size + (0 if self.native is None else self.native.memory_bytes)
            object.__setattr__(self, "_bytes", held)
        return held

    @property
    def tools_size(self) -> int:
        """Characters of its tools."""
        return sum(tool.size for tool in self.tools)


def _json_size(fields: dict[str, Any]) -> int:
    return len(msgspec.json.encode(fields))


def size_of_unread(unread: Unread) -> int:
    """Return the bytes of what is passed on unread as JSON."""
    return len(msgspec.json.encode(unread)) if unread else 0


def moved(unread: Unread, **added: int) -> Unread:
    """Return the unread fields of a message for another place in it: `added` is added to the index after a name."""
    return tuple(
        (
            (path[0], int(path[1]) + added[str(path[0])], *path[2:]) if path[0] in added and len(path) > 1 else path,
            value,
        )
        for path, value in unread
    )


def _with_context(context: str, message: Message) -> Message:
    first, *rest = message.parts or ("",)
    if isinstance(first, str):
        return replace(message, parts=(context + first, *rest))
    return replace(message, parts=(context, *message.parts), unread=moved(message.unread, content=1))
