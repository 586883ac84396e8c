"""The input of a Responses request: items as clients send them, and the messages that they become."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from millrace.errors import MillraceError, invalid
from millrace.types import Media, Message, Part, Path, Sealed, Tool, ToolCall, Unread, moved
from millrace.types.conversation import merged
from millrace.types.tool_choice import ToolChoice
from millrace.wire import carried
from millrace.wire.passed_on import parted, placed

MAX_ID = 512  # characters of an id
MAX_ITEMS = 2000  # of one request; a longer conversation uses `previous_response_id`
MAX_TOOLS = 128

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]
ToolName = Annotated[str, Meta(min_length=1, max_length=128)]


class InputText(Struct, tag="input_text"):
    """Text of a user, system or developer message."""

    text: str


class SaidText(Struct, tag="output_text"):
    """Text of an earlier answer."""

    text: str


class PlainText(Struct, tag="text"):
    """Text, by the name that chat completions use."""

    text: str


class RefusalPart(Struct, tag="refusal"):
    """The refusal of an earlier answer."""

    refusal: str


class InputImage(Struct, tag="input_image"):
    """An image: a URL (`data:` too), or the id of a file at the provider. The provider gets it unchanged."""

    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None


class InputFile(Struct, tag="input_file"):
    """A file: its data, its URL, or its id at the provider. The provider gets it unchanged."""

    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None


class AudioData(Struct):
    """Audio in base64, and its format."""

    data: str
    format: str


class InputAudio(Struct, tag="input_audio"):
    """Audio. The provider gets it unchanged."""

    input_audio: AudioData


ContentPart = InputText | SaidText | PlainText | RefusalPart | InputImage | InputFile | InputAudio


class MessageItem(Struct, tag="message"):
    """One message. `type` may be left out. `id`, `status` and `phase` are ignored."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[ContentPart]


class CallItem(Struct, tag="function_call"):
    """A tool call of an earlier answer. `arguments` is JSON as the model wrote it."""

    call_id: Id
    name: ToolName
    arguments: str


class CallOutputItem(Struct, tag="function_call_output"):
    """The result of a tool call. `call_id` names a `function_call` before it or in the previous response."""

    call_id: Id
    output: str | list[ContentPart]


class Words(Struct):
    """A piece of reasoning text. Whether its `type` says summary or content, its place says so too."""

    text: str
    type: Any = None


class ReasoningItem(Struct, tag="reasoning"):
    """Reasoning. It belongs to the assistant's turn after it. Encrypted content is ignored, unless it is Millrace's."""

    summary: list[Words] | None = None
    content: list[Words] | None = None
    encrypted_content: str | None = None


class ItemReference(Struct, tag="item_reference"):
    """An item of a response that is kept, by its id. `type` may be left out."""

    id: Id


Item = MessageItem | CallItem | CallOutputItem | ReasoningItem | ItemReference


