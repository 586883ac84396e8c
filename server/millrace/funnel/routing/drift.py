"""Whether the checks fail more of the small model's answers than they did: it may have become worse.

A cumulative sum of log-likelihood ratios of a higher rate against the rate so far (Page 1954). Requests with higher
scores fail more often, and which of them are asked of the small model changes with the threshold: so there is one rate
for each tenth of the ranks.
"""

import math

from msgspec import Struct, field

TENTHS = 10
LEAST, LEAST_OF_TENTH = 200, 50  # answers, in all and of a tenth, before which nothing is compared
MEMORY = 5000  # answers of a tenth that its rate is a mean of, at most
WORSE = 1.6  # times the odds so far: the least that is looked for
WARNS, ALARMS = 2.0, 8.0  # of the sum: from where on the promise is tightened, and where nothing known holds any more
_PRIOR = 5.0  # answers that the rate of all stands for in that of a tenth


class Drift(Struct):
    """The rates so far, and the sum."""

    answers: list[float] = field(default_factory=lambda: [0.0] * TENTHS)
    failed: list[float] = field(default_factory=lambda: [0.0] * TENTHS)
    excess: float = 0.0
    rate: float = 0.0  # of about the last hundred answers

    @property
    def total(self) -> float:
        """The answers that were judged."""
        return sum(self.answers)

    @property
    def usual(self) -> float:
        """The rate so far."""
        return sum(self.failed) / max(self.total, 1.0)

    @property
    def has_risen(self) -> bool:
        """Whether the rate is higher than it was, for sure."""
        return self.excess >= ALARMS

    @property
    def trust(self) -> float:
        """How much of what was known may still be relied on: from 1, all of it, to 0, nothing."""
        return 1 - min(max((self.excess - WARNS) / (ALARMS - WARNS), 0.0), 1.0)

    def judged(self, rank: float, *, failed: bool) -> None:
        """Count the verdict on an answer of the small model."""
        tenth = min(int(rank * TENTHS), TENTHS - 1)
        total = self.total
        self.rate += (failed - self.rate) / min(total + 1, 100.0)
        if total >= LEAST and self.answers[tenth] >= LEAST_OF_TENTH:
            usual = (self.failed[tenth] + _PRIOR * self.usual) / (self.answers[tenth] + _PRIOR)
            usual = min(max(usual, 0.005), 0.9)
            worse = usual * WORSE / (1 - usual + usual * WORSE)
            ratio = math.log(worse / usual) if failed else math.log((1 - worse) / (1 - usual))
            self.excess = max(0.0, self.excess + ratio)
        self.answers[tenth] += 1
        self.failed[tenth] += failed
        if self.answers[tenth] > MEMORY:
            self.failed[tenth] *= MEMORY / self.answers[tenth]
            self.answers[tenth] = MEMORY
