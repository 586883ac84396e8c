"""Assigns the pieces of a stream's tool calls to their calls, whatever a server leaves out or repeats. No I/O."""

from secrets import token_hex
from typing import Any

import msgspec
from msgspec import Struct

from millrace.errors import UpstreamError
from millrace.types import CallPiece


class _Function(Struct):
    name: str | None = None
    arguments: Any = None  # a string; some servers send the whole object


class _Piece(Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class CallReader:
    """Reads `delta.tool_calls`. The calls of an answer are numbered in the order in which they begin."""

    __slots__ = ("_by_index", "_ids", "_model")

    def __init__(self, model: str) -> None:
        self._model = model
        self._ids: list[str] = []  # of every call so far; empty string if the server gave none
        self._by_index: dict[int, int] = {}  # the server's index -> the number of its latest call

    @property
    def any(self) -> bool:
        """Whether the answer has a tool call."""
        return bool(self._ids)

    def read(self, given: Any) -> CallPiece | None:
        """Return what one piece adds; None if nothing. Raises `upstream_error` for what is not a function call."""
        try:
            piece = msgspec.convert(given, _Piece)
        except msgspec.ValidationError:
            raise self._error("sent a tool call that cannot be read") from None
        function = piece.function or _Function()
        arguments = _text(function.arguments)
        number = self._continued(piece, function)
        if number is not None:
            return CallPiece(index=number, arguments=arguments) if arguments else None
        if not function.name:
            raise self._error("called a tool without naming a function")
        if piece.index is not None:
            self._by_index[piece.index] = len(self._ids)
        self._ids.append(piece.id or "")
        # The client answers a call by its id, so a call without one gets one here.
        id_ = piece.id or f"call_{token_hex(12)}"
        return CallPiece(index=len(self._ids) - 1, id=id_, name=function.name, arguments=arguments)

    def _continued(self, piece: _Piece, function: _Function) -> int | None:
        """Return the number of the call that a piece continues; None if it begins a call.

        Some servers give every call the index 0. So a piece with a name and another id begins a call under any index.
        """
        if piece.index is not None:
            number = self._by_index.get(piece.index)
            id_ = "" if number is None else self._ids[number]
            return None if function.name and piece.id and id_ and piece.id != id_ else number
        if piece.id:
            return self._ids.index(piece.id) if piece.id in self._ids else None
        return None if function.name or not self._ids else len(self._ids) - 1

    def _error(self, what: str) -> UpstreamError:
        return UpstreamError("upstream_error", f"{self._model} {what}")


def _text(arguments: Any) -> str:
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
