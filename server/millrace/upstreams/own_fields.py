"""A provider's own fields beside an answer, put together from the pieces of a stream. No I/O.

A signature of the model's thoughts is such a field. Some providers refuse the next request without it.
"""

from typing import Any

import msgspec

MAX_OWN_FIELDS = 1024 * 1024  # bytes of JSON for one answer; what is more is left out
TEXTS = ("text", "summary", "data")  # fields of a block that come in pieces

_BLOCKS = (list, tuple)


class OwnFieldsReader:
    """Collects the fields of one answer. A list of blocks is put together by their `type` and `index`."""

    __slots__ = ("_fields", "_size")

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._size = 0

    def take(self, name: str, given: Any) -> None:
        """Take a field of one event."""
        self._size += len(msgspec.json.encode(given))
        if self._size > MAX_OWN_FIELDS:
            return
        before = self._fields.get(name)
        if isinstance(given, _BLOCKS):
            blocks = self._fields[name] = before if isinstance(before, list) else []
            for block in given:
                _add_block(blocks, block)
        elif isinstance(given, dict) and isinstance(before, dict):
            before.update(given)
        else:
            self._fields[name] = given

    def end(self) -> dict[str, Any]:
        """Return all fields."""
        return self._fields


def _add_block(blocks: list[Any], block: Any) -> None:
    """Add a block, or a piece of the last one of its type and index."""
    if not isinstance(block, dict):
        blocks.append(block)
        return
    last = blocks[-1] if blocks else None
    is_piece = (
        isinstance(last, dict)
        and isinstance(block.get("index"), int)
        and (last.get("type"), last.get("index")) == (block.get("type"), block["index"])
    )
    if not isinstance(last, dict) or not is_piece:
        blocks.append(dict(block))
        return
    for name, value in block.items():
        so_far = last.get(name)
        if name in TEXTS and isinstance(so_far, str) and isinstance(value, str):
            last[name] = so_far + value
        elif value is not None:
            last[name] = value
