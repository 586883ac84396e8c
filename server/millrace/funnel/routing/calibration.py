"""What routing by a learned score would do to requests like those of a file, and the threshold that keeps a promise.

No row is ranked by a score that has learned from it.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.funnel.routing.curves import DRAWS, ROUNDING, Counts, Floats, Interval, Ranked, interval
from millrace.funnel.routing.features import Features
from millrace.funnel.routing.fitting import fit
from millrace.funnel.routing.heads import Heads

FOLDS = 5
SEED = 3  # of the folds

Rule = Callable[[Ranked, Counts], int]  # how many groups of equal score, from the highest on, go to the large model
Track = Callable[[Iterable[NDArray[np.int64]]], Iterable[NDArray[np.int64]]]  # shows progress


class Pairs(Struct, frozen=True, kw_only=True):
    """Requests with the outcomes of both models, from 0, wrong, to 1."""

    features: Sequence[Features]
    small: Floats
    large: Floats
    keys: Sequence[Hashable]  # of the prompts: rows with one key are never on both sides of a fold

    def fit(self) -> Heads:
        """Return heads that have learned all of them."""
        return self.part(np.arange(len(self.features)))

    def part(self, rows: NDArray[np.int64]) -> Heads:
        """Return heads that have learned some rows."""
        learned = (self.small[rows].astype(np.float32), self.large[rows].astype(np.float32))
        return fit([self.features[row] for row in rows], *learned)

    def cross_validated(self, track: Track = iter, seed: int = SEED) -> Floats:
        """Return a score for each row, by heads that have learned from the other four fifths of the rows."""
        numbers = {key: at for at, key in enumerate(dict.fromkeys(self.keys))}
        fold_of = np.random.default_rng(seed).permutation(len(numbers)) % FOLDS
        folds = fold_of[[numbers[key] for key in self.keys]]
        scores = np.zeros(len(self.features))
        for held in track([np.flatnonzero(folds == fold) for fold in range(FOLDS)]):
            rest = np.setdiff1d(np.arange(len(folds)), held)
            if len(held) and len(rest):
                scores[held] = scored(self.part(rest), [self.features[row] for row in held])
        return scores


def scored(heads: Heads, features: Iterable[Features]) -> Floats:
    """Return the expected gain of the large model for each prompt."""
    return np.array([heads.gain(each) for each in features], float)


class Chosen(Struct, frozen=True):
    """A threshold, and what comes of it: 95 % of batches of as many further requests lie within the intervals.

    The large model is asked first where the score is at least the threshold: infinite, never; minus infinite, always.
    """

    threshold: float
    share: Interval  # of requests that go to the large model
    quality: Interval  # from 0 to 1
    kept: Interval  # of the large model's quality
    dollars: Interval | None = None  # for 1,000 requests


def chosen(ranked: Ranked, rule: Rule, costs: Floats | None = None, draws: int = DRAWS) -> Chosen:
    """Return the threshold that a rule finds. `costs` are dollars of each row, in its order: (small and large, rows).

    The intervals are of a bootstrap in pairs: the rule finds a threshold in one sample, another one is put to it, and
    what comes of the second differs from what the first has shown.
    """
    once = np.ones(len(ranked), np.int64)
    groups = rule(ranked, once)
    expected = _outcome(ranked, groups, once, costs)
    differences = []
    for seen, fresh in pairwise(ranked.drawn(draws + 1)):
        found = rule(ranked, seen)
        differences.append(_outcome(ranked, found, fresh, costs) - _outcome(ranked, found, seen, costs))
    share, quality, kept, dollars = map(interval, expected, (expected + np.array(differences)).T)
    return Chosen(
        threshold_after(ranked, groups),
        _within_one(share),
        _within_one(quality),
        kept,
        None if costs is None else dollars,
    )


def _within_one(each: Interval) -> Interval:
    return Interval(each.value, max(each.low, 0.0), min(each.high, 1.0))


def with_share(share: float) -> Rule:
    """Return the rule that gives the large model the nearest to a share of requests."""

    def rule(ranked: Ranked, counts: Counts) -> int:
        return int(np.argmin(np.abs(_large_shares(ranked, counts) - share)))

    return rule


def keeping(quality: float, confidence: float) -> Rule:
    """Return the rule that gives it as few as keep a part of its quality, with a confidence.

    The bound is that of a normal mean, of paired differences, for this threshold and each lower one. One more request
    counts, which the small model gets wrong and the large one right: so that few pairs without a loss show little.
    """
    z = NormalDist().inv_cdf(confidence)

    def rule(ranked: Ranked, counts: Counts) -> int:
        total = counts.sum() + 1
        by_small, by_large = ranked.small - quality * ranked.large, (1 - quality) * ranked.large
        kept, square = (_summed(ranked, counts * by_small**power, counts * by_large**power) for power in (1, 2))
        mean, square = (kept - quality) / total, (square + quality * quality) / total
        low = mean - z * np.sqrt(np.maximum(square - mean * mean, 0) / total)
        short = np.flatnonzero(low[:-1] < -ROUNDING)
        return int(short[-1]) + 1 if len(short) else 0

    return rule


def within(dollars: float, costs: Floats) -> Rule:
    """Return the rule that gives it as many as cost so much at most for 1,000 requests."""

    def rule(ranked: Ranked, counts: Counts) -> int:
        mean = 1_000 * _summed(ranked, counts * costs[0], counts * costs[1]) / counts.sum()
        paid = np.flatnonzero(mean <= dollars + ROUNDING)
        return int(paid[-1]) if len(paid) else 0

    return rule


def threshold_after(ranked: Ranked, groups: int) -> float:
    """Return the threshold between the last group that goes to the large model and the first that does not."""
    if groups == 0:
        return math.inf
    if groups == len(ranked.ends):
        return -math.inf
    last, first = ranked.scores[ranked.ends[groups - 1]], ranked.scores[ranked.ends[groups - 1] + 1]
    return float((last + first) / 2)


def _outcome(ranked: Ranked, groups: int, counts: Counts, costs: Floats | None) -> Floats:
    """Return share, quality, the part of the large model's that it is, and dollars for 1,000 requests."""
    total = counts.sum()
    sent = 0 if groups == 0 else int(ranked.ends[groups - 1]) + 1

    def mean(small: Floats, large: Floats) -> float:
        return float((counts[sent:] @ small[sent:] + counts[:sent] @ large[:sent]) / total)

    quality, large = mean(ranked.small, ranked.large), mean(ranked.large, ranked.large)
    kept = quality / large if large else math.nan
    return np.array([counts[:sent].sum() / total, quality, kept, 0.0 if costs is None else 1_000 * mean(*costs)])


def _large_shares(ranked: Ranked, counts: Counts) -> Floats:
    shares: Floats = _summed(ranked, np.zeros(len(ranked)), counts.astype(float)) / counts.sum()
    return shares


def _summed(ranked: Ranked, small: Floats, large: Floats) -> Floats:
    """Return the sum of all rows for each number of groups that go to the large model, from none to all."""
    gained = np.cumsum(large - small)[ranked.ends]
    return np.asarray(small.sum() + np.concatenate([[0.0], gained]))
