"""The learned check: the probability that an answer is wrong, from what the other checks see in it.

A logistic regression over `features.py`, fitted by Newton's method with a ridge (Hoerl and Kennard 1970). Each label is
scored by a model that has not seen it (5 folds); from these scores come the calibration, by isotonic regression (Barlow
and Brunk 1972, pool adjacent violators), and the threshold: the lowest that keeps to the budget of false alarms.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.evidence import intervals
from millrace.evidence.rates import TAIL, Weighted

ENOUGH = 60  # wrong answers, and right ones, before which nothing is said
BUDGET = 0.1  # of the right answers that may be flagged
FOLDS = 5
RIDGE = 10.0
STEPS = 8
LARGEST = 20.0  # weight of a label in the fit: heavier ones would be all that counts

Array = NDArray[np.float64]


class Features(Protocol):
    """What the checks see in an answer: a dictionary, or what takes less memory."""

    def items(self) -> Iterable[tuple[str, float]]:
        """Return names and values."""
        ...


class Labelled(NamedTuple):
    """An answer that was judged."""

    features: Features
    is_wrong: bool
    weight: float  # how many answers it stands for


class Model(Struct, frozen=True, kw_only=True):
    """What was learned. Immutable, so that it can be replaced while it is used."""

    slots: dict[str, int]  # index by name of a feature
    weights: Array  # the last is the intercept
    steps: tuple[Array, Array]  # of the calibration: scores, and the probability from each on
    threshold: float  # score from which on an answer is flagged; infinite: none is
    labels: int

    def score(self, features: Features) -> float:
        """Return the log odds that an answer is wrong, before calibration."""
        weights, slots = self.weights, self.slots
        total = float(weights[-1])
        for name, value in features.items():
            if (slot := slots.get(name)) is not None:
                total += float(weights[slot]) * value
        return total

    def probability(self, features: Features) -> float:
        """Return the probability that an answer is wrong."""
        return calibrated(self.steps, self.score(features))

    def flags(self, features: Features) -> bool:
        """Whether an answer is likely enough wrong."""
        return self.score(features) >= self.threshold


def learned(labelled: Sequence[Labelled]) -> Model | None:
    """Return the model of these answers; None if they are too few. Takes up to about a second for 1,500."""
    wrong = np.array([each.is_wrong for each in labelled], float)
    if min(wrong.sum(), len(wrong) - wrong.sum()) < ENOUGH:
        return None
    slots = {
        name: at for at, name in enumerate(sorted({name for each in labelled for name, _ in each.features.items()}))
    }
    rows = matrix([each.features for each in labelled], slots)
    weights = np.array([each.weight for each in labelled])
    scores = out_of_fold(rows, wrong, weights)
    return Model(
        slots=slots,
        weights=fitted(rows, wrong, weights),
        steps=isotonic(scores, wrong, weights),
        threshold=threshold(scores, wrong, weights),
        labels=len(labelled),
    )


def matrix(features: Sequence[Features], slots: dict[str, int]) -> Array:
    """Return one row for each answer, with a column of ones at the end."""
    rows = np.zeros((len(features), len(slots) + 1))
    rows[:, -1] = 1.0
    for row, each in zip(rows, features, strict=True):
        for name, value in each.items():
            if (slot := slots.get(name)) is not None:
                row[slot] = value
    return rows


def out_of_fold(rows: Array, wrong: Array, weights: Array, seed: int = 0) -> Array:
    """Return the score of each answer by a model that has learned from the others."""
    order = np.random.default_rng(seed).permutation(len(wrong))
    scores = np.zeros(len(wrong))
    for fold in range(FOLDS):
        left_out = order[fold::FOLDS]
        rest = np.setdiff1d(order, left_out)
        scores[left_out] = rows[left_out] @ fitted(rows[rest], wrong[rest], weights[rest])
    return scores


def fitted(rows: Array, wrong: Array, weights: Array) -> Array:
    """Return the weights of the logistic regression."""
    weights = np.minimum(weights / max(float(np.min(weights)), 1e-9), LARGEST)
    weights /= weights.mean()
    ridge = np.full(rows.shape[1], RIDGE)
    ridge[-1] = 1e-3  # of the intercept
    found = np.zeros(rows.shape[1])
    for _ in range(STEPS):
        likely = 1 / (1 + np.exp(-np.clip(rows @ found, -30, 30)))
        gradient = rows.T @ (weights * (likely - wrong)) + ridge * found
        curvature = (rows * (weights * likely * (1 - likely))[:, None]).T @ rows + np.diag(ridge)
        found -= np.linalg.solve(curvature, gradient)
    return found


def isotonic(scores: Array, wrong: Array, weights: Array) -> tuple[Array, Array]:
    """Return where the steps of the calibration begin, and their probabilities, which only rise."""
    order = np.argsort(scores, kind="stable")
    pools: list[list[float]] = []  # first score, weight, weighted sum
    for at in order:
        pools.append([scores[at], weights[at], weights[at] * wrong[at]])
        while len(pools) > 1 and pools[-2][2] * pools[-1][1] >= pools[-1][2] * pools[-2][1]:
            _, weight, total = pools.pop()
            pools[-1][1] += weight
            pools[-1][2] += total
    return np.array([pool[0] for pool in pools]), np.array([pool[2] / pool[1] for pool in pools])


def calibrated(steps: tuple[Array, Array], score: float) -> float:
    """Return the probability at a score."""
    at = int(np.searchsorted(steps[0], score, side="right")) - 1
    return float(steps[1][max(at, 0)])


def threshold(scores: Array, wrong: Array, weights: Array) -> float:
    """Return the lowest score whose false alarms are within the budget; infinite if it would not separate there."""
    order = np.argsort(-scores, kind="stable")
    alarms = np.cumsum(weights[order] * (1 - wrong[order])) / float(weights @ (1 - wrong))
    within = int(np.searchsorted(alarms, BUDGET, side="right"))
    if within == 0:
        return float("inf")
    found = float(scores[order[within - 1]])
    caught, alarmed = Weighted(), Weighted()
    for score, is_wrong, weight in zip(scores, wrong, weights, strict=True):
        (caught if is_wrong else alarmed).add(float(weight), counts=bool(score >= found))
    catch = intervals.lower(caught.share * caught.effective, caught.effective, TAIL)
    alarm = intervals.upper(alarmed.share * alarmed.effective, alarmed.effective, TAIL)
    return found if catch > alarm else float("inf")
