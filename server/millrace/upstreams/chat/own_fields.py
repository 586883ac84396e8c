"""A provider's own fields beside an answer, put together from the pieces of a stream. No I/O.

A signature of the model's thoughts is such a field. Some providers refuse the next request without it, and all refuse a
part of it. So fields that are too long are left out whole.
"""

from typing import Any

import msgspec

MAX_OWN_FIELDS = 1024 * 1024  # bytes of JSON for one answer
TEXTS = ("text", "summary", "data", "thinking")  # fields of a block that come in pieces
SIGNATURE = "signature"  # of a block; it comes in pieces, or again with each piece
THINKING = "thinking"  # the type of LiteLLM's blocks, which have no index: a signature ends one

TOO_LONG = f"without the provider's own fields, which are longer than {MAX_OWN_FIELDS >> 20} MiB"
NOT_JSON = "without the provider's own fields, which cannot be sent back"

_LISTS = (list, tuple)


class Bound:
    """The room that own fields have. Once there is not enough, there is none any more."""

    __slots__ = ("_size", "note")

    def __init__(self) -> None:
        self._size = 0
        self.note = ""  # why fields are left out; empty if none are

    def fits(self, given: Any) -> bool:
        """Whether there is room for one more value."""
        if self.note:
            return False
        try:
            self._size += len(msgspec.json.encode(given))
        except (ValueError, OverflowError, RecursionError):  # half a character, a number or a depth that nobody sends
            self.note = NOT_JSON
        if self._size > MAX_OWN_FIELDS:
            self.note = TOO_LONG
        return not self.note


class OwnFieldsReader:
    """Collects the fields of one answer. A list of blocks is put together by their `type` and `index`."""

    __slots__ = ("_bound", "_fields")

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._bound = Bound()

    @property
    def note(self) -> str:
        """Why the fields are left out; empty if they are not."""
        return self._bound.note

    def take(self, name: str, given: Any) -> None:
        """Take a field of one event."""
        if not self._bound.fits(given):
            self._fields.clear()
            return
        before = self._fields.get(name)
        if isinstance(given, str):
            self._fields[name] = _signed(before, given)
        elif isinstance(given, dict):
            fields = self._fields[name] = before if isinstance(before, dict) else {}
            for key, value in given.items():
                if value is not None or key not in fields:
                    fields[key] = _listed(fields.get(key), value)
        else:
            self._fields[name] = _listed(before, given)

    def end(self) -> dict[str, Any]:
        """Return all fields."""
        return {
            name: {key: _whole(each) for key, each in value.items()} if isinstance(value, dict) else _whole(value)
            for name, value in self._fields.items()
        }


class _Pieces(list[str]):
    """The pieces of a text."""


class _Blocks:
    """The blocks of a list, in the order in which they begin."""

    def __init__(self) -> None:
        self._all: list[Any] = []
        self._by_place: dict[tuple[str, int], dict[str, Any]] = {}

    def add(self, given: Any) -> None:
        """Add a block, or a piece of one."""
        if not isinstance(given, dict):
            self._all.append(given)
            return
        kind, index = given.get("type"), given.get("index")
        place = (kind, index) if isinstance(kind, str) and isinstance(index, int) else None
        block = self._open(given) if place is None else self._by_place.get(place)
        if block is None:
            self._all.append(block := {})
            if place is not None:
                self._by_place[place] = block
        for name, value in given.items():
            before = block.get(name)
            if name in TEXTS and isinstance(value, str):
                block[name] = before if isinstance(before, _Pieces) else _Pieces()
                block[name].append(value)
            elif name == SIGNATURE and isinstance(value, str):
                block[name] = _signed(before, value)
            elif value is not None or name not in block:
                block[name] = value

    def whole(self) -> list[Any]:
        """Return the blocks."""
        return [
            {name: _whole(value) for name, value in block.items()} if isinstance(block, dict) else block
            for block in self._all
        ]

    def _open(self, given: dict[str, Any]) -> dict[str, Any] | None:
        """Return the last block, if this one without an index continues it."""
        last = self._all[-1] if self._all else None
        if not isinstance(last, dict) or not last.get("type") == given.get("type") == THINKING or "index" in last:
            return None
        is_closed = bool(_whole(last.get(SIGNATURE))) and bool(given.get(THINKING))
        return None if is_closed else last


def _signed(before: Any, given: str) -> _Pieces:
    """Return the pieces of a signature, with one more."""
    pieces = before if isinstance(before, _Pieces) else _Pieces()
    if given not in pieces[-1:]:
        pieces.append(given)
    return pieces


def _listed(before: Any, given: Any) -> Any:
    """Return a value with those before it, if it is a list."""
    if not isinstance(given, _LISTS):
        return given
    blocks = before if isinstance(before, _Blocks) else _Blocks()
    for block in given:
        blocks.add(block)
    return blocks


def _whole(value: Any) -> Any:
    if isinstance(value, _Blocks):
        return value.whole()
    return "".join(value) if isinstance(value, _Pieces) else value
