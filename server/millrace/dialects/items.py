"""The output items of an answer in the Responses dialect: opened with their first delta, closed when it is accepted.

An answer has at most one reasoning item and one message item; each tool call is an item of its own, and so is what
only the Responses API has, but its reasoning. That, and the blocks of other APIs, are carried by the reasoning item.
"""

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

from millrace.dialects.event_log import EventLog
from millrace.types import Api, CallPiece, OwnFields, Refusal, Sealed, Thought, ToolCall, joined
from millrace.wire import carried, responses as wire

_MESSAGE = "msg_"  # what the id of a message begins with
_NONE = cast("dict[Any, Any]", MappingProxyType({}))  # nothing can be added to it

AnyItem = Any  # a struct of `wire.Item`, or the fields of an item that is shown as it came


class _OpenPart:
    """A content part that is still growing."""

    __slots__ = ("deltas", "index")

    def __init__(self, index: int) -> None:
        self.index = index  # within its item
        self.deltas: list[str] = []

    @property
    def text(self) -> str:
        self.deltas = [joined(self.deltas)]  # joined once, so that all events share one string
        return self.deltas[0]


class _OpenCall:
    """A tool call that is still growing."""

    __slots__ = ("arguments", "first", "index", "item_id")

    def __init__(self, item_id: str, first: CallPiece) -> None:
        self.item_id = item_id
        self.first = first
        self.index = 0  # within the output
        self.arguments = _OpenPart(0)

    def item(self, status: str, arguments: str) -> wire.CallItem:
        """Return it as an item, with these arguments."""
        first = self.first
        call = ToolCall(
            id=first.id,
            name=first.name,
            arguments=arguments,
            namespace=first.namespace,
            is_custom=first.is_custom,
        )
        return wire.call_item(self.item_id, call, status)


