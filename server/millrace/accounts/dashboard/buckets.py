"""Histograms of whole numbers: buckets of 2 % width, so that a percentile is within 1 % of the exact one.

Which bucket a number is in only grows with the number. So the bucket in which a percentile is found is that of the
exact percentile, however many histograms were added up.
"""

import math
from collections.abc import Iterator, Mapping

STEP = math.log(1.02)

Histogram = Mapping[int, int]  # how many numbers are in a bucket


def bucket(number: int) -> int:
    """Return the bucket of a number; all that are not above 0 are in the first one."""
    return 0 if number <= 0 else 1 + math.floor(math.log(number) / STEP)


def middle(at: int) -> float:
    """Return what stands for all numbers of a bucket."""
    return 0.0 if at == 0 else math.exp((at - 0.5) * STEP)


def percentiles(histogram: Histogram, *shares: float) -> Iterator[float | None]:
    """Yield what stands for each percentile, by nearest rank; None of nothing. `shares` go up."""
    total, seen, buckets = sum(histogram.values()), 0, iter(sorted(histogram.items()))
    at = 0
    for share in shares:
        if not total:
            yield None
            continue
        rank = max(1, math.ceil(share * total))
        while seen < rank:
            at, count = next(buckets)
            seen += count
        yield middle(at)
