"""How good a score is at telling which requests need the large model: quality over the share that it is asked for.

The measures are those of RouteLLM (Ong et al. 2024), at full resolution instead of ten bins. PGR, the performance gap
recovered, is 0 with the small model alone and 1 with the large one alone. APGR is its mean over all shares of large
calls: 0.5 for a random order. CPT(x) is the least share of large calls at which PGR is x.

Requests of equal score are taken as if in random order. Intervals are percentiles of the bootstrap (Efron 1979) over
requests. They hold for the score as it is; that another set of labels would have taught another one is not in them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

DRAWS = 1_000
LEVEL = 0.95
SEED = 15  # of the draws: the same file always gives the same intervals
ROUNDING = 1e-9  # of sums

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class Interval(Struct, frozen=True):
    """An estimate, and the ends of its interval. NaN: it does not exist, as where no quality is lost."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """Quality, from 0 to 1, at each share of requests that the large model answers, those of the highest score first.

    Both rise from the share 0 to the share 1, and are linear between two points.
    """

    shares: Floats
    quality: Floats

    @property
    def small(self) -> float:
        """Quality of the small model alone."""
        return float(self.quality[0])

    @property
    def large(self) -> float:
        """Quality of the large model alone."""
        return float(self.quality[-1])

    @cached_property
    def recovered(self) -> Floats:
        """PGR at each share; NaN if the large model is no better than the small one."""
        gap = self.large - self.small
        return (self.quality - self.small) / gap if gap > 0 else np.full_like(self.quality, np.nan)

    @property
    def apgr(self) -> float:
        """The area under PGR."""
        return float(np.trapezoid(self.recovered, self.shares))

    def cpt(self, recovered: float) -> float:
        """Return the least share of large calls at which PGR is `recovered`; NaN if there is none."""
        return self._least(self.recovered, recovered)

    def share_for(self, quality: float) -> float:
        """Return the least share at which quality is so much; NaN if there is none."""
        return self._least(self.quality, quality)

    def at(self, share: float) -> float:
        """Return the quality at a share."""
        return float(np.interp(share, self.shares, self.quality))

    def _least(self, rising: Floats, wanted: float) -> float:
        reached = np.flatnonzero(rising >= wanted - ROUNDING)
        if not len(reached):
            return float("nan")
        at = int(reached[0])
        if at == 0:
            return float(self.shares[0])
        part = min((wanted - rising[at - 1]) / (rising[at] - rising[at - 1]), 1.0)
        return float(self.shares[at - 1] + part * (self.shares[at] - self.shares[at - 1]))


class Ranked:
    """Requests with known outcomes, in the order in which a score gives them to the large model."""

    def __init__(self, scores: Floats, small: Floats, large: Floats) -> None:
        """`small` and `large` are how right the answers were, from 0 to 1."""
        self.order = np.argsort(-scores, kind="stable")
        self.scores = scores[self.order]
        self.small, self.large = small[self.order], large[self.order]
        self.ends = np.flatnonzero(np.append(np.diff(self.scores) != 0, True))  # of each group of equal scores

    def __len__(self) -> int:
        return len(self.scores)

    def curve(self, counts: Counts | None = None) -> Curve:
        """Return the curve. `counts` is how often each request occurs, in this order; None: once."""
        counts = np.ones(len(self), np.int64) if counts is None else counts
        total = counts.sum()
        large = np.cumsum(counts)[self.ends] / total
        gained = np.cumsum(counts * (self.large - self.small))[self.ends] / total
        small = float((counts * self.small).sum() / total)
        return Curve(np.concatenate([[0.0], large]), small + np.concatenate([[0.0], gained]))

    def drawn(self, draws: int = DRAWS) -> Iterator[Counts]:
        """Return how often each request occurs in each of so many samples with replacement."""
        rng = np.random.default_rng(SEED)
        for _ in range(draws):
            yield np.bincount(rng.integers(0, len(self), len(self)), minlength=len(self))

    def intervals(self, *measures: Callable[[Curve], float], draws: int = DRAWS) -> list[Interval]:
        """Return each measure of the curve with its interval."""
        whole = self.curve()
        found = np.array([[measure(curve) for measure in measures] for curve in map(self.curve, self.drawn(draws))])
        return [interval(measure(whole), found[:, at]) for at, measure in enumerate(measures)]


def interval(value: float, drawn: Floats) -> Interval:
    """Return a value with the interval that holds `LEVEL` of what was drawn."""
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high))
