"""What it is worth to a session that the large model's provider has its history in a prompt cache.

To ask the large model costs more where its cache is cold, and whoever asks it keeps the cache warm for the turns after.
So a turn's price depends on what later turns are going to want, and what they want on what it costs them. That is
solved by value iteration over the age of the cache, counted in turns. A session does one step of it at each of its
turns, so that it follows a history that grows and a pace that changes; one step takes some ten microseconds.
"""

import math
from collections.abc import Callable

from millrace.funnel.prefixes import KEPT_S as CACHED_S

AGES = 6  # turns since the last use that are told apart
SPREAD = 3.4  # how sharply the time of a next turn is known: of gaps that scatter by a factor of about 1.6

Gained = Callable[[float], float]  # dollars that a turn is expected to gain if the large model costs it so much more


class Warmth:
    """The dollars that a session is still expected to gain, by the age of the large model's cache."""

    __slots__ = ("ages", "cold")

    def __init__(self) -> None:
        self.cold = 0.0
        self.ages = [0.0] * AGES  # at a turn for which it is warm, so many turns after its last use: one, two and so on

    def after(self, age_s: float, gap_s: float) -> float:
        """Return what is expected from the next turn on, `gap_s` seconds from now, of a cache used `age_s` ago."""
        if age_s >= CACHED_S:
            return self.cold
        turns = min(max(round((age_s + gap_s) / gap_s), 1), AGES)
        return self.cold + _kept(gap_s, CACHED_S - age_s) * (self.ages[turns - 1] - self.cold)

    def step(self, gap_s: float, warm: float, cold: float, gained: Gained, goes_on: float) -> None:
        """Go on by a step.

        `warm` and `cold` are the dollars that the large model costs more for a turn, by its cache; `goes_on` is how
        likely one more turn follows.
        """
        used = self.after(0.0, gap_s)

        def worth(stays: float, costs: float) -> float:
            return goes_on * stays + gained(costs - goes_on * (used - stays))

        ages = [worth(self.after(turn * gap_s, gap_s), warm) for turn in range(1, AGES + 1)]
        self.cold, self.ages = worth(self.cold, cold), ages


def of_scores(mean: float, deviation: float, dollars: float) -> Gained:
    """Return what turns gain whose scores are spread like that, at so many dollars for a gain of 1."""

    def gained(costs: float) -> float:
        away = mean - costs / dollars
        if deviation <= 0:
            return max(away, 0.0) * dollars
        sigmas = away / deviation
        reached = (1 + math.erf(sigmas / math.sqrt(2))) / 2
        density = math.exp(-sigmas * sigmas / 2) / math.sqrt(2 * math.pi)
        return (away * reached + deviation * density) * dollars

    return gained


def of_wants(wanted: float) -> Gained:
    """Return what is gained where a part of all turns must have the large model, and others take it if it saves."""
    return lambda costs: -wanted * costs + (1 - wanted) * max(-costs, 0.0)


def _kept(gap_s: float, left_s: float) -> float:
    """Return how likely the next turn comes within so many seconds, about, if gaps are so long."""
    return 1 / (1 + math.pow(gap_s / left_s, SPREAD))
