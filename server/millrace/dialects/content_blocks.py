"""The content blocks of an answer in the Messages dialect, one after the other."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from millrace.types import Api, Aside, CallPiece, OwnFields, Refusal, Sealed, Thought, ToolCall, calls_of
from millrace.wire import carried, message_events as wire

_WITH_INPUT = ("server_tool_use", "mcp_tool_use")  # their input comes as deltas


class AddEvent(Protocol):
    """Adds an event with so many characters of new text."""

    def __call__(self, event: Any, characters: int = 0) -> None: ...  # noqa: D102 - documented above


class ContentBlocks:
    """Makes the blocks of one answer. `add_event` takes events, `add_text` the deltas of a text block, in one order.

    A block is open until the next one begins. Tool calls come last, in their order; blocks and thoughts that came after
    a call stay after it. What other APIs want back, and this one has no place for, is carried by the signature of a
    thinking block.
    """

    def __init__(self, add_event: AddEvent, add_text: Callable[[list[str]], None]) -> None:
        self.is_refused = False
        self._add_event = add_event
        self._add_text = add_text
        self._index = -1  # of the last block
        self._open = ""  # the type of the block that is open
        self._thought: list[str] = []  # of the open block
        self._late: list[CallPiece | Thought | Sealed] = []  # from the first call on
        self._own_fields: dict[str, Any] = {}

    @property
    def has_calls(self) -> bool:
        """Whether the answer calls a tool."""
        return bool(self._late)

    def text(self, deltas: list[str]) -> None:
        """Add text deltas."""
        if self._open != "text":
            self._begin({"type": "text", "text": ""})
        self._add_text(deltas)

    def aside(self, aside: Aside) -> None:
        """Add what is not text of the answer."""
        match aside:
            case Refusal():  # this API has no other place for its words
                self.is_refused = True
                self.text([aside.text])
            case OwnFields():
                self._own_fields |= aside.fields
            case CallPiece():
                self._late.append(aside)
            case Thought() | Sealed() if self._late:
                self._late.append(aside)
            case Thought():
                self._think(aside.text)
            case Sealed():
                self._seal(aside)

    def end(self) -> None:
        """Add the calls and what came after them, and close the last block."""
        calls = calls_of(self._late)
        own_fields_of_calls = {call.id: call.own_fields for call in calls if call.own_fields}
        if self._own_fields or own_fields_of_calls:
            self._sign(carried.write(self._own_fields, own_fields_of_calls))
        indices = sorted({piece.index for piece in self._late if isinstance(piece, CallPiece)})
        pending = dict(zip(indices, calls, strict=True))
        for aside in self._late:
            match aside:
                case CallPiece():
                    if (call := pending.pop(aside.index, None)) is not None:
                        self._call(call)
                case Thought():
                    self._think(aside.text)
                case Sealed():
                    self._seal(aside)
        self._close()

    def _think(self, text: str) -> None:
        if self._open != "thinking":
            self._begin({"type": "thinking", "thinking": "", "signature": ""})
        self._thought.append(text)
        self._delta(wire.ThinkingDelta(text), len(text))

    def _seal(self, sealed: Sealed) -> None:
        """Add a sealed block: one of this API as it came, one of another API as the signature of a thinking block."""
        fields = sealed.fields
        if sealed.api is not Api.MESSAGES:
            self._sign(carried.write({}, {}, [replace(sealed, parts_before=0, calls_before=0)]))
        elif fields.get("type") == "thinking":
            thought = str(fields.get("thinking", ""))
            if self._open == "thinking" and "".join(self._thought) != thought:
                self._close()  # it was another one
            if self._open != "thinking" and thought:
                self._think(thought)
            self._sign(str(fields.get("signature", "")))
        elif fields.get("type") == "text":  # with citations; its text has been shown already
            if self._open != "text":
                self.text([str(fields.get("text", ""))])
            for citation in fields.get("citations") or ():
                self._delta(wire.CitationsDelta(citation), len(wire.encoded(citation)))
            self._stop()
        elif fields.get("type") in _WITH_INPUT:
            self._begin(fields | {"input": {}})
            arguments = wire.encoded(fields.get("input"))
            self._delta(wire.InputDelta(arguments), len(arguments))
            self._close()
        else:
            self._begin(fields, sealed.size)
            self._close()

    def _sign(self, signature: str) -> None:
        """Close a thinking block with its signature; one without a word, unless one is open."""
        if self._open != "thinking":
            self._begin({"type": "thinking", "thinking": "", "signature": ""})
        self._delta(wire.SignatureDelta(signature), len(signature))
        self._stop()

    def _call(self, call: ToolCall) -> None:
        self._begin({"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
        self._delta(wire.InputDelta(call.arguments), len(call.arguments))

    def _begin(self, block: dict[str, Any], characters: int = 0) -> None:
        self._close()
        self._index += 1
        self._open = str(block.get("type"))
        self._add_event(wire.BlockStart(self._index, block), characters)

    def _close(self) -> None:
        """Close the open block, if there is one. Thoughts are always signed: some clients drop those that are not."""
        if self._open == "thinking":
            self._sign(carried.write({}, {}))
        elif self._open:
            self._stop()

    def _stop(self) -> None:
        self._add_event(wire.BlockStop(self._index))
        self._open = ""
        self._thought.clear()

    def _delta(self, delta: Any, characters: int) -> None:
        self._add_event(wire.BlockDelta(self._index, delta), characters)
