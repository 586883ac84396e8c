"""Merges the text deltas and the asides of one socket read in the order in which the model sent them. No I/O."""

from collections.abc import Iterator

from msgspec.structs import replace

from millrace.types import Aside, CallPiece, OwnFields, Refusal, Sealed, Thought
from millrace.types.conversation import merged

Placed = tuple[int, Aside]  # number of the read's text deltas before it, and the aside


def in_order(deltas: list[str], placed: list[Placed]) -> Iterator[list[str] | Aside]:
    """Yield runs of text deltas and, between them, the asides. Adjacent asides of one kind are merged."""
    yielded = 0
    for at, aside in _merged(placed):
        if at > yielded:
            yield deltas[yielded:at]
            yielded = at
        yield aside
    if yielded < len(deltas):
        yield deltas[yielded:]


def _merged(placed: list[Placed]) -> Iterator[Placed]:
    """Merge adjacent asides of one kind, since a read may bring a burst of reasoning or of one call's arguments."""
    run: list[Aside] = []
    run_at = 0
    for at, aside in placed:
        if run and (at != run_at or not _continues(run[0], aside)):
            yield run_at, _joined(run)
            run = []
        run_at = at
        run.append(aside)
    if run:
        yield run_at, _joined(run)


def _continues(first: Aside, next_: Aside) -> bool:
    if isinstance(first, CallPiece):
        return isinstance(next_, CallPiece) and next_.index == first.index
    return type(first) is type(next_) and not isinstance(first, Sealed)


def _joined(run: list[Aside]) -> Aside:
    first, *rest = run
    if not rest:
        return first
    match first:
        case CallPiece():
            pieces = [piece for piece in run if isinstance(piece, CallPiece)]
            arguments = "".join(piece.arguments for piece in pieces)
            return replace(first, arguments=arguments, own_fields=merged(piece.own_fields for piece in pieces))
        case Thought():
            return Thought("".join(thought.text for thought in run if isinstance(thought, Thought)))
        case Refusal():
            return Refusal("".join(refusal.text for refusal in run if isinstance(refusal, Refusal)))
        case Sealed():
            raise AssertionError("each is a block of its own")
        case OwnFields():
            return OwnFields(merged(own_fields.fields for own_fields in run if isinstance(own_fields, OwnFields)))
