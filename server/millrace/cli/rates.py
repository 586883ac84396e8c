"""Rates that were counted, with exact 95 % intervals (Clopper and Pearson 1934), by threshold.

The ends of such an interval are quantiles of beta distributions. These are found by bisection on the regularised
incomplete beta function, which is computed by its continued fraction (DLMF 8.17.22).
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95
_TINY, _ENOUGH = 1e-300, 1e-12
_STEPS, _HALVINGS = 500, 60


@dataclass(frozen=True, slots=True)
class Rate:
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
    low = 0.0 if count == 0 else _quantile(tail, count, of - count + 1)
    high = 1.0 if count == of else _quantile(1 - tail, count + 1, of - count)
    return Rate(count, of, low, high)


@dataclass(frozen=True, slots=True)
class Point:
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


def _quantile(share: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _incomplete_beta(middle, a, b) < share else (low, middle)
    return (low + high) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the share of a beta distribution that is below x."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):  # there the fraction of the other side converges faster
        return 1 - front * _fraction(1 - x, b, a) / b
    return front * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction by Lentz's method."""
    c, d = 1.0, _away_from_zero(1 - (a + b) * x / (a + 1))
    d = 1 / d
    value = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            change = c * d
            value *= change
        if abs(change - 1) < _ENOUGH:
            break
    return value


def _away_from_zero(number: float) -> float:
    return number if abs(number) > _TINY else _TINY
