"""The items of a response that is kept: under which ids they can be referred to, and how they are listed.

A response keeps messages. A piece is a message with what one item holds of it. The ids of output items are those that
clients have seen (`dialects/items.py`); those of input items are made here, by place.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, cast

from msgspec import Struct

from millrace.types import Media, Message, Part
from millrace.wire import carried
from millrace.wire.bodies import (
    CustomCall,
    FunctionCall,
    OutputRefusal,
    OutputText,
    Reasoning,
    ReasoningText,
    call_item,
    tools_of,
)
from millrace.wire.hosted import AnyAnswerItem, AnyClientItem
from millrace.wire.items import InputText
from millrace.wire.passed_on import by_index

_ID = re.compile(r"(?:msg|rs|fc|fco|ctc|ctco|at|it)_([0-9a-f]{32})(?:_(?:in)?[0-9]{1,6})?")
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


class ListedCustomOutput(Struct, tag="custom_tool_call_output"):
    """The result of a custom tool's call, of an input."""

    id: str
    call_id: str
    output: str | list[ListedPart]
    status: str


class ListedTools(Struct, tag="additional_tools"):
    """Tools that an input adds."""

    id: str
    tools: list[Any]
    role: str = "developer"
    status: str = _DONE


ListedItem = (
    ListedMessage
    | Reasoning
    | FunctionCall
    | CustomCall
    | ListedOutput
    | ListedCustomOutput
    | ListedTools
    | AnyAnswerItem
    | AnyClientItem
)


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
    custom = _custom_calls(messages)
    pieces = [piece for message in messages for piece in _pieces(message)]
    hexadecimal = response_id.removeprefix("resp_")
    return {f"{_prefix(piece, custom)}_{hexadecimal}_in{at}": piece for at, piece in enumerate(pieces)}


def output_pieces(response_id: str, answer: Message) -> dict[str, Message]:
    """Return the pieces of a response's answer by the ids of its output items."""
    named: dict[str, Message] = {}
    calls = items = 0
    for piece in _pieces(answer):
        is_whole = _is_whole(piece)
        number = f"_{calls}" if piece.calls else f"_{items}" if is_whole else ""
        calls, items = calls + len(piece.calls), items + is_whole
        named[f"{_prefix(piece)}_{response_id.removeprefix('resp_')}{number}"] = piece
    return named


def listed(item_id: str, piece: Message) -> ListedItem:
    """Return a piece as it is listed; an item that only this API has can only be encoded."""
    if piece.calls:
        (call,) = piece.calls
        return call_item(item_id, call, _DONE)
    if piece.call_id is not None:
        return _output(item_id, piece.call_id, piece)
    if piece.tools:
        return ListedTools(item_id, tools_of(piece.tools))
    if _is_whole(piece):
        return cast("ListedItem", piece.sealed[0].fields | {"id": item_id})
    return _listed_words(item_id, piece)


def _output(item_id: str, call_id: str, piece: Message) -> ListedOutput | ListedCustomOutput:
    said = piece.in_words()
    is_text = len(said.parts) == 1 and isinstance(said.parts[0], str)
    output = said.text if is_text else [_part(part) for part in said.parts]
    make = ListedCustomOutput if item_id.startswith("ctco_") else ListedOutput
    return make(item_id, call_id, output, _DONE)


def _listed_words(item_id: str, piece: Message) -> ListedMessage | Reasoning:
    if _is_reasoning(piece):
        words = [ReasoningText(piece.reasoning)] if piece.reasoning else []
        word = carried.write(piece.own_fields, {}, piece.sealed)
        return Reasoning(item_id, _DONE, words, encrypted_content=word)
    if piece.role != "assistant":
        return ListedMessage(item_id, piece.role, [_part(part) for part in piece.in_words().parts], _DONE)
    said: list[ListedPart] = [OutputText(text) for text in piece.texts]
    refused: list[ListedPart] = [OutputRefusal(piece.refusal)] if piece.refusal else []
    return ListedMessage(item_id, piece.role, said + refused, _DONE)


def _pieces(message: Message) -> list[Message]:
    """Return what each item holds of a message, in the order of an answer's items."""
    if message.role != "assistant":
        return [message]
    has_own_fields = message.own_fields or any(call.own_fields for call in message.calls)
    if message.reasoning or has_own_fields or any(one.is_thought for one in message.sealed):
        own_fields, sealed = message.own_fields, message.sealed
        beside = [Message(role="assistant", reasoning=message.reasoning, own_fields=own_fields, sealed=sealed)]
    else:
        beside = [Message(role="assistant", sealed=(one,)) for one in message.sealed]
    of_text = tuple((path, value) for path, value in message.unread if path[0] == "content")
    of_calls = by_index(message.unread, "tool_calls")
    said = Message(role="assistant", parts=message.parts, refusal=message.refusal)
    said = said.with_unread(of_text, message.unread_api)
    calls = [
        Message(role="assistant", calls=(call,)).with_unread(
            tuple((("tool_calls", 0, *path), value) for path, value in of_calls.get(at, ())), message.unread_api
        )
        for at, call in enumerate(message.calls)
    ]
    return [*beside, *([said] if said.parts or said.refusal else []), *calls]


def _custom_calls(messages: Iterable[Message]) -> set[str]:
    """Return the ids of all calls of custom tools."""
    return {call.id for message in messages for call in message.calls if call.is_custom}


def _prefix(piece: Message, custom: Collection[str] = ()) -> str:
    if piece.calls:
        return "ctc" if piece.calls[0].is_custom else "fc"
    if piece.call_id is not None:
        return "ctco" if piece.call_id in custom else "fco"
    if piece.tools:
        return "at"
    return "it" if _is_whole(piece) else "rs" if _is_reasoning(piece) else "msg"


def _is_whole(piece: Message) -> bool:
    """Whether a piece is an item that only the Responses API has, and no reasoning."""
    is_more = piece.parts or piece.reasoning or piece.own_fields or piece.refusal
    return len(piece.sealed) == 1 and not is_more and not piece.sealed[0].is_thought


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
