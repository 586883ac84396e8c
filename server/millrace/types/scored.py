"""Text with the log-probabilities of its tokens, for requests that ask for them."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Self

import msgspec


class Scored(str):
    """A text delta with its log-probabilities. It goes where text goes, so the two are never parted.

    `scores` is JSON as the provider sent it: the elements of an array, one a token, without the brackets.
    """

    __slots__ = ("scores",)
    scores: bytes

    def __new__(cls, text: str, scores: bytes) -> Self:
        """Return the delta."""
        scored = super().__new__(cls, text)
        scored.scores = scores
        return scored


def joined(deltas: Sequence[str]) -> str:
    """Return text deltas as one, with the log-probabilities of all."""
    text = "".join(deltas)
    if {*map(type, deltas)} <= {str}:
        return text
    return Scored(text, b",".join(delta.scores for delta in deltas if isinstance(delta, Scored) and delta.scores))


def scores_of(text: str) -> bytes:
    """Return the log-probabilities of a text; empty if it has none."""
    return text.scores if isinstance(text, Scored) else b""


def scores_size(deltas: Iterable[str]) -> int:
    """Return the bytes of the log-probabilities of text deltas."""
    return sum(map(len, map(scores_of, deltas)))


def cut(text: str, size: int) -> str:
    """Return the first `size` characters of a delta, with the log-probabilities of the tokens that fit whole."""
    if not isinstance(text, Scored):
        return text[:size]
    scores = msgspec.json.decode(b"[%b]" % text.scores)
    ends = [*accumulate(len(str(score.get("token", ""))) for score in scores)]
    return Scored(text[:size], msgspec.json.encode(scores[: bisect_right(ends, size)])[1:-1])