class OutputItems:
    """The items of one answer, which adds their events to a log.

    The deltas of the text part are not kept here, since the log has them.
    With `summarised` the reasoning is the item's summary, not its content: many clients show nothing else.
    """

    __slots__ = (
        "_call_own_fields",
        "_calls",
        "_has_sealed",
        "_has_text",
        "_log",
        "_order",
        "_own_fields",
        "_reasoning",
        "_refusal",
        "_sealed",
        "_summarised",
        "_text_index",
        "_whole",
        "_whole_text",
        "message_id",
    )

    def __init__(self, response_id: str, event_log: EventLog, *, summarised: bool = False) -> None:
        self.message_id = _MESSAGE + response_id.removeprefix("resp_")
        self._log = event_log
        self._summarised = summarised
        self._order: list[str] = []  # item ids by output index
        self._text_index: int | None = None  # within its item, once there is one
        self._has_text = False  # since the last revise
        self._whole_text: str | None = None  # once it is closed, so that all events share one string
        self._refusal: _OpenPart | None = None
        self._reasoning: _OpenPart | None = None
        # Most answers have none of these, and share one that is empty.
        self._own_fields: dict[str, Any] = _NONE  # the provider's own fields, and those beside each call, by its id
        self._call_own_fields: dict[str, dict[str, Any]] = _NONE
        self._calls: dict[int, _OpenCall] = _NONE
        self._whole: dict[str, dict[str, Any]] = _NONE  # items that only the Responses API has, by id
        self._sealed: Sequence[Sealed] = ()  # of the accepted answer
        self._has_sealed = False

    @property
    def reasoning_id(self) -> str:
        """The id of the reasoning item."""
        return "rs_" + self._hexadecimal

    @property
    def _hexadecimal(self) -> str:
        return self.message_id.removeprefix(_MESSAGE)

    @property
    def whole_text(self) -> str:
        """Its text, once it is closed; empty before."""
        return self._whole_text or ""

    @property
    def has_sealed(self) -> bool:
        """Whether the answer has sealed blocks."""
        return self._has_sealed

    @property
    def is_empty(self) -> bool:
        """Whether no item is open."""
        return not self._order

    @property
    def text_at(self) -> tuple[int, int]:
        """The output index and the content index of the text part."""
        assert self._text_index is not None, "it is open"
        return self._order.index(self.message_id), self._text_index

    def text(self, deltas: list[str]) -> None:
        """Add text deltas."""
        if self._text_index is None:
            self._text_index = self._open_part(wire.OutputText(""))
        self._has_text = True
        self._log.text(deltas)

    def refusal(self, refusal: Refusal) -> None:
        """Add a delta of a refusal."""
        if self._refusal is None:
            self._refusal = _OpenPart(self._open_part(wire.OutputRefusal("")))
        self._refusal.deltas.append(refusal.text)
        at, part = self._order.index(self.message_id), self._refusal.index
        event = wire.RefusalDelta(item_id=self.message_id, delta=refusal.text, output_index=at, content_index=part)
        self._log.event(event, len(refusal.text))

    def reasoning(self, thought: Thought) -> None:
        """Add a delta of the reasoning."""
        if self._reasoning is None:
            self._reasoning = _OpenPart(0)
            at = self._add_reasoning()
            self._log.event(
                wire.SummaryPartAdded(item_id=self.reasoning_id, part=wire.SummaryText(""), output_index=at)
                if self._summarised
                else wire.PartAdded(item_id=self.reasoning_id, part=wire.ReasoningText(""), output_index=at)
            )
        self._reasoning.deltas.append(thought.text)
        at = self._order.index(self.reasoning_id)
        delta = wire.SummaryDelta if self._summarised else wire.ReasoningDelta
        self._log.event(delta(item_id=self.reasoning_id, delta=thought.text, output_index=at), len(thought.text))

    def call(self, piece: CallPiece) -> None:
        """Add a delta of a tool call."""
        call = self._calls.get(piece.index)
        if piece.own_fields:
            self._add_reasoning()
        if call is None:
            item_id = f"{'ctc' if piece.is_custom else 'fc'}_{self._hexadecimal}_{piece.index}"
            call = _OpenCall(item_id, piece)
            self._calls = _own(self._calls)
            self._calls[piece.index] = call
            call.index = self._add(item_id, call.item("in_progress", ""))
        if piece.own_fields:
            self._call_own_fields = _own(self._call_own_fields)
            self._call_own_fields.setdefault(call.first.id, {}).update(piece.own_fields)
        if piece.arguments:
            call.arguments.deltas.append(piece.arguments)
            delta = wire.InputDelta if call.first.is_custom else wire.ArgumentsDelta
            event = delta(item_id=call.item_id, delta=piece.arguments, output_index=call.index)
            self._log.event(event, len(piece.arguments))

    def sealed(self, block: Sealed) -> None:
        """Add a block that only its own API understands. Its place is known once the answer is complete."""
        self._has_sealed = True
        item_id = _item_id(block)
        if item_id is None:
            self._add_reasoning()
        elif item_id not in self._order:
            self._whole = _own(self._whole)
            self._whole[item_id] = block.fields
            self._add(item_id, block.fields, block.size)

    def own_fields(self, own_fields: OwnFields) -> None:
        """Add fields of the provider's own. They are carried by the reasoning item."""
        self._add_reasoning()
        self._own_fields = _own(self._own_fields)
        self._own_fields |= own_fields.fields

    def revise(self) -> list[str]:
        """Drop all text; return the ids of the items that had some. Items stay open for the text of another model."""
        refusal, reasoning = (bool(part and part.deltas) for part in (self._refusal, self._reasoning))
        revised = [self.message_id] * (self._has_text or refusal) + [self.reasoning_id] * reasoning
        self._has_text = False
        self._has_sealed = False
        for part in (self._refusal, self._reasoning):
            if part is not None:
                part.deltas.clear()
        return revised

    def close(self, status: str, sealed: Sequence[Sealed] = ()) -> tuple[AnyItem, ...]:
        """Add the `*.done` events of all items, and return these. An answer without any gets an empty text part.

        `sealed` are the blocks of the answer that only their own API understands.
        """
        if self.is_empty:
            self.text([])
        self._sealed = sealed
        self._whole_text = self._log.text_since(wire.Revise)
        items = self.items(status)
        for at, (item_id, item) in enumerate(zip(self._order, items, strict=True)):
            self._close(at, item_id, item)
        return items

    def items(self, status: str) -> tuple[AnyItem, ...]:
        """Return all items with what they have so far."""
        return tuple([self._item(item_id, status) for item_id in self._order])

    def _item(self, item_id: str, status: str) -> AnyItem:
        if item_id == self.message_id:
            return wire.OutputMessage(item_id, status, self._parts())
        if item_id == self.reasoning_id:
            word = carried.write(self._own_fields, self._call_own_fields, self._carried())
            item = wire.Reasoning(item_id, status, encrypted_content=word)
            if self._reasoning is not None and self._summarised:
                item.summary = (wire.SummaryText(self._reasoning.text),)
            elif self._reasoning is not None:
                item.content = (wire.ReasoningText(self._reasoning.text),)
            return item
        if item_id in self._whole:
            return self._whole[item_id]
        call = next(call for call in self._calls.values() if call.item_id == item_id)
        return call.item(status, call.arguments.text)

    def _carried(self) -> list[Sealed]:
        """Return the blocks that the reasoning item carries, with their places counted from its own.

        One that is an item of its own is only named, so that their order is known.
        """
        before = self._order[: self._order.index(self.reasoning_id)]
        parts, calls = int(self.message_id in before), sum(call.item_id in before for call in self._calls.values())
        return [
            replace(
                block,
                fields=block.fields if (item_id := _item_id(block)) is None else {"id": item_id},
                parts_before=block.parts_before - parts,
                calls_before=block.calls_before - calls,
            )
            for block in self._sealed
        ]

    def _parts(self) -> tuple[wire.Part, ...]:
        parts: list[wire.Part] = []
        if self._text_index is not None:
            text = self._log.text_since(wire.Revise) if self._whole_text is None else self._whole_text
            parts.append(wire.output_text(text))
        if self._refusal is not None:  # one of the two is part 0, the other part 1
            parts.insert(self._refusal.index, wire.OutputRefusal(self._refusal.text))
        return tuple(parts)

    def _close(self, at: int, item_id: str, item: AnyItem) -> None:
        match item:
            case wire.OutputMessage():
                for index, part in enumerate(item.content):
                    size = _length(part)
                    self._log.event(_part_done(part, item_id, at, index), repeated=size)
                    self._log.event(
                        wire.PartDone(item_id=item_id, part=part, output_index=at, content_index=index), repeated=size
                    )
            case wire.Reasoning(summary=[part]):
                size = len(part.text)
                self._log.event(wire.SummaryDone(item_id=item_id, text=part.text, output_index=at), repeated=size)
                self._log.event(wire.SummaryPartDone(item_id=item_id, part=part, output_index=at), repeated=size)
            case wire.Reasoning(content=[reasoning]):
                size = len(reasoning.text)
                self._log.event(
                    wire.ReasoningDone(item_id=item_id, text=reasoning.text, output_index=at), repeated=size
                )
                self._log.event(wire.PartDone(item_id=item_id, part=reasoning, output_index=at), repeated=size)
            case wire.FunctionCall():
                done = wire.ArgumentsDone(item_id=item_id, name=item.name, arguments=item.arguments, output_index=at)
                self._log.event(done, repeated=len(item.arguments))
            case wire.CustomCall():
                self._log.event(
                    wire.InputDone(item_id=item_id, input=item.input, output_index=at), repeated=len(item.input)
                )
        self._log.event(wire.ItemDone(item=item, output_index=at), repeated=length(item))

    def _open_part(self, part: wire.Part) -> int:
        if self.message_id not in self._order:
            self._add(self.message_id, wire.OutputMessage(self.message_id, "in_progress", ()))
        index = (self._text_index is not None) + (self._refusal is not None)
        at = self._order.index(self.message_id)
        self._log.event(wire.PartAdded(item_id=self.message_id, part=part, output_index=at, content_index=index))
        return index

    def _add_reasoning(self) -> int:
        if self.reasoning_id in self._order:
            return self._order.index(self.reasoning_id)
        return self._add(self.reasoning_id, wire.Reasoning(self.reasoning_id, "in_progress"))

    def _add(self, item_id: str, item: AnyItem, characters: int = 0) -> int:
        self._order.append(item_id)
        at = len(self._order) - 1
        self._log.event(wire.ItemAdded(item=item, output_index=at), characters)
        return at