class FunctionTool(Struct, tag="function"):
    """A function the model may call. `parameters` is a JSON schema. Other kinds of tools are not supported."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChosenFunction(Struct, tag="function"):
    """The function the model must call."""

    name: ToolName


Choice = Literal["auto", "none", "required"]


REFERENCE = "item_reference"  # the role of a piece that stands for an item: its text is the id, its name the path


def with_types(given: Any) -> Any:
    """Return the items with the `type` that messages and references may leave out."""
    if not isinstance(given, list):
        return given
    return [
        item | {"type": REFERENCE if item.keys() <= {"id", "type"} and item.get("id") else "message"}
        if isinstance(item, dict) and item.get("type") is None
        else item
        for item in given
    ]


def extras_of(items: str | Sequence[Item], left: Mapping[int, Unread]) -> tuple[dict[int, Unread], list[Path]]:
    """Return what is passed on of each item, as chat completions have it, and the paths of what cannot be.

    `left` is what was not read of each item, by its index. Fields beside a call have the paths that they have in it.
    """
    if isinstance(items, str):  # which may be long, and has no items
        return {}, []
    sent: dict[int, Unread] = {}
    lost: list[Path] = []
    for index, found in left.items():
        item, extras = items[index], tuple((path, value) for path, value in found if path not in (("id",), ("status",)))
        sent[index], unplaced = placed(extras, ("input", index))
        lost += unplaced
        match item:
            case ReasoningItem():
                lost += [("input", index, *path) for path, _ in sent.pop(index)]
            case CallOutputItem():
                sent[index] = tuple(
                    (("content", *path[1:]) if path[0] == "output" else path, value) for path, value in sent[index]
                )
            case MessageItem():
                sent[index], unplaced = beside_refusals(item.content, sent[index], ("input", index))
                lost += unplaced
    lost += [
        ("input", index, "encrypted_content")
        for index, item in enumerate(items)
        if isinstance(item, ReasoningItem) and carried.is_foreign(item.encrypted_content)
    ]
    return sent, lost


def beside_refusals(content: object, extras: Unread, at: Path) -> tuple[Unread, list[Path]]:
    """Return the extras of a message whose refusals are no parts any more, and the paths of those of the refusals."""
    if not isinstance(content, list) or not any(isinstance(part, RefusalPart) for part in content):
        return extras, []
    kept = (index for index, part in enumerate(content) if not isinstance(part, RefusalPart))
    places: dict[str | int, int] = {before: after for after, before in enumerate(kept)}
    sent: list[tuple[Path, Any]] = []
    lost: list[Path] = []
    for path, value in extras:
        if path[0] != "content" or len(path) == 1:
            sent.append((path, value))
        elif path[1] in places:
            sent.append((("content", places[path[1]], *path[2:]), value))
        else:
            lost.append((*at, *path))
    return tuple(sent), lost


def has_references(messages: Iterable[Message]) -> bool:
    """Whether some of these are references, so that all are still pieces."""
    return any(message.role == REFERENCE for message in messages)


def turns(
    items: str | Sequence[Item], *, continued: bool, extras: Mapping[int, Unread] | None = None
) -> tuple[Message, ...]:
    """Return the messages that the items become. Reasoning, text and calls of one assistant turn are one message.

    If some items are references, it returns pieces, one of each item. Whoever knows what they refer to calls
    `assembled`. A call's output must follow its call. If the request is `continued`, or has references, the call may be
    elsewhere. `extras` is what is passed on of each item, by its index. Raises `invalid_request`.
    """
    if isinstance(items, str):
        return (Message(role="user", parts=(items,)),)
    refers = any(isinstance(item, ItemReference) for item in items)
    pieces = _pieces(items, extras or {}, continued=continued or refers)
    return tuple(pieces) if refers else assembled(pieces)


def assembled(pieces: Iterable[Message]) -> tuple[Message, ...]:
    """Return the messages that pieces become."""
    messages: list[Message | _AssistantTurn] = []
    for piece in pieces:
        if piece.role == "assistant":
            _add_to_assistant(messages, piece)
        else:
            messages.append(piece)
    return tuple(
        message for one in messages for message in (one.messages() if isinstance(one, _AssistantTurn) else (one,))
    )


def _pieces(items: Sequence[Item], extras: Mapping[int, Unread], *, continued: bool) -> list[Message]:
    """Return one message of each item."""
    pieces: list[Message] = []
    calls: set[str] = set()
    own_fields_of_calls = _own_fields_of_calls(items)
    for index, item in enumerate(items):
        path = f"input[{index}]"
        match item:
            case MessageItem(role="assistant"):
                beside, unread = parted(extras.get(index, ()))
                said = _assistant_message(item.content, f"{path}.content", beside.get((), {}))
                pieces.append(said.with_unread(unread))
            case MessageItem():
                parts, role = _message_parts(item, path), role_of(item.role)
                pieces.append(Message(role=role, parts=parts).with_unread(extras.get(index, ())))
            case ReasoningItem():
                words, own_fields = _reasoning(item), carried.read(item.encrypted_content).message
                pieces.append(Message(role="assistant", reasoning=words, own_fields=own_fields))
            case CallItem():
                calls.add(item.call_id)
                beside, _ = parted(extras.get(index, ()))
                own_fields = beside.get((), {}) | own_fields_of_calls[index].get(item.call_id, {})
                call = ToolCall(id=item.call_id, name=item.name, arguments=item.arguments, own_fields=own_fields)
                pieces.append(Message(role="assistant", calls=(call,)))
            case CallOutputItem():
                if item.call_id not in calls and not continued:
                    raise no_such_call(f"{path}.call_id", "function_call")
                parts = parts_of(item.output, f"{path}.output")
                result = Message(role="tool", parts=parts, call_id=item.call_id)
                pieces.append(result.with_unread(extras.get(index, ())))
            case ItemReference():
                pieces.append(Message(role=REFERENCE, parts=(item.id,), name=f"{path}.id"))
    return pieces


def role_of(given: str) -> str:
    """Return the role of a message; `developer` is another name for `system`."""
    return "system" if given == "developer" else given


def parts_of(content: str | Sequence[ContentPart], path: str) -> tuple[Part, ...]:
    """Return the parts of a content, which must not be an assistant's."""
    if isinstance(content, str):
        return (content,)
    return tuple(_part(part, f"{path}[{index}]") for index, part in enumerate(content))


