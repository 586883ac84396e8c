"""Turns of a conversation, put together from the pieces that items of the Responses API hold of them."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from millrace.types import Message, Path, Sealed, moved
from millrace.types.conversation import merged

REFERENCE = "item_reference"  # the role of a piece that stands for an item: its text is the id, its name the path


def has_references(messages: Iterable[Message]) -> bool:
    """Whether some of these are references, so that all are still pieces."""
    for message in messages:  # noqa: SIM110 - asked again and again of each request, and a generator costs more
        if message.role == REFERENCE:
            return True
    return False


def assembled(pieces: Iterable[Message]) -> tuple[Message, ...]:
    """Return the messages that pieces become."""
    messages: list[Message | _AssistantTurn] = []
    for piece in pieces:
        if piece.role == "assistant":
            _add_to_assistant(messages, piece)
        else:
            messages.append(piece)
    return tuple(
        message for one in messages for message in (one.messages() if isinstance(one, _AssistantTurn) else (one,))
    )


class _AssistantTurn:
    """An assistant's turn, collected item by item."""

    def __init__(self) -> None:
        self.pieces: list[Message] = []
        self.has_output = False  # text, a refusal or a call
        self.has_sealed = False
        self.has_calls = False

    def add(self, piece: Message) -> bool:
        """Add a piece and return True; return False if the piece begins another turn.

        After text without calls only a call continues the turn, and what says nothing but carries the provider's own
        fields. Once there is a call, everything does up to its output.
        """
        is_silent = not (piece.parts or piece.refusal or piece.reasoning)
        if self.has_output and not self.has_calls and not piece.calls and not is_silent:
            return False
        self.pieces.append(piece)
        self.has_calls = self.has_calls or bool(piece.calls)
        self.has_sealed = self.has_sealed or bool(piece.sealed)
        self.has_output = self.has_output or bool(piece.parts or piece.calls or piece.refusal)
        return True

    def messages(self) -> tuple[Message, ...]:
        """Return the turn as one message, or none if it has nothing that a provider wants back."""
        message = Message(
            role="assistant",
            parts=tuple(part for piece in self.pieces for part in piece.parts),
            calls=tuple(call for piece in self.pieces for call in piece.calls),
            own_fields=merged(piece.own_fields for piece in self.pieces),
            reasoning="".join(piece.reasoning for piece in self.pieces),
            refusal="".join(piece.refusal for piece in self.pieces),
            sealed=tuple(self._sealed()),
        ).with_unread(tuple(self._extras()))
        return (message,) if self.has_output or self.has_sealed else ()

    def _sealed(self) -> Iterator[Sealed]:
        """Yield all sealed blocks in order. One without a type stands for an item that is a piece of its own."""
        every = [one for piece in self.pieces for one in piece.sealed]
        items = {_id(one): one.fields for one in every if one.kind}
        named = {_id(one) for one in every if not one.kind}
        all_parts = sum(len(piece.parts) for piece in self.pieces)
        all_calls = sum(len(piece.calls) for piece in self.pieces)
        parts = calls = 0
        for piece in self.pieces:
            for one in piece.sealed:
                fields = one.fields if one.kind else items.get(_id(one))
                if fields is not None and not (one.kind and _id(one) in named):
                    yield replace(
                        one,
                        fields=fields,
                        parts_before=min(max(one.parts_before + parts, 0), all_parts),
                        calls_before=min(max(one.calls_before + calls, 0), all_calls),
                    )
            parts += len(piece.parts)
            calls += len(piece.calls)

    def _extras(self) -> Iterator[tuple[Path, Any]]:
        parts = calls = 0
        for piece in self.pieces:
            yield from moved(piece.unread, content=parts, tool_calls=calls)
            parts += len(piece.parts)
            calls += len(piece.calls)


def _id(sealed: Sealed) -> str:
    given = sealed.fields.get("id")
    return given if isinstance(given, str) else ""


def _add_to_assistant(messages: list[Message | _AssistantTurn], piece: Message) -> None:
    """Add a piece to the last assistant turn, or begin a new turn with it."""
    last = messages[-1] if messages else None
    if isinstance(last, _AssistantTurn) and last.add(piece):
        return
    messages.append(turn := _AssistantTurn())
    turn.add(piece)
