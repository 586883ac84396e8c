"""The events of a stream of the Responses API, as lenient as servers are careless. No I/O."""

from typing import Any

import msgspec
from msgspec import Struct

from millrace.upstreams.characters import mended
from millrace.upstreams.chat import chunks

# What ends an answer, by the status of a response object; the others mean that it goes on.
TERMINALS = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
    "cancelled": "response.cancelled",
}


class Event(Struct, gc=False):
    """One event. What tells where it belongs is of the right type, or not there; the rest may be anything."""

    type: str | None = None
    output_index: int | None = None
    item_id: str | None = None
    content_index: int | None = None
    summary_index: int | None = None
    delta: Any = None
    logprobs: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None  # of a function's call, once they are whole
    input: Any = None  # of a custom tool's call
    part: Any = None
    item: Any = None
    response: Any = None


_decode = msgspec.json.Decoder(Event).decode


def read(data: bytes) -> Event:
    """Decode one event. A whole response is the event that ends one.

    Raises `chunks.UnreadableError` if it is no JSON object.
    """
    try:
        event = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fields = chunks.fields_of(data)
        delta = fields.pop("delta", None)  # of a text, which may be cut anywhere: the next one may have the rest
        fields = mended(fields) | {"delta": delta if isinstance(delta, str) else mended(delta)}
        event = Event(**{name: _given(fields, name) for name in Event.__struct_fields__})
    else:
        fields = {} if event.type is not None else chunks.fields_of(data)
    if event.type is None and isinstance(fields.get("output"), list):
        return Event(type=TERMINALS.get(str(fields.get("status"))), response=fields)
    return event


_TYPES = {"type": str, "item_id": str} | dict.fromkeys(("output_index", "content_index", "summary_index"), int)


def _given(fields: dict[str, Any], name: str) -> Any:
    value = fields.get(name)
    return value if isinstance(value, _TYPES.get(name, object)) else None
