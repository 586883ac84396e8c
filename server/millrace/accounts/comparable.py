"""What a model would have been paid for a request that it was not asked: from comparable requests of the same window.

Tokens of output are the mean of what the model wrote for prompts of that size, the chance that a check takes its answer
back is read off the router's score. Each figure comes with its variance.
"""

import math
from collections.abc import Iterable

import numpy as np
from msgspec import Struct, field

from millrace import pricing
from millrace.funnel.routing.recent import LAST
from millrace.types import Outcome, Past, Price, Scores, Tier, Usage

FEW = 20  # answers of a size, below which all sizes together count
RIDGE, STEPS = 4.0, 30  # of the fit of escalations
MOST_PAIRS = 200_000


class Estimate(Struct, frozen=True):
    """Nanodollars, and their variance: of one request, and of the mean that it comes from."""

    value: float
    variance: float = 0.0
    group: tuple[str, int] | None = None  # whose mean it is; the error of that is the same for all
    mean_variance: float = 0.0


class _Mean(Struct):
    """Of some answers."""

    count: int = 0
    output: int = 0
    square: int = 0
    input: int = 0
    cached: int = 0
    written: int = 0

    def add(self, usage: Usage) -> None:
        self.count += 1
        self.output += usage.output_tokens
        self.square += usage.output_tokens**2
        self.input += usage.input_tokens
        self.cached += usage.cached_input_tokens
        self.written += usage.cache_write_tokens

    @property
    def variance(self) -> float:
        mean = self.output / self.count
        return max(self.square / self.count - mean**2, 0.0)


class Comparable(Struct):
    """What is known of both models' answers in a window. `prices` are those of rows that tell none."""

    prices: dict[Tier, Price]
    _means: dict[tuple[str, int], _Mean] = field(default_factory=dict)  # by tier and size of the prompt
    _all: dict[str, _Mean] = field(default_factory=dict)
    _doubts: list[float] = field(default_factory=list)  # of requests that the small model was asked first for
    _escalated: list[bool] = field(default_factory=list)  # whether the large model answered these
    _fit: tuple[float, float] | None = None
    log_odds: list[float] = field(default_factory=list)  # of the likeliest stored question, where there was one
    all_scores: list[Scores] = field(default_factory=list)
    first_scores: dict[str, list[float]] = field(default_factory=dict)  # of the first requests, by tenant
    _reported: int = 0  # tokens of prompts, by their providers
    _counted: int = 0  # the same, as counted here

    def learn(self, rows: Iterable[Past]) -> None:
        """Learn from requests of the window."""
        for row in rows:
            for call in row.calls:
                if call.outcome is Outcome.ANSWERED and call.tier in (Tier.SMALL, Tier.LARGE):
                    size = call.usage.input_tokens.bit_length()
                    for mean in (
                        self._means.setdefault((call.tier, size), _Mean()),
                        self._all.setdefault(call.tier, _Mean()),
                    ):
                        mean.add(call.usage)
                    if call.price is not None and (call.tier != Tier.LARGE or row.baseline is None):
                        self.prices[Tier(call.tier)] = call.standard or call.price
            if row.baseline is not None:  # which is the large model's, also where another one stood in for it
                self.prices[Tier.LARGE] = row.baseline
            asked = row.story.looked_up
            if asked is not None and row.calls and not row.calls[0].usage.estimated:
                self._reported += row.calls[0].usage.input_tokens
                self._counted += asked.input_tokens
            scores = row.story.scores
            if scores is not None and len(first := self.first_scores.setdefault(row.tenant, [])) < LAST:
                first.append(scores.score)
            if scores is not None and len(self.all_scores) < MOST_PAIRS:
                self.all_scores.append(scores)
                if scores.tier is Tier.SMALL and any(call.outcome is Outcome.ANSWERED for call in row.calls):
                    self._doubts.append(_doubt(scores))
                    self._escalated.append(is_escalated(row))
            if row.story.near and len(self.log_odds) < MOST_PAIRS:
                self.log_odds.append(row.story.near[0].log_odds)

    def call(self, tier: Tier, input_tokens: int) -> Estimate | None:
        """Return what one call would cost; None if no price is known, or no answer of any model."""
        price = self.prices.get(tier)
        size = input_tokens.bit_length()
        mean = self._means.get((tier, size))
        if mean is None or mean.count < FEW:
            size = -1
            mean = self._all.get(tier) or next(iter(self._all.values()), None)
        if price is None or mean is None:
            return None
        cached = round(input_tokens * mean.cached / mean.input) if mean.input else 0
        written = round(input_tokens * mean.written / mean.input) if mean.input else 0
        output = mean.output / mean.count
        usage = Usage(
            input_tokens=input_tokens,
            cached_input_tokens=min(cached, input_tokens),
            cache_write_tokens=min(written, input_tokens - min(cached, input_tokens)),
        )
        per_token = float(price.output) * 1000  # nanodollars
        value = float(pricing.cost(usage, price)) * 1e9 + output * per_token
        variance = mean.variance * per_token**2
        return Estimate(value, variance, (tier.value, size), variance / mean.count)

    def escalated(self, scores: Scores | None) -> float:
        """Return how likely the small model's answer is taken back, or does not come."""
        if not self._escalated:
            return 0.0
        if scores is None:
            return sum(self._escalated) / len(self._escalated)
        if self._fit is None:
            self._fit = _logistic(self._doubts, self._escalated)
        bias, slope = self._fit
        return 1 / (1 + math.exp(-max(min(bias + slope * _doubt(scores), 30.0), -30.0)))

    @property
    def reported(self) -> float:
        """How many tokens providers report of one that is counted here."""
        return self._reported / self._counted if self._counted and self._reported else 1.0

    def served(self, needed: float) -> float:
        """Return how likely a stored question of which only the family is known would be near enough."""
        if not self.log_odds:
            return 0.0
        return sum(each >= needed for each in self.log_odds) / len(self.log_odds)


def is_escalated(row: Past) -> bool:
    """Whether the small model was asked, and the large one answered in its place."""
    answered = next((call.tier for call in reversed(row.calls) if call.outcome is Outcome.ANSWERED), None)
    return answered == Tier.LARGE and any(call.tier == Tier.SMALL for call in row.calls)


def _doubt(scores: Scores) -> float:
    """Return the log odds that the small model's answer is wrong, as far as the router knew; else its score."""
    if scores.small is None:
        return scores.score
    small = min(max(scores.small, 1e-9), 1 - 1e-9)
    return math.log((1 - small) / small)


def _logistic(doubts: list[float], escalated: list[bool]) -> tuple[float, float]:
    """Return bias and slope, by Newton's method. Without evidence the slope is 1: doubts are log odds already."""
    x, y = np.array(doubts), np.array(escalated, float)
    bias, slope = math.log((y.sum() + 0.5) / (len(y) - y.sum() + 0.5)) - float(x.mean()), 1.0
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(bias + slope * x, -30, 30)))
        weight = p * (1 - p)
        across = (weight * x).sum()
        hessian = np.array([[weight.sum() + 1e-9, across], [across, (weight * x * x).sum() + RIDGE]])
        gradient = np.array([(y - p).sum(), ((y - p) * x).sum() - RIDGE * (slope - 1)])
        step = np.linalg.solve(hessian, gradient)
        bias, slope = bias + float(step[0]), slope + float(step[1])
        if abs(step).max() < 1e-8:  # noqa: PLR2004 - far below what shows
            break
    return bias, slope
