"""The tool calls of one stream: whose piece each piece is, whatever a server leaves out or says twice. No I/O."""

from secrets import token_hex
from typing import Any

import msgspec
from msgspec import Struct

from millrace.errors import UpstreamError
from millrace.types import CallPiece


class _Function(Struct):
    name: str | None = None
    arguments: Any = None  # a text; some servers send the whole object


class _Piece(Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class CallReader:
    """Reads `delta.tool_calls`; an answer's calls are numbered in the order in which they begin."""

    __slots__ = ("_at", "_ids", "_model")

    def __init__(self, model: str) -> None:
        self._model = model
        self._ids: list[str] = []  # of every call so far; empty where the server gave none
        self._at: dict[int, int] = {}  # the server's index -> the latest of its calls

    @property
    def any(self) -> bool:
        """Whether there was a call at all."""
        return bool(self._ids)

    def read(self, given: Any) -> CallPiece | None:
        """Return what one piece adds; None where that is nothing. Raises `UpstreamError` for what is no function."""
        try:
            piece = msgspec.convert(given, _Piece)
        except msgspec.ValidationError:
            raise self._fault("sent a tool call that cannot be read") from None
        function = piece.function or _Function()
        arguments = _text(function.arguments)
        known = self._known(piece, function)
        if known is not None:
            return CallPiece(index=known, arguments=arguments) if arguments else None
        if not function.name:
            raise self._fault("called a tool without naming a function")
        if piece.index is not None:
            self._at[piece.index] = len(self._ids)
        self._ids.append(piece.id or "")
        # Who answers a call does so by its id, so it must have one.
        id_ = piece.id or f"call_{token_hex(12)}"
        return CallPiece(index=len(self._ids) - 1, id=id_, name=function.name, arguments=arguments)

    def _known(self, piece: _Piece, function: _Function) -> int | None:
        """Return the call that a piece goes on with; None: it begins one. Some servers give every call the index 0."""
        if piece.index is not None:
            at = self._at.get(piece.index)
            other = at is not None and function.name and piece.id and self._ids[at] and piece.id != self._ids[at]
            return None if other else at
        if piece.id:
            return self._ids.index(piece.id) if piece.id in self._ids else None
        return None if function.name or not self._ids else len(self._ids) - 1

    def _fault(self, what: str) -> UpstreamError:
        return UpstreamError("upstream_error", f"{self._model} {what}")


def _text(arguments: Any) -> str:
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
