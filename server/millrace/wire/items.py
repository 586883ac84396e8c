"""The input of a Responses request: items as clients send them, and the messages that they become."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from millrace.errors import MillraceError, invalid
from millrace.types import Api, Media, Message, Part, Path, Sealed, ToolCall, Unread
from millrace.wire import carried
from millrace.wire.hosted import AnswerItem, AnyAnswerItem, AnyClientItem, ClientItem, HostedItem
from millrace.wire.passed_on import by_index, parted, placed
from millrace.wire.tools import MAX_TOOLS, AnyTool, ToolName, read_tools
from millrace.wire.turns import REFERENCE, assembled

MAX_ID = 512  # characters of an id
MAX_ITEMS = 2000  # of one request; a longer conversation uses `previous_response_id`

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]


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
    """A function call of an earlier answer. `arguments` is JSON as the model wrote it."""

    call_id: Id
    name: ToolName
    arguments: str
    namespace: str | None = None


class CallOutputItem(Struct, tag="function_call_output"):
    """The result of a tool call. `call_id` names a `function_call` before it or in the previous response.

    What the call has said already is ignored: `name` and `namespace`.
    """

    call_id: Id
    output: str | list[ContentPart]
    name: str | None = None
    namespace: str | None = None


class CustomCallItem(Struct, tag="custom_tool_call"):
    """A call of a custom tool in an earlier answer. `input` is the text that the model wrote."""

    call_id: Id
    name: ToolName
    input: str
    namespace: str | None = None


class CustomOutputItem(CallOutputItem, tag="custom_tool_call_output"):
    """The result of a custom tool's call. `call_id` names a `custom_tool_call` as above."""


class AdditionalToolsItem(Struct, tag="additional_tools"):
    """Tools that may be called from here on, in this conversation."""

    tools: Annotated[list[AnyTool], Meta(max_length=MAX_TOOLS)]
    role: Literal["developer", "system"] = "developer"


class Words(Struct):
    """A piece of reasoning text. Whether its `type` says summary or content, its place says so too."""

    text: str
    type: Any = None


class ReasoningItem(Struct, tag="reasoning"):
    """Reasoning. It belongs to the assistant's turn after it. With encrypted content it goes back to its API whole."""

    summary: list[Words] | None = None
    content: list[Words] | None = None
    encrypted_content: str | None = None


class ItemReference(Struct, tag="item_reference"):
    """An item of a response that is kept, by its id. `type` may be left out."""

    id: Id


Item = (
    MessageItem
    | CallItem
    | CallOutputItem
    | CustomCallItem
    | CustomOutputItem
    | ReasoningItem
    | ItemReference
    | AdditionalToolsItem
    | AnyAnswerItem
    | AnyClientItem
)


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
        if isinstance(item, AdditionalToolsItem):
            sent[index] = extras
            continue
        if _is_kept_whole(item):
            continue
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


def turns(
    items: str | Sequence[Item],
    sent: Any,
    *,
    continued: bool,
    extras: Mapping[int, Unread] | None = None,
    lost: list[Path] | None = None,
) -> tuple[Message, ...]:
    """Return the messages that the items become. Reasoning, text and calls of one assistant turn are one message.

    If some items are references, it returns pieces, one of each item. Whoever knows what they refer to calls
    `assembled`. A call's output must follow its call. If the request is `continued`, or has references, the call may be
    elsewhere. `sent` is what the client wrote, `extras` what is passed on of each item, by its index; the paths of what
    cannot be passed on are added to `lost`. Raises `invalid_request`.
    """
    if isinstance(items, str):
        return (Message(role="user", parts=(items,)),)
    refers = any(isinstance(item, ItemReference) for item in items)
    lost = [] if lost is None else lost
    pieces = _pieces(items, sent, extras or {}, lost, continued=continued or refers)
    return tuple(pieces) if refers else assembled(pieces)


def _pieces(
    items: Sequence[Item], sent: Sequence[Any], extras: Mapping[int, Unread], lost: list[Path], *, continued: bool
) -> list[Message]:
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
                words, own = _reasoning(item), carried.read(item.encrypted_content)
                sealed = own.in_order
                if carried.is_foreign(item.encrypted_content):
                    sealed = (Sealed(api=Api.RESPONSES, fields=sent[index]),)
                pieces.append(Message(role="assistant", reasoning=words, own_fields=own.message, sealed=sealed))
            case CallItem() | CustomCallItem():
                calls.add(item.call_id)
                beside, _ = parted(extras.get(index, ()))
                own_fields = beside.get((), {}) | own_fields_of_calls[index].get(item.call_id, {})
                call = ToolCall(
                    id=item.call_id,
                    name=item.name,
                    arguments=item.arguments if isinstance(item, CallItem) else item.input,
                    namespace=item.namespace or "",
                    is_custom=isinstance(item, CustomCallItem),
                    own_fields=own_fields,
                )
                pieces.append(Message(role="assistant", calls=(call,)))
            case CallOutputItem():
                if item.call_id not in calls and not continued:
                    kind = "custom_tool_call" if isinstance(item, CustomOutputItem) else "function_call"
                    raise no_such_call(f"{path}.call_id", kind)
                parts = parts_of(item.output, f"{path}.output")
                result = Message(role="tool", parts=parts, call_id=item.call_id)
                pieces.append(result.with_unread(extras.get(index, ())))
            case ItemReference():
                pieces.append(Message(role=REFERENCE, parts=(item.id,), name=f"{path}.id"))
            case AdditionalToolsItem():
                left, at = by_index(extras.get(index, ()), "tools"), ("input", index, "tools")
                tools, unplaced = read_tools(item.tools, sent[index]["tools"], left, at)
                lost += unplaced
                pieces.append(Message(role="system", tools=tools))
            case AnswerItem() | ClientItem():
                _check_id(sent[index], path)
                role = "assistant" if isinstance(item, AnswerItem) else "tool"
                pieces.append(Message(role=role, sealed=(Sealed(api=Api.RESPONSES, fields=sent[index]),)))
    return pieces


def _check_id(item: dict[str, Any], path: str) -> None:
    if not isinstance(item.get("id", ""), str | None):
        raise invalid(f"{path}.id", f"{path}.id: expected a string")


def _is_kept_whole(item: Item) -> bool:
    """Whether an item goes back to its API as it came."""
    return isinstance(item, HostedItem) or (
        isinstance(item, ReasoningItem) and carried.is_foreign(item.encrypted_content)
    )


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
    for message in messages:
        if message.call_id is not None or message.sealed:
            return
        for part in message.parts:
            if not isinstance(part, str) or part.strip():
                return
    raise invalid(path, f"{path}: nothing to answer; write a question")


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
