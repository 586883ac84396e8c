"""Rates that were counted, with exact 95 % intervals, by threshold."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from msgspec import Struct

from millrace.evidence import intervals

LEVEL = 0.95


class Rate(Struct, frozen=True):
    """So many of so many, and the ends of the interval, all between 0 and 1."""

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share; 0 of none."""
        return self.count / self.of if self.of else 0.0


def rate(count: int, of: int) -> Rate:
    """Return a rate with its interval."""
    tail = (1 - LEVEL) / 2
    return Rate(count, of, intervals.lower(count, of, tail), intervals.upper(count, of, tail))


def shown(each: Rate) -> str:
    """Return a rate in words: percent, and in brackets the count and the interval."""
    if not each.of:
        return "-"
    return f"{100 * each.value:.1f} % ({each.count}/{each.of}; {100 * each.low:.1f}-{100 * each.high:.1f})"


class Point(Struct, frozen=True):
    """What a threshold would serve: of the pairs with one answer, of the others; and the wrong ones of all served."""

    threshold: float
    hits: Rate
    wrong: Rate
    wrong_of_served: Rate


class Scores:
    """The scores of pairs: those that one answer does for, and the others. None: served at no threshold."""

    def __init__(self, same: Sequence[float | None], other: Sequence[float | None]) -> None:
        self._same, self._other = (sorted(score for score in scores if score is not None) for scores in (same, other))
        self._same_count, self._other_count = len(same), len(other)

    def at(self, threshold: float) -> Point:
        """Return what a threshold would do."""
        hits = len(self._same) - bisect_left(self._same, threshold)
        wrong = len(self._other) - bisect_left(self._other, threshold)
        return Point(threshold, rate(hits, self._same_count), rate(wrong, self._other_count), rate(wrong, hits + wrong))

    def least(self, max_wrong: float, decimals: int = 4) -> Point | None:
        """Return the lowest threshold at which even the upper end of the wrong rate is within a bound; None: none is.

        It is no lower than the lowest score of a hit: below that, these pairs show nothing to be gained.
        """
        counts = range(self._other_count + 1)
        most = bisect_right(counts, max_wrong, key=lambda count: rate(count, self._other_count).high) - 1
        if most < 0:
            return None
        step = 10.0**-decimals
        threshold = round(min(self._same, default=1.0) - step / 2, decimals)
        if len(self._other) > most:
            passed = self._other[len(self._other) - most - 1]  # at this score there is one more than may be
            while threshold <= passed:
                threshold = round(max(threshold, passed) + step, decimals)
        return self.at(max(0.0, threshold)) if threshold <= 1 else None


def needed(max_wrong: float) -> int:
    """Return how many pairs, none of them wrong, show that a wrong rate is within a bound."""
    return math.ceil(math.log((1 - LEVEL) / 2) / math.log1p(-max_wrong))
