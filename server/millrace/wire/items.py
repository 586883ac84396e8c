"""The input of a Responses request: items as clients send them, and the turns they make."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from millrace.errors import MillraceError, invalid
from millrace.types import Media, Message, Part, Tool, ToolCall
from millrace.types.tool_choice import ToolChoice

MAX_ID = 512  # characters of an id that is only echoed or looked up
MAX_ITEMS = 2000  # of one request; a longer conversation is continued by `previous_response_id`
MAX_TOOLS = 128

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]
ToolName = Annotated[str, Meta(min_length=1, max_length=128)]


class InputText(Struct, tag="input_text"):
    """Text of the one who asks."""

    text: str


class SaidText(Struct, tag="output_text"):
    """Text of an earlier answer."""

    text: str


class PlainText(Struct, tag="text"):
    """Text, as chat completions call it."""

    text: str


class RefusalPart(Struct, tag="refusal"):
    """An earlier answer's refusal."""

    refusal: str


class InputImage(Struct, tag="input_image"):
    """An image: a URL (`data:` too), or the id of a file at the provider. It is passed on as it is."""

    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None


class InputFile(Struct, tag="input_file"):
    """A file: its data, its URL, or its id at the provider. It is passed on as it is."""

    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None


class AudioData(Struct):
    """Sound, in base64, and its format."""

    data: str
    format: str


class InputAudio(Struct, tag="input_audio"):
    """Sound. It is passed on as it is."""

    input_audio: AudioData


ContentPart = InputText | SaidText | PlainText | RefusalPart | InputImage | InputFile | InputAudio


class MessageItem(Struct, tag="message"):
    """One turn. `type` may be left out; id, status and phase are ignored."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[ContentPart]


class CallItem(Struct, tag="function_call"):
    """A call an earlier answer asked for; `arguments` is JSON as the model wrote it."""

    call_id: Id
    name: ToolName
    arguments: str


class CallOutputItem(Struct, tag="function_call_output"):
    """What a call gave. Its `call_id` is that of a `function_call` before it, or of the previous response."""

    call_id: Id
    output: str | list[ContentPart]


class Words(Struct):
    """Some words of a reasoning."""

    text: str


class ReasoningItem(Struct, tag="reasoning"):
    """How an earlier answer came about; belongs to the assistant's turn after it. Encrypted content is ignored."""

    summary: list[Words] | None = None
    content: list[Words] | None = None


class ItemReference(Struct, tag="item_reference"):
    """Refused: items are not kept one by one; send the item, or continue by `previous_response_id`."""

    id: str


Item = MessageItem | CallItem | CallOutputItem | ReasoningItem | ItemReference


class FunctionTool(Struct, tag="function"):
    """A function the model may call; `parameters` is a JSON schema. Other kinds of tools are not supported."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChosenFunction(Struct, tag="function"):
    """The function the model must call."""

    name: ToolName


Choice = Literal["auto", "none", "required"]


def untyped(given: Any) -> Any:
    """Return items with the `type` that messages may leave out."""
    if not isinstance(given, list):
        return given
    return [
        item | {"type": "message"} if isinstance(item, dict) and item.get("type") is None else item for item in given
    ]


def turns(items: str | Sequence[Item], *, continued: bool) -> tuple[Message, ...]:
    """Return the turns that the items make: what an assistant said and called in one go is one message.

    A call's output must follow its call; where the request is `continued` the call may be in an earlier response.
    """
    if isinstance(items, str):
        return (Message(role="user", parts=(items,)),)
    made: list[Message | _Answer] = []
    calls: set[str] = set()
    for index, item in enumerate(items):
        path = f"input[{index}]"
        match item:
            case MessageItem(role="assistant"):
                _go_on(made, _said(item.content, f"{path}.content"))
            case MessageItem():
                made.append(Message(role=role_of(item.role), parts=_asked(item, path)))
            case ReasoningItem():
                _go_on(made, Message(role="assistant", reasoning=_reasoning(item)))
            case CallItem():
                calls.add(item.call_id)
                call = ToolCall(id=item.call_id, name=item.name, arguments=item.arguments)
                _go_on(made, Message(role="assistant", calls=(call,)))
            case CallOutputItem():
                if item.call_id not in calls and not continued:
                    raise no_such_call(f"{path}.call_id", "function_call")
                parts = parts_of(item.output, f"{path}.output")
                made.append(Message(role="tool", parts=parts, call_id=item.call_id))
            case ItemReference():
                raise invalid(path, f"{path}: an item_reference is not supported; send the item itself")
    return tuple(turn for one in made for turn in (one.turns() if isinstance(one, _Answer) else (one,)))


def role_of(given: str) -> str:
    """Return the role that a client's role means."""
    return "system" if given == "developer" else given


