"""The content blocks of a Messages request, and the parts of messages that they become.

What other APIs have too becomes neutral. A block that only this API has goes back to it as it came.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from millrace.errors import invalid
from millrace.types import Api, Media, Part, Path, Sealed, ToolCall, Unread
from millrace.wire import items
from millrace.wire.items import Id
from millrace.wire.passed_on import unread
from millrace.wire.reading import convert
from millrace.wire.tools import ToolName

Content = Annotated[list[dict[str, Any]], Meta(max_length=items.MAX_ITEMS)]
Word = Annotated[str, Meta(min_length=1)]


class TextBlock(Struct, tag="text"):
    """Text."""

    text: str


class Base64(Struct, tag="base64"):
    """Data in base64."""

    media_type: Word
    data: str


class Url(Struct, tag="url"):
    """Where the data is."""

    url: Word


class StoredFile(Struct, tag="file"):
    """A file that the provider stores."""

    file_id: Id


class PlainSource(Struct, tag="text"):
    """The text of a document."""

    data: str


class ContentSource(Struct, tag="content"):
    """The blocks of a document."""

    content: str | Content


class ImageBlock(Struct, tag="image"):
    """An image. The provider gets it unchanged."""

    source: Base64 | Url | StoredFile


class DocumentBlock(Struct, tag="document"):
    """A document: a file, or its text."""

    source: Base64 | Url | StoredFile | PlainSource | ContentSource
    title: str | None = None
    context: str | None = None


class SearchResult(Struct, tag="search_result"):
    """What a search of the client has found."""

    source: str
    title: str
    content: list[TextBlock]


class ToolUse(Struct, tag="tool_use"):
    """A tool call of an earlier answer."""

    id: Id
    name: ToolName
    input: dict[str, Any]


class ToolResult(Struct, tag="tool_result"):
    """The result of a tool call. `tool_use_id` is the id of an earlier call."""

    tool_use_id: Id
    content: str | Content | None = None
    is_error: bool | None = None


class Thinking(Struct, tag="thinking"):
    """What the model thought. A client sends it back as it came."""

    thinking: str
    signature: str = ""


class RedactedThinking(Struct, tag="redacted_thinking"):
    """What the model thought, encrypted."""

    data: str


Shapes = Mapping[str, type[Struct]]


def _by_tag(*shapes: type[Struct]) -> dict[str, type[Struct]]:
    return {str(shape.__struct_config__.tag): shape for shape in shapes}


OF_SYSTEM: Shapes = _by_tag(TextBlock)
OF_A_RESULT: Shapes = _by_tag(TextBlock, ImageBlock, DocumentBlock, SearchResult)
OF_A_USER: Shapes = {**OF_A_RESULT, **_by_tag(ToolResult)}
OF_AN_ANSWER: Shapes = _by_tag(TextBlock, Thinking, RedactedThinking, ToolUse)
NATIVE = frozenset({"container_upload", "tool_reference"})  # of a user; only this API has them


def kind_of(block: dict[str, Any]) -> str:
    """Return the type of a block; empty if it has none."""
    kind = block.get("type")
    return kind if isinstance(kind, str) else ""


def read(block: dict[str, Any], shapes: Shapes, path: str) -> Struct:
    """Return a block as one of these. Raises `invalid_request`."""
    kind = kind_of(block)
    if kind not in shapes:
        why = f"{kind[:40]!r} is not one of" if kind else "missing; write one of"
        raise invalid(f"{path}.type", f"{path}.type: {why} {', '.join(shapes)}")
    return convert(block, shapes[kind], path)


def parts_of(
    content: str | Sequence[dict[str, Any]], shapes: Shapes, path: str
) -> tuple[tuple[Part, ...], list[tuple[Path, Any]]]:
    """Return the parts that blocks become, and what was not read of them; each path starts with its part."""
    if isinstance(content, str):
        return (content,) if content else (), []
    parts: list[Part] = []
    left: list[tuple[Path, Any]] = []
    for index, block in enumerate(content):
        part, extras = part_of(block, shapes, f"{path}[{index}]")
        left += placed(extras, "content", len(parts))
        parts.append(part)
    return tuple(parts), left


def part_of(block: dict[str, Any], shapes: Shapes, path: str) -> tuple[Part, Unread]:
    """Return the part that a block becomes, and what was not read of it."""
    if kind_of(block) in NATIVE and shapes is not OF_SYSTEM:
        return _native(block, ""), ()
    read_block = read(block, shapes, path)
    match read_block:
        case TextBlock():
            return read_block.text, tuple(unread(block, read_block))
        case ImageBlock():
            return _image(read_block), tuple(unread(block, read_block))
        case DocumentBlock():
            return _document(block, read_block, path)
        case SearchResult():
            texts = (part.text for part in read_block.content)
            return _native(block, "\n".join((read_block.title, read_block.source, *texts))), ()
    raise invalid(f"{path}.type", f"{path}.type: {block['type']} has no place here")


def placed(extras: Unread, name: str, index: int) -> Iterator[tuple[Path, Any]]:
    """Yield what was not read of a block with its path within the message."""
    for path, value in extras:
        yield (name, index, *path), value


def call_of(block: ToolUse) -> ToolCall:
    """Return the call that a block becomes."""
    return ToolCall(id=block.id, name=block.name, arguments=msgspec.json.encode(block.input).decode())


def _native(block: dict[str, Any], text: str) -> Media:
    fields = {"text": text} if text else {}
    return Media(kind="block", fields=fields, sealed=Sealed(api=Api.MESSAGES, fields=block))


def _image(block: ImageBlock) -> Media:
    match block.source:
        case Base64(media_type, data):
            return items.media("image", url=f"data:{media_type};base64,{data}")
        case Url(url):
            return items.media("image", url=url)
        case StoredFile(file_id):
            return items.media("image", file_id=file_id)


def _document(block: dict[str, Any], document: DocumentBlock, path: str) -> tuple[Media, Unread]:
    """Return a file with what was not read of it; a document that is given by its text is a block of its own."""
    title = document.title or None
    match document.source:
        case Base64(media_type, data):
            file = items.media("file", file_data=f"data:{media_type};base64,{data}", filename=title)
        case Url(url):
            file = items.media("file", file_url=url, filename=title)
        case StoredFile(file_id):
            file = items.media("file", file_id=file_id, filename=title)
        case PlainSource(data):
            return _with_text(block, document, data), ()
        case ContentSource(content):
            parts, _ = parts_of(content, OF_A_RESULT, f"{path}.source.content")
            texts = (part if isinstance(part, str) else part.text for part in parts)
            return _with_text(block, document, "\n".join(texts)), ()
    context = () if document.context is None else ((("context",), document.context),)
    return file, (*context, *unread(block, document))


def _with_text(block: dict[str, Any], document: DocumentBlock, text: str) -> Media:
    return _native(block, "\n".join(part for part in (document.title, document.context, text) if part))
