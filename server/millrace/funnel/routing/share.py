"""The promise of a share: of all requests so many go to the large model first.

The threshold is a quantile of the last scores. Where scores drift, tie, or do not decide alone, that misses the share,
so the quantile is moved by each request: by a step times what the share was missed by. The sum of all misses is bounded
then, whatever the scores are (Gibbs and Candès 2021, adaptive conformal inference).
"""

from msgspec import Struct

from millrace.funnel.routing.recent import Recent
from millrace.types import Tier

STEP = 0.02
SLACK = 0.2  # by which the aim may pass 0 or 1: ties and sessions that are held can keep it there for long


class ShareLoop(Struct):
    """The share that is aimed at, so that the share that is promised comes out."""

    promised: float
    aim: float | None = None  # None: at what is promised

    def threshold(self, recent: Recent) -> float:
        """Return the score from which on the large model is asked first."""
        aim = self.promised if self.aim is None or self.promised in (0, 1) else self.aim
        if not len(recent) and 0 < aim < 1:
            return recent.score_of(round(aim))  # there are no scores to compare with
        return recent.score_of(aim)

    def routed(self, tier: Tier) -> None:
        """Correct the aim by a request."""
        aim = self.promised if self.aim is None else self.aim
        aim += STEP * (self.promised - (tier is Tier.LARGE))
        self.aim = min(max(aim, -SLACK), 1 + SLACK)
