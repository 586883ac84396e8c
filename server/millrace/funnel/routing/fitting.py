"""Learns heads from many labels at once: the most likely weights, given the labels and the prior."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from millrace.funnel.routing.features import WIDTH, Features
from millrace.funnel.routing.heads import MEAN, PRECISION, Heads

STEPS = 100

Floats = NDArray[np.float32]


def fit(features: Sequence[Features], small: Floats, large: Floats, weights: Floats | None = None) -> Heads:
    """Return heads that have learned all labels, as if they had come at once.

    `small` and `large` are whether the answers were right, from 0 to 1; NaN: not known. `weights` are how many labels
    each stands for. It takes `STEPS` accelerated gradient steps (Nesterov 1983), some seconds for 10,000 labels.
    """
    design = _Design(features)
    right = np.stack([small, large]).astype(np.float32)
    weight = np.where(np.isnan(right), 0, 1 if weights is None else weights).astype(np.float32)
    right = np.nan_to_num(right)
    mean, precision = MEAN[:, design.seen], PRECISION[:, design.seen]
    pace = 1 / (0.5 * design.largest(weight.max(initial=0)) + precision.max())
    now = ahead = mean
    momentum = 1.0
    for _ in range(STEPS):
        p = _probabilities(design.times(ahead))
        error = weight * (p - right)
        slope = design.back(np.stack([error[1] + error[0], error[1] - error[0]])) + precision * (ahead - mean)
        before, now = now, ahead - pace * slope
        after = (1 + math.sqrt(1 + 4 * momentum * momentum)) / 2
        ahead = now + (momentum - 1) / after * (now - before)
        momentum = after
    p = _probabilities(design.times(now))
    curvature = design.squared_back((weight * p * (1 - p)).sum(0))
    labels = int((weight > 0).any(0).sum())
    return Heads.learned(design.whole(now, MEAN), design.whole(curvature, np.zeros(WIDTH, np.float32)), labels)


def _probabilities(odds: Floats) -> Floats:
    """Return p_small and p_large of log odds, common and gain."""
    common, gain = odds
    each: Floats = np.clip(np.stack([common - gain, common + gain]), -30, 30)
    found: Floats = (1 / (1 + np.exp(-each))).astype(np.float32)
    return found


class _Design:
    """The features of many prompts as one sparse matrix over the slots that any of them has."""

    def __init__(self, features: Sequence[Features]) -> None:
        slots = np.concatenate([each.slots for each in features])
        self.values = np.concatenate([each.values for each in features])
        self.seen, columns = np.unique(slots, return_inverse=True)
        self._columns = columns.astype(np.int64)
        lengths = [len(each.slots) for each in features]
        self._rows = np.repeat(np.arange(len(features)), lengths)
        self._begins = np.cumsum([0, *lengths[:-1]])

    def times(self, weights: Floats) -> Floats:
        """Return what each of the weights, (k, slots), makes of each prompt: (k, prompts)."""
        return np.stack([np.add.reduceat(self.values * row[self._columns], self._begins) for row in weights])

    def back(self, errors: Floats) -> Floats:
        """Return the sums over prompts: (k, prompts) to (k, slots)."""
        return np.stack([self._summed(self.values * row[self._rows]) for row in errors])

    def squared_back(self, weights: Floats) -> Floats:
        """Return the same of squared values, for one row of weights."""
        return self._summed(self.values * self.values * weights[self._rows])

    def largest(self, weight: float) -> float:
        """Return the largest eigenvalue of the squared matrix, by ten power steps, for prompts of one weight."""
        vector = np.ones((1, len(self.seen)), np.float32)
        norm = 1.0
        for _ in range(10):
            vector = self.back(self.times(vector))
            norm = float(np.sqrt((vector * vector).sum()))
            vector /= norm
        return 1.05 * norm * float(weight)

    def whole(self, found: Floats, rest: Floats) -> Floats:
        """Return the found values in all `WIDTH` slots; those that no prompt has keep the rest's."""
        whole = rest.copy()
        whole[..., self.seen] = found
        return whole

    def _summed(self, values: Floats) -> Floats:
        return np.bincount(self._columns, values, len(self.seen)).astype(np.float32)
