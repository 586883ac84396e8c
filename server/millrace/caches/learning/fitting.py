"""Goes on fitting the logistic regression of the decision on the pairs of one tenant, from the shipped weights.

A verdict is not the truth: it counts by how much likelier it is if both questions have one answer (`log_ratio`). The
changes of the weights are held near zero by a ridge, so that few verdicts change little. Minimised by Newton's method
with the diagonal of the Hessian, which some dozens of steps of some numpy calls carry far enough.

What is fitted ranks pairs better. It must not serve more of them by itself, since how many are served is steered by
what comes of it. So it is shifted until it serves no more of the lessons than the shipped weights do.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from millrace.caches.decision.features import LEARNED
from millrace.types import Lesson

RIDGE = 15.0  # of the change of a weight, squared
STEPS, PACE = 25, 0.5
MOST_WEIGHT = 10.0  # pairs that one stands for, at most
SMALLEST = 0.01  # change of a weight that is kept

Floats = NDArray[np.float64]


def fitted(lessons: Sequence[Lesson], log_odds: Sequence[float], needed: float) -> dict[str, float]:
    """Return how the weight of each feature is to change.

    `log_odds` are what the shipped weights say of each lesson, and `needed` those of a hit. Takes some ten milliseconds
    for a thousand lessons.
    """
    names: dict[str, int] = {}
    rows, columns, values = [], [], []
    for row, lesson in enumerate(lessons):
        for name, value in lesson.features.items():
            rows.append(row)
            columns.append(names.setdefault(name, len(names)))
            values.append(value)
    row_at, column_at, value_at = np.array(rows), np.array(columns), np.array(values)
    base = np.asarray(log_odds, np.float64)
    ratio = np.exp(np.array([lesson.log_ratio for lesson in lessons]))
    weight = np.minimum(np.array([lesson.weight for lesson in lessons]), MOST_WEIGHT)
    change = np.zeros(len(names))
    for _ in range(STEPS):
        z = base + np.bincount(row_at, value_at * change[column_at], len(lessons))
        chance = 1 / (1 + np.exp(-np.clip(z, -30, 30)))
        slope = weight * chance * (1 - chance)
        gain = slope * (ratio - 1) / (chance * ratio + 1 - chance)  # of the log likelihood of the verdict
        gradient = np.bincount(column_at, gain[row_at] * value_at, len(names)) - RIDGE * change
        curvature = np.bincount(column_at, slope[row_at] * value_at**2, len(names)) + RIDGE
        change += PACE * gradient / curvature
    z = base + np.bincount(row_at, value_at * change[column_at], len(lessons))
    kept = {name: float(change[at]) for name, at in names.items() if abs(change[at]) >= SMALLEST}
    shift = min(0.0, needed - _served(z, weight, float(weight[base >= needed].sum())))
    return kept | {LEARNED: kept.get(LEARNED, 0.0) + shift}


def _served(z: Floats, weight: Floats, share: float) -> float:
    """Return the log odds from which on so many pairs are."""
    order = np.argsort(-z)
    at = int(np.searchsorted(np.cumsum(weight[order]), share, side="right"))
    return float(z[order[min(at, len(z) - 1)]])