def no_such_call(path: str, kind: str) -> MillraceError:
    """Return the error for a tool output without its call."""
    return invalid(path, f"{path}: no {kind} before it has this id; send the call before its output")


def check_answerable(messages: Iterable[Message], path: str) -> None:
    """Raise `invalid_request` if there is nothing to answer: no text, no media and no tool output."""
    answerable = (
        message.call_id is not None or len(message.texts) < len(message.parts) or message.text.strip()
        for message in messages
    )
    if not any(answerable):
        raise invalid(path, f"{path}: nothing to answer; write a question")


def read_tools(given: Sequence[FunctionTool], left: Mapping[int, Unread]) -> tuple[tuple[Tool, ...], list[Path]]:
    """Return the tools as `Prompt.tools` holds them, and the paths of what is not passed on. `left` was not read."""
    tools: list[Tool] = []
    lost: list[Path] = []
    for index, tool in enumerate(given):
        extras, unplaced = placed(left.get(index, ()), ("tools", index))
        lost += unplaced
        tools.append(
            Tool(
                name=tool.name,
                description=tool.description,
                parameters=tool.parameters,
                strict=tool.strict,
                unread=extras,
            )
        )
    return tuple(tools), lost


def read_choice(mode: Choice | None, function: str | None, tools: Sequence[Tool], path: str) -> ToolChoice | None:
    """Return the tool choice, None if there is none. `path` is the path of the function's name in the request.

    Raises `invalid_request` if the tools do not allow the choice.
    """
    if function is not None:
        if function not in {tool.name for tool in tools}:
            raise invalid(path, f"{path}: {function[:40]!r} is not one of the tools; name one of them, or write auto")
        return ToolChoice("function", function)
    if mode == "required" and not tools:
        raise invalid("tool_choice", "tool_choice: required, but there are no tools; send tools, or write auto")
    return ToolChoice(mode) if mode and tools else None  # providers refuse a tool choice without tools


class _AssistantTurn:
    """An assistant's turn, collected item by item."""

    def __init__(self) -> None:
        self.pieces: list[Message] = []
        self.has_output = False  # text, a refusal or a call
        self.has_calls = False

    def add(self, piece: Message) -> bool:
        """Add a piece and return True; return False if the piece begins another turn.

        After text without calls only a call continues the turn, and what says nothing but carries the provider's own
        fields. Once there is a call, everything does up to its output.
        """
        is_silent = not (piece.parts or piece.refusal or piece.reasoning)
        if self.has_output and not self.has_calls and not piece.calls and not is_silent:
            return False
        self.pieces.append(piece)
        self.has_calls = self.has_calls or bool(piece.calls)
        self.has_output = self.has_output or bool(piece.parts or piece.calls or piece.refusal)
        return True

    def messages(self) -> tuple[Message, ...]:
        """Return the turn as one message, or none if it has no output."""
        message = Message(
            role="assistant",
            parts=tuple(part for piece in self.pieces for part in piece.parts),
            calls=tuple(call for piece in self.pieces for call in piece.calls),
            own_fields=merged(piece.own_fields for piece in self.pieces),
            reasoning="".join(piece.reasoning for piece in self.pieces),
            refusal="".join(piece.refusal for piece in self.pieces),
            sealed=tuple(self._sealed()),
        ).with_unread(tuple(self._extras()))
        return (message,) if self.has_output else ()

    def _sealed(self) -> Iterator[Sealed]:
        parts = calls = 0
        for piece in self.pieces:
            for one in piece.sealed:
                yield replace(one, parts_before=one.parts_before + parts, calls_before=one.calls_before + calls)
            parts += len(piece.parts)
            calls += len(piece.calls)

    def _extras(self) -> Iterator[tuple[Path, Any]]:
        parts = calls = 0
        for piece in self.pieces:
            yield from moved(piece.unread, content=parts, tool_calls=calls)
            parts += len(piece.parts)
            calls += len(piece.calls)


