"""Percentiles of any number of times in bounded memory: counts in buckets that are 0.1 % wide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import frexp, ldexp

SHORTEST_S, LONGEST_S = 1e-7, 1e6  # what is outside counts as the nearer of the two
_BITS = 10
_PER_OCTAVE = 1 << _BITS  # buckets between a time and its double


@dataclass(frozen=True, slots=True)
class Spread:
    """The count, mean, percentiles and maximum of many measurements, in seconds.

    A percentile is None where no sample could lie above it: p99 needs 100 samples, p99.9 needs 1,000.
    """

    count: int
    mean: float
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    max: float


class Histogram:
    """Counts times. A percentile is off by 0.05 % at most; count, mean, least and greatest are exact."""

    __slots__ = ("_counts", "count", "greatest", "least", "sum")

    def __init__(self, times: Iterable[float] = ()) -> None:
        self.count = 0
        self.sum = 0.0
        self.least, self.greatest = float("inf"), 0.0
        self._counts: dict[int, int] = {}
        for time in times:
            self.add(time)

    def add(self, seconds: float) -> None:
        """Count a time."""
        self.count += 1
        self.sum += seconds
        self.least = min(self.least, seconds)
        self.greatest = max(self.greatest, seconds)
        mantissa, exponent = frexp(min(max(seconds, SHORTEST_S), LONGEST_S))
        bucket = (exponent << _BITS) + int(mantissa * 2 * _PER_OCTAVE)  # the second part: _PER_OCTAVE to its double
        self._counts[bucket] = self._counts.get(bucket, 0) + 1

    def merge(self, other: Histogram) -> None:
        """Count all that another histogram has counted."""
        self.count += other.count
        self.sum += other.sum
        self.least, self.greatest = min(self.least, other.least), max(self.greatest, other.greatest)
        for bucket, count in other._counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + count

    def percentile(self, permille: int) -> float | None:
        """Return the nearest-rank percentile: what `permille` thousandths do not exceed; None with too few samples."""
        if self.count * (1000 - permille) < 1000:  # noqa: PLR2004 - none could lie above it
            return None
        rank = -(-permille * self.count // 1000)
        return next(time for time, reached in self.steps() if reached >= rank)

    def steps(self) -> Iterator[tuple[float, int]]:
        """Yield each time that occurs, ascending, with how many do not exceed it."""
        reached = 0
        for bucket in sorted(self._counts):
            reached += self._counts[bucket]
            exponent, part = divmod(bucket - _PER_OCTAVE, _PER_OCTAVE)
            middle = ldexp(part + _PER_OCTAVE + 0.5, exponent - _BITS - 1)
            yield min(max(middle, self.least), self.greatest), reached

    def spread(self) -> Spread | None:
        """Return the figures of a report; None if nothing was counted."""
        if not self.count:
            return None
        p50, p90, p95, p99, p999 = (self.percentile(permille) for permille in (500, 900, 950, 990, 999))
        return Spread(self.count, self.sum / self.count, p50, p90, p95, p99, p999, self.greatest)


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """Return one histogram of all."""
    whole = Histogram()
    for one in histograms:
        whole.merge(one)
    return whole
