"""The events of an answer of the Messages API. No I/O.

Any field may be of another type than it should: servers that speak this API too are careless.
"""

from typing import Any

import msgspec
from msgspec import Struct

from millrace.upstreams.characters import mended
from millrace.upstreams.chat.chunks import UnreadableError, fields_of

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Delta(Struct, gc=False):
    """What one event adds to a block, or to the message."""

    type: Any = None
    text: Any = None
    thinking: Any = None
    signature: Any = None
    partial_json: Any = None
    citation: Any = None
    stop_reason: Any = None
    stop_sequence: Any = None
    stop_details: Any = None
    container: Any = None


class Event(Struct, gc=False):
    """One event, or a whole message in place of a stream."""

    type: Any = None
    index: int | str | None = None
    delta: Delta | None = None
    content_block: Any = None
    message: Any = None
    usage: Any = None
    context_management: Any = None
    content: Any = None  # of a whole message, as all that follow
    stop_reason: Any = None
    stop_sequence: Any = None
    stop_details: Any = None
    container: Any = None


# Of a text, which may be cut anywhere: a later event may bring the rest of a character.
_PIECES = ("text", "thinking", "signature", "partial_json")

_decode = msgspec.json.Decoder(Event).decode


def read(data: bytes) -> Event:
    """Decode one event. Raises `UnreadableError` if it is no JSON object."""
    try:
        return _decode(data)
    except _UNREADABLE:
        fields = fields_of(data)
    delta = fields.pop("delta", None)
    known = mended({name: fields.get(name) for name in Event.__struct_fields__ if name != "delta"})
    known["index"] = index if isinstance(index := known["index"], int | str) else None
    return Event(delta=_delta(delta), **known)


def _delta(given: Any) -> Delta | None:
    if not isinstance(given, dict):
        return None
    fields = {name: given.get(name) for name in Delta.__struct_fields__}
    return Delta(**{name: value if name in _PIECES else mended(value) for name, value in fields.items()})


__all__ = ["Delta", "Event", "UnreadableError", "fields_of", "read"]
