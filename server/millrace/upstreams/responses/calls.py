"""Puts together the tool calls of an answer from the events about them. No I/O."""

from secrets import token_hex
from typing import Any

import msgspec

from millrace.errors import UpstreamError
from millrace.types import CallPiece, Tool
from millrace.upstreams.characters import Characters, is_cut
from millrace.upstreams.responses.events import Event

KINDS = {"function_call": "arguments", "custom_tool_call": "input"}  # item type -> its field with what the model wrote
EMPTY = "{}"
_NOTHING = ("null", "")  # what some models write for no arguments
_READ = frozenset({"type", "id", "call_id", "status", "name", "namespace", *KINDS.values()})


class _Call:
    """A call so far."""

    __slots__ = ("characters", "id", "is_custom", "is_done", "item_id", "name", "namespace", "number", "size")

    def __init__(self, number: int, item: dict[str, Any]) -> None:
        self.number = number
        self.item_id = item.get("id")
        self.id = _word(item.get("call_id")) or _word(item.get("id")) or f"call_{token_hex(12)}"
        self.name = _word(item.get("name"))
        self.namespace = _word(item.get("namespace"))
        self.is_custom = item.get("type") == "custom_tool_call"
        self.is_done = False
        self.size = 0  # characters of its arguments
        self.characters = Characters()


class CallsReader:
    """The calls of one answer, numbered in the order in which they begin."""

    __slots__ = ("_by_index", "_calls", "_model", "_tools")

    def __init__(self, model: str, tools: tuple[Tool, ...]) -> None:
        self._model = model
        self._tools = {(tool.namespace, tool.name): tool for tool in tools}
        self._calls: list[_Call] = []
        self._by_index: dict[Any, _Call] = {}  # the server's index of the item -> its latest call

    @property
    def any(self) -> bool:
        """Whether the answer has a call."""
        return bool(self._calls)

    @property
    def is_half_said(self) -> bool:
        """Whether a call has begun and is not complete."""
        return any(not call.is_done for call in self._calls)

    def begin(self, item: dict[str, Any], index: Any) -> CallPiece:
        """Return the first piece of a call. Raises `upstream_error` if nobody offered a tool, or it has no name."""
        if not self._tools:
            raise self._error("called a tool that nobody offered")
        call = _Call(len(self._calls), item)
        if not call.name:
            raise self._error("called a tool without naming one")
        if any(other.id == call.id for other in self._calls):  # a client answers a call by its id
            call.id = f"call_{token_hex(12)}"
        self._calls.append(call)
        self._by_index[index] = call
        own_fields = {name: value for name, value in item.items() if name not in _READ and value is not None}
        return CallPiece(
            index=call.number,
            id=call.id,
            name=call.name,
            namespace=call.namespace,
            is_custom=call.is_custom,
            own_fields=own_fields,
        )

    def more(self, event: Event) -> CallPiece | None:
        """Return what a delta adds; None if nothing, or if its call is not known (yet)."""
        call = self._call_of(event.item_id, event.output_index)
        return None if call is None else _piece(call, event.delta)

    def whole(self, item: dict[str, Any], index: Any) -> list[CallPiece]:
        """Return what a complete item adds to what has come of its call."""
        same = (call for call in self._calls if call.id == item.get("call_id"))
        call = next(same, None) or self._call_of(item.get("id"), index)
        arguments = item.get(KINDS[item["type"]])
        if call is not None and not call.is_done:
            return self._close(call, arguments)
        if call is not None and call.id in (item.get("call_id"), item.get("id")):  # it comes once more
            return []
        first = self.begin(item, index)
        return [first, *self._close(self._calls[-1], arguments)]

    def done(self, event: Event) -> list[CallPiece]:
        """Return what the complete arguments add to what has come of them."""
        call = self._call_of(event.item_id, event.output_index)
        return [] if call is None else self._close(call, event.input if call.is_custom else event.arguments)

    def end(self) -> list[CallPiece]:
        """Return what the end of the answer adds: a function that requires nothing is called with `{}`."""
        return [
            CallPiece(index=call.number, arguments=EMPTY)
            for call in self._calls
            if not call.size and not call.is_custom and not self._requires_arguments(call)
        ]

    def _call_of(self, item_id: Any, index: Any) -> _Call | None:
        """Return the call that an event is about: by the id of its item, which some servers change, or by its index."""
        found = (call for call in reversed(self._calls) if item_id and call.item_id == item_id)
        return next(found, None) or self._by_index.get(index)

    def _close(self, call: _Call, arguments: Any) -> list[CallPiece]:
        call.is_done = True
        piece = _piece(call, arguments) if not call.size else None
        rest = call.characters.flush()
        return [
            *([piece] if piece is not None else ()),
            *([CallPiece(index=call.number, arguments=rest)] if rest else ()),
        ]

    def _requires_arguments(self, call: _Call) -> bool:
        tool = self._tools.get((call.namespace, call.name))
        return tool is None or bool((tool.parameters or {}).get("required"))

    def _error(self, what: str) -> UpstreamError:
        return UpstreamError("upstream_error", f"{self._model} {what}")


def _piece(call: _Call, given: Any) -> CallPiece | None:
    text = given if isinstance(given, str) else "" if given is None else msgspec.json.encode(given).decode()
    if not (call.size or call.is_custom) and text.strip() in _NOTHING:
        text = ""
    text = call.characters.join(text) if call.characters.pending or is_cut(text) else text
    call.size += len(text)
    return CallPiece(index=call.number, arguments=text) if text else None


def _word(given: Any) -> str:
    return given if isinstance(given, str) else ""