def length(item: AnyItem) -> int:
    """Return the characters of an item's text."""
    match item:
        case wire.OutputMessage():
            return sum(map(_length, item.content))
        case wire.Reasoning():
            words = sum(len(part.text) for part in item.content) + sum(len(part.text) for part in item.summary)
            return words + (len(item.encrypted_content) if isinstance(item.encrypted_content, str) else 0)
        case wire.FunctionCall():
            return len(item.arguments)
        case wire.CustomCall():
            return len(item.input)
        case dict():
            return len(wire.encode(item))
    return 0


def _own(mapping: dict[Any, Any]) -> dict[Any, Any]:
    """Return a mapping to which something can be added."""
    return {} if mapping is _NONE else mapping


def _item_id(block: Sealed) -> str | None:
    """Return the id of a block that is shown as the item that it is; None if the reasoning item carries it."""
    item_id = block.fields.get("id")
    is_shown = block.api is Api.RESPONSES and not block.is_thought and isinstance(item_id, str)
    return item_id if is_shown else None


def _length(part: wire.Part) -> int:
    if isinstance(part, wire.OutputRefusal):
        return len(part.refusal)
    return len(part.text) + sum([memoryview(scores).nbytes for scores in part.logprobs])


def _part_done(part: wire.Part, item_id: str, at: int, index: int) -> wire.Event:
    if isinstance(part, wire.OutputText):
        return wire.TextDone(
            item_id=item_id, text=part.text, output_index=at, content_index=index, logprobs=part.logprobs
        )
    return wire.RefusalDone(item_id=item_id, refusal=part.refusal, output_index=at, content_index=index)
