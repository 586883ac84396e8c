"""The output items of an answer as one dialect shows them: opened with their first words, closed when they stand.

An answer has at most one item with reasoning and one with words; each tool call is an item of its own.
"""

from collections.abc import Callable
from typing import Any, Protocol

from millrace.types import CallPiece, Refusal, Thought
from millrace.wire import responses as wire


class AddEvent(Protocol):
    """Takes an event, and how many characters of somebody's it holds."""

    def __call__(self, event: Any, words: int = 0) -> None: ...  # noqa: D102 - said above


class _Words:
    """A content part that grows."""

    def __init__(self, index: int) -> None:
        self.index = index  # within its item
        self.words: list[str] = []

    @property
    def text(self) -> str:
        self.words = ["".join(self.words)]  # all who ask hold the same one
        return self.words[0]


class _Call:
    """A tool call that grows."""

    def __init__(self, item: wire.FunctionCall, index: int) -> None:
        self.item = item
        self.index = index  # within the output
        self.arguments = _Words(0)


class OutputItems:
    """The items of one answer. `tell` takes each event, `say` the words of the text part, in order with them."""

    def __init__(self, response_id: str, add_event: AddEvent, add_text: Callable[[list[str]], None]) -> None:
        hexadecimal = response_id.removeprefix("resp_")
        self.message_id = "msg_" + hexadecimal
        self.reasoning_id = "rs_" + hexadecimal
        self._call_id = "fc_" + hexadecimal
        self._add_event = add_event
        self._add_text = add_text
        self._order: list[str] = []  # item ids by output index
        self._text: _Words | None = None
        self._refusal: _Words | None = None
        self._thoughts: _Words | None = None
        self._calls: dict[int, _Call] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been opened."""
        return not self._order

    @property
    def text_at(self) -> tuple[int, int]:
        """Where the text part stands: output index, content index."""
        assert self._text is not None, "it is open"
        return self._order.index(self.message_id), self._text.index

    def text(self, deltas: list[str]) -> None:
        """Add words of the answer."""
        if self._text is None:
            self._text = self._open_part(wire.OutputText(""))
        self._text.words += deltas
        self._add_text(deltas)

    def refuse(self, refusal: Refusal) -> None:
        """Add words of a refusal."""
        if self._refusal is None:
            self._refusal = self._open_part(wire.OutputRefusal(""))
        self._refusal.words.append(refusal.text)
        at, part = self._order.index(self.message_id), self._refusal.index
        event = wire.RefusalDelta(item_id=self.message_id, delta=refusal.text, output_index=at, content_index=part)
        self._add_event(event, len(refusal.text))

    def think(self, thought: Thought) -> None:
        """Add words of the reasoning."""
        if self._thoughts is None:
            self._thoughts = _Words(0)
            at = self._add(self.reasoning_id, wire.Reasoning(self.reasoning_id, "in_progress"))
            self._add_event(wire.PartAdded(item_id=self.reasoning_id, part=wire.ReasoningText(""), output_index=at))
        self._thoughts.words.append(thought.text)
        at = self._order.index(self.reasoning_id)
        event = wire.ReasoningDelta(item_id=self.reasoning_id, delta=thought.text, output_index=at)
        self._add_event(event, len(thought.text))

    def call(self, piece: CallPiece) -> None:
        """Add a tool call, or more of one."""
        call = self._calls.get(piece.index)
        if call is None:
            item_id = f"{self._call_id}_{piece.index}"
            item = wire.FunctionCall(item_id, piece.id, piece.name, "", "in_progress")
            call = self._calls[piece.index] = _Call(item, self._add(item_id, item))
        if piece.arguments:
            call.arguments.words.append(piece.arguments)
            event = wire.ArgumentsDelta(item_id=call.item.id, delta=piece.arguments, output_index=call.index)
            self._add_event(event, len(piece.arguments))

    def take_back(self) -> list[str]:
        """Forget all words; the items stay open for those of another model. Return the ids of those that had some."""
        grown = {self.message_id: [self._text, self._refusal], self.reasoning_id: [self._thoughts]}
        taken = [item_id for item_id, parts in grown.items() if any(part and part.words for part in parts)]
        for part in (self._text, self._refusal, self._thoughts):
            if part is not None:
                part.words.clear()
        return taken

    def close(self, status: str) -> None:
        """Say of each item that it stands."""
        if self.is_empty:
            self.text([])
        for at, (item_id, item) in enumerate(zip(self._order, self.items(status), strict=True)):
            self._close(at, item_id, item)

    def items(self, status: str) -> list[wire.Item]:
        """Return the items as they are."""
        return [self._item(item_id, status) for item_id in self._order]

    def _item(self, item_id: str, status: str) -> wire.Item:
        if item_id == self.message_id:
            return wire.OutputMessage(item_id, status, self._parts())
        if item_id == self.reasoning_id:
            assert self._thoughts is not None, "it is open"
            return wire.Reasoning(item_id, status, [wire.ReasoningText(self._thoughts.text)])
        call = next(call for call in self._calls.values() if call.item.id == item_id)
        return wire.FunctionCall(item_id, call.item.call_id, call.item.name, call.arguments.text, status)

    def _parts(self) -> list[wire.Part]:
        parts: list[tuple[int, wire.Part]] = []
        if self._text is not None:
            parts.append((self._text.index, wire.OutputText(self._text.text)))
        if self._refusal is not None:
            parts.append((self._refusal.index, wire.OutputRefusal(self._refusal.text)))
        return [part for _, part in sorted(parts, key=lambda placed: placed[0])]

    def _close(self, at: int, item_id: str, item: wire.Item) -> None:
        match item:
            case wire.OutputMessage():
                for index, part in enumerate(item.content):
                    size = _length(part)
                    self._add_event(_words_done(part, item_id, at, index), size)
                    self._add_event(
                        wire.PartDone(item_id=item_id, part=part, output_index=at, content_index=index), size
                    )
            case wire.Reasoning():
                (words,) = item.content
                self._add_event(wire.ReasoningDone(item_id=item_id, text=words.text, output_index=at), len(words.text))
                self._add_event(wire.PartDone(item_id=item_id, part=words, output_index=at), len(words.text))
            case wire.FunctionCall():
                done = wire.ArgumentsDone(item_id=item_id, name=item.name, arguments=item.arguments, output_index=at)
                self._add_event(done, len(item.arguments))
        self._add_event(wire.ItemDone(item=item, output_index=at), length(item))

    def _open_part(self, part: wire.Part) -> _Words:
        if self.message_id not in self._order:
            self._add(self.message_id, wire.OutputMessage(self.message_id, "in_progress", []))
        words = _Words(sum(other is not None for other in (self._text, self._refusal)))
        at = self._order.index(self.message_id)
        self._add_event(wire.PartAdded(item_id=self.message_id, part=part, output_index=at, content_index=words.index))
        return words

    def _add(self, item_id: str, item: wire.Item) -> int:
        self._order.append(item_id)
        at = len(self._order) - 1
        self._add_event(wire.ItemAdded(item=item, output_index=at))
        return at


def length(item: wire.Item) -> int:
    """Return the characters of an item's words."""
    match item:
        case wire.OutputMessage():
            return sum(map(_length, item.content))
        case wire.Reasoning():
            return sum(len(words.text) for words in item.content)
        case wire.FunctionCall():
            return len(item.arguments)


def _length(part: wire.Part) -> int:
    return len(part.text if isinstance(part, wire.OutputText) else part.refusal)


def _words_done(part: wire.Part, item_id: str, at: int, index: int) -> wire.Event:
    if isinstance(part, wire.OutputText):
        return wire.TextDone(item_id=item_id, text=part.text, output_index=at, content_index=index)
    return wire.RefusalDone(item_id=item_id, refusal=part.refusal, output_index=at, content_index=index)
