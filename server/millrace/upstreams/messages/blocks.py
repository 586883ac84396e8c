"""Puts together the content blocks of an answer of the Messages API. No I/O."""

from secrets import token_hex
from typing import Any

import msgspec

from millrace.types import CallPiece
from millrace.upstreams.characters import Characters, is_cut, mended, whole
from millrace.upstreams.messages import events
from millrace.upstreams.messages.events import Delta

_OF_A_CALL = frozenset({"type", "id", "name", "input"})
_EMPTY = "{}"


class Block:
    """A block that is being read. One that is neither text nor a call goes on whole once it has ended.

    So does text with citations, after the text itself, which it repeats.
    """

    __slots__ = ("_fields", "_json", "_signature", "_texts", "given_text", "has_grown", "kind", "pieces")

    def __init__(self, given: dict[str, Any]) -> None:
        kind = given.get("type")
        self.kind = kind if isinstance(kind, str) else ""
        self.pieces: list[str] = []  # of its text or thinking
        self.has_grown = False  # the last delta has brought something
        self._fields = given
        self._signature: list[str] = []
        self._json: list[str] = []
        self._texts: dict[str, list[str]] = {}  # other fields that deltas bring, by name
        text = given.get(self.kind) if self.kind in ("text", "thinking") else ""
        self.given_text = text if isinstance(text, str) else ""  # that has come with its beginning

    def begin(self) -> list[CallPiece]:
        """Return what its beginning brings."""
        return []

    def take(self, delta: Delta, data: bytes) -> CallPiece | None:
        """Take a delta that is neither text nor thinking, the `data` of whose event is given."""
        self.has_grown = True
        if isinstance(delta.signature, str):
            self._signature.append(delta.signature)
        elif isinstance(delta.partial_json, str):
            self._json.append(delta.partial_json)
        elif delta.citation is not None:
            if not isinstance(self._fields.get("citations"), list):
                self._fields["citations"] = []
            self._fields["citations"].append(delta.citation)
        else:
            self.has_grown = self._merge(data)
        return None

    def end(self) -> list[CallPiece]:
        """Return what its end brings."""
        return []

    def sealed(self) -> dict[str, Any] | None:
        """Return the whole block; None if nothing of it is left to be told."""
        fields = self._fields | {name: "".join(pieces) for name, pieces in self._texts.items()}
        match self.kind:
            case "text":
                return fields | {"text": "".join(self.pieces)} if fields.get("citations") and self.pieces else None
            case "thinking":
                signature = whole("".join(self._signature)) or fields.get("signature")
                if not signature:  # nobody could check it, so nobody takes it back
                    return None
                return fields | {"thinking": "".join(self.pieces), "signature": signature}
        if self._json:
            return fields | {"input": _value(whole("".join(self._json)), fields.get("input"))}
        return fields

    def _merge(self, data: bytes) -> bool:
        """Add the fields of a delta of a kind that is not known; texts are joined. Return whether there were any."""
        delta = mended(events.fields_of(data).get("delta"))
        more = {name: value for name, value in delta.items() if name != "type"} if isinstance(delta, dict) else {}
        for name, value in more.items():
            before = self._fields.get(name)
            if isinstance(value, str):
                self._texts.setdefault(name, [before] if isinstance(before, str) else []).append(value)
            else:
                self._texts.pop(name, None)
                self._fields[name] = value
        return bool(more)


class ToolBlock(Block):
    """A call of a client's tool."""

    __slots__ = ("_characters", "_id", "_name", "_number", "_own_fields", "_size")

    def __init__(self, given: dict[str, Any], number: int, ids: set[str]) -> None:
        super().__init__(given)
        id_, name = given.get("id"), given.get("name")
        self._id = id_ if isinstance(id_, str) and id_ and id_ not in ids else f"toolu_{token_hex(12)}"
        ids.add(self._id)
        self._name = name if isinstance(name, str) else ""
        self._number = number
        self._size = 0  # characters of its arguments so far
        self._characters = Characters()
        self._own_fields = {key: value for key, value in given.items() if key not in _OF_A_CALL and value is not None}

    def begin(self) -> list[CallPiece]:
        """Return the first piece, with the id and the name."""
        return [CallPiece(index=self._number, id=self._id, name=self._name, own_fields=self._own_fields)]

    def take(self, delta: Delta, data: bytes) -> CallPiece | None:
        """Take a piece of the arguments."""
        piece = delta.partial_json if isinstance(delta.partial_json, str) else ""
        self.has_grown = bool(piece)
        if self._characters.pending or is_cut(piece):
            piece = self._characters.join(piece)
        self._size += len(piece)
        return CallPiece(index=self._number, arguments=piece) if piece else None

    def end(self) -> list[CallPiece]:
        """Return what is left: a call may come whole with its beginning, and one without arguments has none."""
        if rest := self._characters.flush():
            return [CallPiece(index=self._number, arguments=rest)]
        if self._size:
            return []
        given = self._fields.get("input")
        return [CallPiece(index=self._number, arguments=msgspec.json.encode(given).decode() if given else _EMPTY)]

    def sealed(self) -> None:
        """Return None: a call is told in pieces."""


def _value(text: str, given: Any) -> Any:
    """Return the JSON value of a text; without one, what was given at the beginning."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return given
