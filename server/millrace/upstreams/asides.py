"""The words of one read in the order in which they were said: text, and what stands between it. No I/O."""

from collections.abc import Iterator
from dataclasses import replace

from millrace.types import Aside, CallPiece, Refusal, Thought

Placed = tuple[int, Aside]  # how many of the read's text deltas were said before it


def in_order(deltas: list[str], beside: list[Placed]) -> Iterator[list[str] | Aside]:
    """Yield runs of text deltas, and between them the asides, neighbours of one kind as one."""
    passed_on = 0
    for at, aside in _merged(beside):
        if at > passed_on:
            yield deltas[passed_on:at]
            passed_on = at
        yield aside
    if passed_on < len(deltas):
        yield deltas[passed_on:]


def _merged(beside: list[Placed]) -> Iterator[Placed]:
    """Join what follows each other: a read may bring a burst of a model's thoughts or of one call's arguments."""
    run: list[Aside] = []
    run_at = 0
    for at, aside in beside:
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
    return type(first) is type(next_)


def _joined(run: list[Aside]) -> Aside:
    first, *rest = run
    if not rest:
        return first
    match first:
        case CallPiece():
            return replace(first, arguments="".join(piece.arguments for piece in run if isinstance(piece, CallPiece)))
        case Thought():
            return Thought("".join(thought.text for thought in run if isinstance(thought, Thought)))
        case Refusal():
            return Refusal("".join(words.text for words in run if isinstance(words, Refusal)))
