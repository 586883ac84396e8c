"""Counters and histograms as plain dicts: adding to one takes some hundred nanoseconds."""

from bisect import bisect_left
from collections.abc import Iterable
from operator import add

import msgspec

from millrace.telemetry.families import NAMES, SAME, Family, Kind

MOST_SERIES = 2000  # of one metric; what comes after them is counted as one, should a label have more values
OTHER = "other"

Labels = tuple[str, ...]


class Histogram:
    """How many values were up to each bound."""

    __slots__ = ("counts", "sum")

    def __init__(self, bounds: int) -> None:
        self.counts = [0] * (bounds + 1)  # the last one is above all bounds
        self.sum = 0.0

    def add_one(self, at: int, value: float) -> None:
        """Count one value that is up to the bound of this number."""
        self.counts[at] += 1
        self.sum += value

    def add(self, other: "Histogram") -> None:
        """Add what another one has counted."""
        self.counts = [*map(add, self.counts, other.counts)]
        self.sum += other.sum


class Numbers:
    """What was counted."""

    def __init__(self) -> None:
        self.counts: dict[Family, dict[Labels, float]] = {}
        self.histograms: dict[Family, dict[Labels, Histogram]] = {}

    def count(self, family: Family, labels: Labels = (), amount: float = 1) -> None:
        """Add to a counter."""
        series = self.counts.get(family)
        if series is None:
            series = self.counts[family] = {}
        if labels in series:
            series[labels] += amount
        else:
            labels = _bounded(labels, len(series))
            series[labels] = series.get(labels, 0) + amount

    def observe(self, family: Family, labels: Labels, value: float) -> None:
        """Add a value to a histogram."""
        series = self.histograms.get(family)
        if series is None:
            series = self.histograms[family] = {}
        found = series.get(labels)
        if found is None:
            found = series.setdefault(_bounded(labels, len(series)), Histogram(len(family.bounds)))
        found.counts[bisect_left(family.bounds, value)] += 1
        found.sum += value

    def join(self, family: Family, labels: Labels, histogram: Histogram) -> None:
        """Add a histogram that was counted elsewhere, if it holds anything."""
        if any(histogram.counts):
            mine = self.histograms.setdefault(family, {})
            mine.setdefault(_bounded(labels, len(mine)), Histogram(len(family.bounds))).add(histogram)

    def add(self, other: "Numbers") -> None:
        """Add what others have counted."""
        for family, series in other.counts.copy().items():
            for labels, amount in series.copy().items():
                self.count(family, labels, amount)
        for family, histograms in other.histograms.copy().items():
            for labels, histogram in histograms.copy().items():
                self.join(family, labels, histogram)

    def add_sibling(self, other: "Numbers", *, is_gone: bool = False) -> None:
        """Add what another worker of the server has counted. Of one that is gone only what it has counted remains."""
        kept = Numbers()
        kept.histograms = other.histograms
        for family, series in other.counts.items():
            if family in SAME:
                mine = {} if is_gone else self.counts.setdefault(family, {})
                mine.update({labels: max(amount, mine.get(labels, amount)) for labels, amount in series.items()})
            elif not (is_gone and family.kind is Kind.GAUGE):
                kept.counts[family] = series
        self.add(kept)

    def packed(self) -> bytes:
        """Return it for another worker, as JSON."""
        counts = {family.name: [*series.items()] for family, series in self.counts.items()}
        histograms = {
            family.name: [(labels, each.counts, each.sum) for labels, each in series.items()]
            for family, series in self.histograms.items()
        }
        return msgspec.json.encode(_Packed(counts, histograms))


class _Packed(msgspec.Struct):
    counts: dict[str, list[tuple[Labels, float]]]
    histograms: dict[str, list[tuple[Labels, list[int], float]]]


def unpacked(packed: bytes) -> Numbers:
    """Return what another worker has counted. What this version does not know is left out."""
    read, found = msgspec.json.decode(packed, type=_Packed), Numbers()
    for name, series in read.counts.items():
        if name in NAMES:
            found.counts[NAMES[name]] = dict(series)
    for name, histograms in read.histograms.items():
        for labels, counts, sum_ in histograms:
            family = NAMES.get(name)
            if family is not None and len(counts) == len(family.bounds) + 1:
                histogram = Histogram(len(family.bounds))
                histogram.counts, histogram.sum = counts, sum_
                found.join(family, labels, histogram)
    return found


def total(numbers: Iterable[Numbers]) -> Numbers:
    """Return what all have counted together."""
    found = Numbers()
    for each in numbers:
        found.add(each)
    return found


def _bounded(labels: Labels, series: int) -> Labels:
    return labels if series < MOST_SERIES else (OTHER,) * len(labels)
