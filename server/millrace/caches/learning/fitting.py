"""Goes on fitting the logistic regression of the decision on the pairs of one tenant, from the shipped weights.

A verdict is not the truth: it counts by how much likelier it is if both questions have one answer (`log_ratio`). The
changes of the weights are held near zero by a ridge, so that few verdicts change little. Minimised by Newton's method
with the diagonal of the Hessian, which some dozens of steps of some numpy calls carry far enough.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from millrace.types import Lesson

RIDGE = 4.0  # of the change of a weight, squared
STEPS, PACE = 25, 0.5
MOST_WEIGHT = 10.0  # pairs that one stands for, at most
SMALLEST = 0.01  # change of a weight that is kept

Floats = NDArray[np.float64]


def fitted(lessons: Sequence[Lesson], log_odds: Sequence[float]) -> dict[str, float]:
    """Return how the weight of each feature is to change. `log_odds` are what the shipped weights say of each lesson.

    Takes some ten milliseconds for a thousand lessons.
    """
    names: dict[str, int] = {}
    rows, columns, values = [], [], []
    for row, lesson in enumerate(lessons):
        for name, value in lesson.features.items():
            rows.append(row)
            columns.append(names.setdefault(name, len(names)))
            values.append(value)
    row_at, column_at, value_at = np.array(rows), np.array(columns), np.array(values)
    base = np.asarray(log_odds)
    ratio = np.exp(np.array([lesson.log_ratio for lesson in lessons]))
    weight = np.minimum([lesson.weight for lesson in lessons], MOST_WEIGHT)
    change = np.zeros(len(names))
    for _ in range(STEPS):
        z = base + np.bincount(row_at, value_at * change[column_at], len(lessons))
        chance = 1 / (1 + np.exp(-np.clip(z, -30, 30)))
        slope = weight * chance * (1 - chance)
        gain = slope * (ratio - 1) / (chance * ratio + 1 - chance)  # of the log likelihood of the verdict
        gradient = np.bincount(column_at, gain[row_at] * value_at, len(names)) - RIDGE * change
        curvature = np.bincount(column_at, slope[row_at] * value_at**2, len(names)) + RIDGE
        change += PACE * gradient / curvature
    return {name: float(change[at]) for name, at in names.items() if abs(change[at]) >= SMALLEST}