def parts_of(content: str | Sequence[ContentPart], path: str) -> tuple[Part, ...]:
    """Return the parts of a content that is not an assistant's."""
    if isinstance(content, str):
        return (content,)
    return tuple(_part(part, f"{path}[{index}]") for index, part in enumerate(content))


def no_such_call(path: str, kind: str) -> MillraceError:
    """Return the refusal of an output that belongs to nothing."""
    return invalid(path, f"{path}: no {kind} before it has this id; send the call too, before its output")


def check_answerable(messages: Iterable[Message], path: str) -> None:
    """Refuse an input in which nothing is asked: no word, no picture, no call's output."""
    asked = (turn.call_id is not None or len(turn.texts) < len(turn.parts) or turn.text.strip() for turn in messages)
    if not any(asked):
        raise invalid(path, f"{path}: nothing to answer; write a question")


def read_tool(given: FunctionTool) -> Tool:
    """Return a tool as the models are told of it."""
    return Tool(name=given.name, description=given.description, parameters=given.parameters, strict=given.strict)


def read_choice(given: Choice | None, function: str | None, tools: Sequence[Tool], path: str) -> ToolChoice | None:
    """Return which tool may or must be called, as `Prompt.tool_choice`; `path` is that of the function's name."""
    if function is not None:
        if function not in {tool.name for tool in tools}:
            raise invalid(path, f"{path}: {function[:40]!r} is not one of the tools; name one, or write auto")
        return ToolChoice("function", function)
    if given == "required" and not tools:
        raise invalid("tool_choice", "tool_choice: required, but there are no tools; send some, or write auto")
    return ToolChoice(given) if given and tools else None  # providers refuse a tool choice without tools


class _Answer:
    """An assistant's turn, as it grows item by item."""

    def __init__(self) -> None:
        self.pieces: list[Message] = []
        self.spoke = False
        self.called = False

    def add(self, piece: Message) -> bool:
        """Add a piece if it belongs to this turn; one that has spoken and called nothing is complete."""
        if self.spoke and not self.called and not piece.calls:
            return False
        self.pieces.append(piece)
        self.called = self.called or bool(piece.calls)
        self.spoke = self.spoke or bool(piece.parts or piece.calls or piece.refusal)
        return True

    def turns(self) -> tuple[Message, ...]:
        """Return the turn as one message; none where it says nothing."""
        whole = Message(
            role="assistant",
            parts=tuple(part for piece in self.pieces for part in piece.parts),
            calls=tuple(call for piece in self.pieces for call in piece.calls),
            reasoning="".join(piece.reasoning for piece in self.pieces),
            refusal="".join(piece.refusal for piece in self.pieces),
        )
        return (whole,) if self.spoke else ()


def _go_on(made: list[Message | _Answer], piece: Message) -> None:
    """Add a piece to the assistant's open turn, or begin one with it."""
    last = made[-1] if made else None
    if not isinstance(last, _Answer) or not last.add(piece):
        made.append(answer := _Answer())
        answer.add(piece)


def _said(content: str | Sequence[ContentPart], path: str) -> Message:
    if isinstance(content, str):
        return Message(role="assistant", parts=(content,))
    refusal = "".join(part.refusal for part in content if isinstance(part, RefusalPart))
    parts = [_part(part, f"{path}[{index}]") for index, part in enumerate(content) if not isinstance(part, RefusalPart)]
    for index, part in enumerate(content):
        if isinstance(part, InputImage | InputFile | InputAudio):
            raise invalid(f"{path}[{index}]", f"{path}[{index}]: an assistant's turn holds text only")
    return Message(role="assistant", parts=tuple(parts), refusal=refusal)


def _asked(item: MessageItem, path: str) -> tuple[Part, ...]:
    parts = parts_of(item.content, f"{path}.content")
    if item.role != "user":
        for index, part in enumerate(parts):
            if isinstance(part, Media):
                at = f"{path}.content[{index}]"
                raise invalid(at, f"{at}: a {item.role} message holds text only; send it in a user's")
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
            raise invalid(f"{path}.type", f"{path}.type: only an assistant's turn holds a refusal; write input_text")


def media(kind: str, **fields: str | None) -> Media:
    """Return a part that is no text, with the fields that were given."""
    return Media(kind=kind, fields={name: value for name, value in fields.items() if value is not None})


def one_of(path: str, **fields: str | None) -> None:
    """Refuse a part that says in no way, or in several, what it is about."""
    first = f"{path}.{next(iter(fields))}"
    given = [name for name, value in fields.items() if value]
    if not given:
        raise invalid(first, f"{first}: missing; write {' or '.join(fields)}")
    if len(given) > 1:
        raise invalid(f"{path}.{given[1]}", f"{path}.{given[1]}: {given[0]} is given too; write only one of them")


def _reasoning(item: ReasoningItem) -> str:
    """Return its own words, or else the summaries, a paragraph each."""
    if item.content:
        return "".join(words.text for words in item.content)
    return "\n\n".join(words.text for words in item.summary or ())
