"""What the turns before say of a turn's score: hard turns come in runs, or they do not.

The gain that is expected of a turn is its score, and a part of what the turns before it were above or below the mean.
How large a part is learned of each tenant: it is the correlation of the scores of two turns in a row.
"""

from msgspec import Struct

ASSUMED = 100.0  # turns for which scores are taken not to follow each other
LAST = 2000.0  # turns that count
MOST = 0.4  # that is carried on: sessions that differ as a whole should not be told apart by more than their scores


class Run(Struct):
    """What is carried on in one session."""

    away: float | None = None  # by how much the score of its last turn differed from the mean
    carried: float = 0.0  # the same, with what earlier ones said of it


class Runs(Struct):
    """How far scores follow each other. A step takes about a microsecond."""

    mean: float = 0.0  # of all scores
    count: float = 0.0
    square: float = 0.0  # of what they differ by from the mean: a mean
    product: float = 0.0  # of what two turns in a row differ by: a sum
    turns: float = ASSUMED  # that it is of

    @property
    def follows(self) -> float:
        """How much of what a turn differs by is expected of the next one: the correlation, from 0 to `MOST`."""
        return min(max(self.product / self.turns / self.square, 0.0), MOST) if self.square > 0 else 0.0

    def expected(self, run: Run, score: float) -> float:
        """Return what is expected of a turn with this score, and count it."""
        expected = score + self.follows * run.carried
        self.count = min(self.count + 1, LAST)
        self.mean += (score - self.mean) / self.count
        away = score - self.mean
        self.square += (away * away - self.square) / self.count
        if run.away is not None:
            self.product += run.away * away
            self.turns += 1
            if self.turns > LAST:
                self.product, self.turns = self.product / 2, self.turns / 2
        run.away, run.carried = away, expected - self.mean
        return expected
