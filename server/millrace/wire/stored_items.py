"""The items of a response that is kept: under which ids they can be referred to, and how they are listed.

A response keeps messages. A piece is a message with what one item holds of it. The ids of output items are those that
clients have seen (`dialects/items.py`); those of input items are made here, by place.
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from millrace.types import Media, Message, Part
from millrace.wire import carried
from millrace.wire.bodies import FunctionCall, OutputRefusal, OutputText, Reasoning, ReasoningText
from millrace.wire.items import InputText
from millrace.wire.passed_on import by_index

_ID = re.compile(r"(?:msg|rs|fc|fco)_([0-9a-f]{32})(?:_(?:in)?[0-9]{1,6})?")
_DONE = "completed"


class ListedImage(Struct, tag="input_image"):
    """An image of a message."""

    image_url: str | None
    file_id: str | None
    detail: str


class ListedFile(Struct, tag="input_file"):
    """A file of a message."""

    file_data: str | None
    file_url: str | None
    file_id: str | None
    filename: str | None


class ListedAudioData(Struct):
    """Audio in base64, and its format."""

    data: str
    format: str


class ListedAudio(Struct, tag="input_audio"):
    """Audio of a message."""

    input_audio: ListedAudioData


ListedPart = InputText | OutputText | OutputRefusal | ListedImage | ListedFile | ListedAudio


class ListedMessage(Struct, tag="message"):
    """One message of an input."""

    id: str
    role: str
    content: list[ListedPart]
    status: str


class ListedOutput(Struct, tag="function_call_output"):
    """The result of a tool call, of an input."""

    id: str
    call_id: str
    output: str | list[ListedPart]
    status: str


ListedItem = ListedMessage | Reasoning | FunctionCall | ListedOutput


class InputItems(Struct, kw_only=True):
    """A page of the items that a response was made from."""

    data: list[ListedItem]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"


def response_of(item_id: str) -> str | None:
    """Return the id of the response that has an item; None if no item has such an id."""
    found = _ID.fullmatch(item_id)
    return f"resp_{found[1]}" if found else None


def input_pieces(response_id: str, messages: Sequence[Message]) -> dict[str, Message]:
    """Return the pieces of a response's input by their ids, in order."""
    pieces = [piece for message in messages for piece in _pieces(message)]
    hexadecimal = response_id.removeprefix("resp_")
    return {f"{_prefix(piece)}_{hexadecimal}_in{at}": piece for at, piece in enumerate(pieces)}


def output_pieces(response_id: str, answer: Message) -> dict[str, Message]:
    """Return the pieces of a response's answer by the ids of its output items."""
    named: dict[str, Message] = {}
    calls = 0
    for piece in _pieces(answer):
        number = f"_{calls}" if piece.calls else ""
        calls += len(piece.calls)
        named[f"{_prefix(piece)}_{response_id.removeprefix('resp_')}{number}"] = piece
    return named


def listed(item_id: str, piece: Message) -> ListedItem:
    """Return a piece as it is listed."""
    if piece.calls:
        (call,) = piece.calls
        return FunctionCall(item_id, call.id, call.name, call.arguments, _DONE)
    if piece.call_id is not None:
        is_text = len(piece.parts) == 1 and isinstance(piece.parts[0], str)
        output = piece.text if is_text else [_part(part) for part in piece.parts]
        return ListedOutput(item_id, piece.call_id, output, _DONE)
    if _is_reasoning(piece):
        words = [ReasoningText(piece.reasoning)] if piece.reasoning else []
        return Reasoning(item_id, _DONE, words, encrypted_content=carried.write(piece.own_fields, {}))
    if piece.role != "assistant":
        return ListedMessage(item_id, piece.role, [_part(part) for part in piece.parts], _DONE)
    said: list[ListedPart] = [OutputText(text) for text in piece.texts]
    refused: list[ListedPart] = [OutputRefusal(piece.refusal)] if piece.refusal else []
    return ListedMessage(item_id, piece.role, said + refused, _DONE)


def _pieces(message: Message) -> list[Message]:
    """Return what each item holds of a message, in the order of an answer's items."""
    if message.role != "assistant":
        return [message]
    thought = Message(role="assistant", reasoning=message.reasoning, own_fields=message.own_fields)
    has_reasoning = message.reasoning or message.own_fields or any(call.own_fields for call in message.calls)
    reasoning = [thought] if has_reasoning else []
    of_text = tuple((path, value) for path, value in message.unread if path[0] == "content")
    of_calls = by_index(message.unread, "tool_calls")
    said = Message(role="assistant", parts=message.parts, refusal=message.refusal).with_unread(of_text)
    calls = [
        Message(role="assistant", calls=(call,)).with_unread(
            tuple((("tool_calls", 0, *path), value) for path, value in of_calls.get(at, ()))
        )
        for at, call in enumerate(message.calls)
    ]
    return [*reasoning, *([said] if said.parts or said.refusal else []), *calls]


def _prefix(piece: Message) -> str:
    if piece.calls:
        return "fc"
    return "fco" if piece.call_id is not None else "rs" if _is_reasoning(piece) else "msg"


def _is_reasoning(piece: Message) -> bool:
    """Whether a piece without calls is a reasoning item, which may have the provider's own fields alone."""
    return piece.role == "assistant" and not (piece.parts or piece.refusal)


def _part(part: Part) -> ListedPart:
    if isinstance(part, str):
        return InputText(part)
    return _media(part)


def _media(part: Media) -> ListedPart:
    fields = part.fields
    match part.kind:
        case "image":
            return ListedImage(fields.get("url"), fields.get("file_id"), fields.get("detail", "auto"))
        case "audio":
            return ListedAudio(ListedAudioData(fields.get("data", ""), fields.get("format", "")))
    return ListedFile(*(fields.get(name) for name in ("file_data", "file_url", "file_id", "filename")))