def _add_to_assistant(messages: list[Message | _AssistantTurn], piece: Message) -> None:
    """Add a piece to the last assistant turn, or begin a new turn with it."""
    last = messages[-1] if messages else None
    if isinstance(last, _AssistantTurn) and last.add(piece):
        return
    messages.append(turn := _AssistantTurn())
    turn.add(piece)


def _own_fields_of_calls(items: Sequence[Item]) -> list[dict[str, dict[str, Any]]]:
    """Return, for each item, the own fields of the calls of its turn, by call id; its reasoning carries them."""
    found: list[dict[str, dict[str, Any]]] = []
    turn: dict[str, dict[str, Any]] = {}
    for item in items:
        if isinstance(item, CallOutputItem) or (isinstance(item, MessageItem) and item.role != "assistant"):
            turn = {}
        elif isinstance(item, ReasoningItem):
            turn |= carried.read(item.encrypted_content).calls
        found.append(turn)
    return found


def _assistant_message(content: str | Sequence[ContentPart], path: str, own_fields: dict[str, Any]) -> Message:
    if isinstance(content, str):
        return Message(role="assistant", parts=(content,), own_fields=own_fields)
    refusal = "".join(part.refusal for part in content if isinstance(part, RefusalPart))
    parts = [_part(part, f"{path}[{index}]") for index, part in enumerate(content) if not isinstance(part, RefusalPart)]
    for index, part in enumerate(content):
        if isinstance(part, InputImage | InputFile | InputAudio):
            at = f"{path}[{index}]"
            raise invalid(at, f"{at}: an assistant message holds text only; send it in a user message")
    return Message(role="assistant", parts=tuple(parts), refusal=refusal, own_fields=own_fields)


def _message_parts(item: MessageItem, path: str) -> tuple[Part, ...]:
    parts = parts_of(item.content, f"{path}.content")
    if item.role != "user":
        for index, part in enumerate(parts):
            if isinstance(part, Media):
                at = f"{path}.content[{index}]"
                raise invalid(at, f"{at}: a {item.role} message holds text only; send it in a user message")
    return parts


def _part(part: ContentPart, path: str) -> Part:
    match part:
        case InputText() | SaidText() | PlainText():
            return part.text
        case InputImage():
            one_of(path, image_url=part.image_url, file_id=part.file_id)
            return media("image", url=part.image_url, file_id=part.file_id, detail=part.detail)
        case InputFile():
            one_of(path, file_data=part.file_data, file_url=part.file_url, file_id=part.file_id)
            return media(
                "file",
                file_data=part.file_data,
                file_url=part.file_url,
                file_id=part.file_id,
                filename=part.filename,
            )
        case InputAudio():
            return media("audio", data=part.input_audio.data, format=part.input_audio.format)
        case RefusalPart():
            raise invalid(f"{path}.type", f"{path}.type: only an assistant message holds a refusal; write input_text")


def media(kind: str, **fields: str | None) -> Media:
    """Return a media part with the fields that are not None."""
    return Media(kind=kind, fields={name: value for name, value in fields.items() if value is not None})


def one_of(path: str, **fields: str | None) -> None:
    """Raise `invalid_request` unless exactly one of the fields is given."""
    first = f"{path}.{next(iter(fields))}"
    given = [name for name, value in fields.items() if value]
    if not given:
        raise invalid(first, f"{first}: missing; write {' or '.join(fields)}")
    if len(given) > 1:
        raise invalid(f"{path}.{given[1]}", f"{path}.{given[1]}: {given[0]} is given too; send only one of them")


def _reasoning(item: ReasoningItem) -> str:
    """Return the content, or else the summaries, each as a paragraph."""
    if item.content:
        return "".join(piece.text for piece in item.content)
    return "\n\n".join(piece.text for piece in item.summary or ())
