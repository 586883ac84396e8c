"""Assigns the pieces of a stream's tool calls to their calls, whatever a server leaves out or repeats. No I/O.

Indexes, ids and names may be missing, repeated, late or wrong, so no single one of them decides. What arguments are
complete JSON decides with them: nothing can be added to a complete call.
"""

from collections.abc import Sequence
from secrets import token_hex
from typing import Any

import msgspec

from millrace.errors import UpstreamError
from millrace.json_text import is_json
from millrace.types import CallPiece, Tool
from millrace.upstreams.characters import Characters, is_cut, mended, whole
from millrace.upstreams.chat.own_fields import Bound
from millrace.upstreams.sent_tools import SentTools

_EMPTY = "{}"
_NOTHING = (_EMPTY, "null", "")
_READ = frozenset({"index", "id", "type", "function", "name", "arguments"})


class _Call:
    """A call so far."""

    __slots__ = (
        "_parts",
        "characters",
        "id",
        "ids",
        "known",
        "name",
        "number",
        "own_fields",
        "passed_on",
        "said_empty",
        "size",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.ids: set[str] = set()  # that its pieces had
        self.id = ""  # the first of them, or one that is made here, since a client answers a call by its id
        self.name = ""
        self.passed_on = False  # its first piece, which has the name
        self.said_empty = False  # the server sent {}, which some do before the arguments
        self.size = 0  # characters of its arguments
        self.characters = Characters()  # of its arguments
        self.own_fields: dict[str, Any] = {}  # fields of the provider's own that are not passed on yet
        self.known: dict[str, Any] = {}  # the latest of these fields, which some servers repeat with each piece
        self._parts: list[str] = []

    @property
    def arguments(self) -> str:
        """Its arguments so far."""
        return "".join(self._parts)

    def add(self, arguments: str) -> None:
        """Add to its arguments."""
        if arguments:
            self.size += len(arguments)
            self._parts.append(arguments)

    def has_all(self) -> bool:
        """Whether its arguments are complete JSON."""
        # Decoding at every piece would take too long.
        return bool(self._parts) and self._parts[-1].rstrip().endswith("}") and is_json(self.arguments)

    def is_continued_by(self, arguments: str) -> bool:
        """Whether arguments can only be the rest of those that it has."""
        return bool(self.size and arguments.strip() and not arguments.lstrip().startswith("{") and not self.has_all())


class CallReader:
    """Reads `delta.tool_calls`. The calls of an answer are numbered in the order in which they begin.

    What it returns are calls of the tools that are meant, not of the functions as which those were sent.
    """

    __slots__ = ("_by_index", "_calls", "_model", "_room", "_sent", "_tools")

    def __init__(self, model: str, tools: Sequence[Tool]) -> None:
        self._model = model
        self._sent = SentTools(tools)
        self._tools = {tool.name: tool for tool in self._sent.functions}
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}  # the server's index -> its latest call
        self._room = Bound()

    @property
    def note(self) -> str:
        """Why own fields of calls are left out; empty if none are."""
        return self._room.note

    @property
    def any(self) -> bool:
        """Whether the answer has a tool call."""
        return bool(self._calls)

    @property
    def is_half_said(self) -> bool:
        """Whether the arguments of a call are incomplete."""
        return any(call.size and not call.has_all() for call in self._calls)

    def read(self, given: Any, *, is_another: bool = False) -> CallPiece | None:
        """Return what one piece adds; None if nothing yet. Raises `upstream_error` for what is no function call.

        `is_another`: the same piece has come in the same event, so if it names a function this is another call.
        """
        if not isinstance(given, dict):
            raise self._error("sent a tool call that cannot be read")
        if not self._tools:
            raise self._error("called a tool that nobody offered")
        function = given.get("function")
        fields = function if isinstance(function, dict) else given
        index, id_, name = _index(given.get("index")), _word(given.get("id")), _word(fields.get("name"))
        arguments = _text(fields.get("arguments"))
        call = self._begun() if is_another and name else self._call(index, id_, name, arguments)
        if index is not None:
            self._by_index[index] = call
        if id_ and id_ not in call.ids:
            call.ids.add(id_)
            if not call.id and not any(other.id == id_ for other in self._calls):
                call.id = id_
        self._take_own_fields(call, given)
        piece = self._add(call, name, arguments)
        return piece and self._sent.back(piece)

    def end(self) -> list[CallPiece]:
        """Return what the end of the answer adds. Raises `upstream_error` for a call without a name.

        A function that requires nothing is called with `{}` if the server sent no arguments.
        """
        if any(not call.name for call in self._calls):
            raise self._error("called a tool without naming a function")
        rests = ((call, call.characters.flush()) for call in self._calls)
        pieces = [piece for call, rest in rests if rest and (piece := self._add(call, "", rest)) is not None]
        pieces += [_first_piece(call) for call in self._calls if not call.passed_on]
        pieces += [
            CallPiece(index=call.number, arguments=_EMPTY)
            for call in self._calls
            if not call.size and (call.said_empty or not self._requires_arguments(call.name))
        ]
        meant = [self._sent.back(piece) for piece in pieces]
        return [piece for piece in (*meant, *self._sent.rest()) if piece is not None]

    def _call(self, index: int | None, id_: str, name: str, arguments: str) -> _Call:
        """Return the call that a piece continues, or a new one."""
        found = self._by_id(id_) or (None if index is None else self._by_index.get(index))
        if found is None and self._calls:
            last = self._calls[-1]
            begins_by_index = index is not None and (id_ or name)
            if not begins_by_index or last.is_continued_by(arguments):
                found = last
        has_place = index is not None or bool(id_)
        if found is not None and not self._begins_another(found, id_, name, arguments, has_place=has_place):
            return found
        call = self._begun()
        if found is not None and not name:  # more arguments after complete ones: the function is called once more
            call.name = found.name
        return call

    def _begun(self) -> _Call:
        call = _Call(len(self._calls))
        self._calls.append(call)
        return call

    def _begins_another(self, call: _Call, id_: str, name: str, arguments: str, *, has_place: bool) -> bool:
        """Whether a piece begins another call, although its index or its id is that of `call`, or it has neither.

        Some servers give every call the index 0, the id "", or both. Others give every piece another id. Those that
        give neither send whole calls.
        """
        is_other = bool(id_ and call.ids) and id_ not in call.ids
        has_all = call.has_all()
        if has_all and arguments.strip():
            return is_other or arguments != call.arguments  # else the whole call comes once more
        is_continued = not has_all and call.is_continued_by(arguments)
        if is_other and not is_continued:
            return bool(name) or has_all or call.said_empty
        if is_continued or not (name and call.name) or id_:
            return False
        if not has_place:
            return self._is_offered(call.name) or not self._begins_a_name(call.name + name)
        is_called_anew = call.said_empty and bool(arguments.strip())
        return is_called_anew or (name != call.name and self._is_offered(name) and self._is_offered(call.name))

    def _take_own_fields(self, call: _Call, given: dict[str, Any]) -> None:
        own_fields = {
            name: value
            for name, value in given.items()
            if name not in _READ and value is not None and call.known.get(name) != value
        }
        if not own_fields:
            return
        if self._room.fits(own_fields):
            call.own_fields |= own_fields
            call.known |= own_fields
        else:
            for each in self._calls:
                each.own_fields = {}

    def _by_id(self, id_: str) -> _Call | None:
        return next((call for call in reversed(self._calls) if id_ in call.ids), None) if id_ else None

    def _add(self, call: _Call, name: str, arguments: str) -> CallPiece | None:
        if name and name != call.name and not call.passed_on:  # a name may come in pieces, or again with each piece
            call.name = call.name + name if self._begins_a_name(call.name + name) else call.name or name
        if call.characters.pending or is_cut(arguments):
            arguments = call.characters.join(arguments)
        if not call.size and arguments and arguments.strip() in _NOTHING:
            call.said_empty = call.said_empty or bool(arguments.strip())
            arguments = ""
        elif arguments and len(arguments) == call.size and call.has_all():
            arguments = ""  # the whole call once more
        call.add(arguments)
        if call.passed_on:
            own_fields, call.own_fields = call.own_fields, {}
            return (
                CallPiece(index=call.number, arguments=arguments, own_fields=own_fields)
                if arguments or own_fields
                else None
            )
        return _first_piece(call) if self._is_offered(call.name) else None

    def _is_offered(self, name: str) -> bool:
        return name in self._tools

    def _begins_a_name(self, beginning: str) -> bool:
        return any(name.startswith(beginning) for name in self._tools)

    def _requires_arguments(self, name: str) -> bool:
        tool = self._tools.get(name)
        return tool is None or bool((tool.parameters or {}).get("required"))

    def _error(self, what: str) -> UpstreamError:
        return UpstreamError("upstream_error", f"{self._model} {what}")


def _first_piece(call: _Call) -> CallPiece:
    call.passed_on = True
    call.id = call.id or f"call_{token_hex(12)}"
    own_fields, call.own_fields = call.own_fields, {}
    return CallPiece(index=call.number, id=call.id, name=call.name, arguments=call.arguments, own_fields=own_fields)


def _index(given: Any) -> int | None:
    """Return a piece's index as a number; some servers send floats or digits in quotes."""
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    try:
        return int(given)
    except (ValueError, OverflowError):
        return None


def _word(given: Any) -> str:
    return whole(given) if isinstance(given, str) else str(given) if isinstance(given, int) else ""


def _text(arguments: Any) -> str:
    """Return arguments as JSON text; some servers send the object itself."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(mended(arguments)).decode()
