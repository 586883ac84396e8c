"""Adds up what became of requests, or would have. What is known is exact, what was estimated has its variance."""

import math
from collections import Counter

from msgspec import Struct, field

from millrace.accounts.comparable import Estimate
from millrace.types import Tier
from millrace.wire import replay as wire

NANO = 10**9
BOUND = 1.96  # standard deviations on each side hold 95 %


class Figures(Struct):
    """Of one way that the requests went."""

    known: int = 0  # nanodollars
    estimated: float = 0.0
    variance: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    first: Counter[Tier] = field(default_factory=Counter)
    escalated: float = 0.0
    small_answers: float = 0.0
    answers: int = 0
    wrong_hits: float = 0.0
    _shared: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)  # requests, variance of the mean

    @property
    def cost(self) -> float:
        """Nanodollars."""
        return self.known + self.estimated

    def estimate(self, found: Estimate, share: float = 1.0) -> None:
        """Add what a call would cost that comes with a chance of `share`."""
        self.estimated += share * found.value
        self.variance += share * found.variance + share * (1 - share) * found.value**2
        if found.group is not None:
            requests, variance = self._shared.get(found.group, (0.0, found.mean_variance))
            self._shared[found.group] = requests + share, variance

    def shown(self, requests: int, small_wrong: float | None, doubt: float = 0.0) -> wire.ShownFigures:
        """Return the figures. `small_wrong` is how often answers of the small model are worse than the large one's.

        `doubt` is the standard deviation, as a part of the cost, of what no single request tells.
        """
        cost = self.cost
        variance = self.variance + sum(count**2 * of_mean for count, of_mean in self._shared.values())
        variance += (doubt * cost) ** 2
        margin = BOUND * math.sqrt(variance)
        hits = self.kinds["exact"] + self.kinds["semantic"] + self.kinds["joined"]
        routed = self.first.total()
        quality = None
        if small_wrong is not None and self.answers:
            quality = 1 - (self.wrong_hits + self.small_answers * small_wrong) / self.answers
        return wire.ShownFigures(
            cost_usd=cost / NANO,
            low_usd=max(0.0 if doubt else self.known, cost - margin) / NANO,
            high_usd=(cost + margin) / NANO,
            estimated_usd=self.estimated / NANO,
            exact=self.kinds["exact"],
            semantic=self.kinds["semantic"],
            joined=self.kinds["joined"],
            hit_rate=hits / requests if requests else 0.0,
            small_first=self.first[Tier.SMALL],
            large_first=self.first[Tier.LARGE],
            large_share=self.first[Tier.LARGE] / routed if routed else 0.0,
            escalated=self.escalated,
            wrong_hits=self.wrong_hits,
            quality=quality,
        )
