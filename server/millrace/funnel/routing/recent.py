"""The last requests of one place: their scores in order, and how many of them the large model was asked first for."""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence

from millrace.types import Tier

LAST = 500  # requests: a share of them is known to about 2 points


class Recent:
    """A running quantile of the scores of the last requests. A step costs a few microseconds."""

    def __init__(self, requests: Sequence[tuple[float, bool]] = ()) -> None:
        """`requests` are scores, and whether the large model was asked first; the oldest one first."""
        self._requests = deque(requests, LAST)
        self._ordered = sorted(score for score, _ in self._requests)
        self._large = sum(large for _, large in self._requests)

    @property
    def requests(self) -> list[tuple[float, bool]]:
        """The last requests, the oldest one first."""
        return list(self._requests)

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, score: float, tier: Tier) -> None:
        """Add a request. The oldest one is forgotten."""
        if len(self._requests) == LAST:
            oldest, was_large = self._requests.popleft()
            del self._ordered[bisect_left(self._ordered, oldest)]
            self._large -= was_large
        self._requests.append((score, tier is Tier.LARGE))
        insort(self._ordered, score)
        self._large += tier is Tier.LARGE

    @property
    def large_share(self) -> float:
        """The share of the last requests that the large model was asked first for; 0 of none."""
        return self._large / len(self._requests) if self._requests else 0.0

    def rank(self, score: float) -> float:
        """Return the share of the last requests whose score is lower."""
        return bisect_left(self._ordered, score) / len(self._ordered) if self._ordered else 0.0

    def score_of(self, share: float) -> float:
        """Return the score that so large a share of the last requests has, or a higher one.

        A share of 0 or less is infinite, one of 1 or more minus infinite, so that no later request reaches it, or each.
        """
        if share <= 0 or (share < 1 and not self._ordered):
            return math.inf
        if share >= 1:
            return -math.inf
        count = round(share * len(self._ordered))
        return self._ordered[-count] if count else math.nextafter(self._ordered[-1], math.inf)
