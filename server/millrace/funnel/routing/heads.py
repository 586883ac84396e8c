"""Two heads over the features of a prompt: the probabilities that the small and the large model answer it well.

A head is a logistic regression. What both models find hard is learned together, and so is what the large one is better
at: the heads' log odds are `common - gain` (small) and `common + gain` (large), each of them linear in the features.
The router needs the difference of the probabilities. It is 0 for a prompt that neither model answers well.

Every weight has a normal prior. A message's length has a weight to begin with, since long messages gain from a large
model; nothing else has. With few labels the score therefore ranks by length, and each label moves it a little.
Labels are learned one at a time, by the diagonal Laplace approximation (Chapelle and Li 2011), with steps that never
pass the label, however much it weighs (Karampatziakis and Langford 2011). `fitting.py` learns many labels at once.
"""

import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from millrace.funnel.routing.features import ALWAYS, LENGTH, SLOTS, VERSION, WIDTH, Features

PRIOR_LABELS = 300  # until so many have come, the length decides more than the words
HORIZON = 20_000  # labels after which what was learned counts e times less
_LENGTH = 1.5  # weight of the length for the gain, at first
_USUAL = (1.0, 0.3)  # of the intercepts, common and gain, at first
_TOGETHER = 2.0  # words come together, so that a weight alone has less to learn than its curvature says
_STIFF = 50.0  # most curvature of the intercept: it follows within some hundred labels
_STEPS = 4  # of Newton's method
_FORM = 1  # of the dump
_HEAD = struct.Struct("<BBQI")  # form, version of the features, labels, slots

PRECISION = np.full((2, WIDTH), 4.0, np.float32)  # of the prior: of what is common, and of the gain
PRECISION[0] = 6.0
PRECISION[:, ALWAYS] = 1.0
MEAN = np.zeros((2, WIDTH), np.float32)
MEAN[1, LENGTH] = _LENGTH
MEAN[:, ALWAYS] = _USUAL


class Heads:
    """What was learned of one tenant's prompts; about 0.8 MB. Not thread-safe."""

    def __init__(self) -> None:
        self.labels = 0  # learned
        self._weights = MEAN.copy()  # common, gain
        self._curvature = np.zeros(WIDTH, np.float32)  # of the labels' likelihood, in each weight
        self._precision = PRECISION

    def scores(self, features: Features) -> tuple[float, float]:
        """Return the probabilities that the small and the large model's answers are right."""
        common, gain = self.odds(features)
        return _probability(common - gain), _probability(common + gain)

    def gain(self, features: Features) -> float:
        """Return what the large model is expected to add: p_large - p_small, from -1 to 1."""
        small, large = self.scores(features)
        return large - small

    def reasons(self, features: Features, count: int = 3) -> list[tuple[str, float]]:
        """Return the features that move the gain most, with their share of it in log odds, the strongest first.

        They may be words of the prompt. Features that were unpacked have no words: none are returned.
        """
        if not features.terms:
            return []
        shares = self._weights[1, features.slots] * features.values
        shares[-1] = 0  # what is always there is no reason
        first = np.argsort(-np.abs(shares), kind="stable")[:count]
        return [(features.terms[at], float(shares[at])) for at in first if shares[at]]

    def odds(self, features: Features) -> tuple[float, float]:
        """Return what is common to both heads' log odds, and the gain that sets them apart."""
        common, gain = (self._weights[:, features.slots] @ features.values).tolist()
        return common, gain

    def learn(
        self,
        features: Features,
        small: float | None,
        large: float | None,
        weight: float = 1.0,
        beside: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Learn from one label: whether the answers were right, from 0 to 1; None: not known.

        `weight` is how many labels it stands for. A label that is not known for either model is no label. `beside` is
        what is known of the prompt besides, and does not change: of the log odds, common and gain.
        """
        if weight <= 0 or (small is None and large is None):
            return
        self._curvature *= 1 - 1 / HORIZON
        slots, values = features.slots, features.values
        weights, curvature, precision = self._weights[:, slots], self._curvature[slots], self._precision[:, slots]
        for sign, right in ((-1.0, small), (1.0, large)):
            if right is None:
                continue
            common, gain = (weights @ values + beside).tolist()
            steps = values / (_TOGETHER * curvature + precision)  # common, gain
            error = _error_after(common + sign * gain, right, weight * float((steps @ values).sum()))
            steps[1] *= sign
            weights -= weight * error * steps
            after = error + right
            curvature += weight * after * (1 - after) * values * values
            curvature[-1] = min(curvature[-1], _STIFF)  # of the intercept, which is the last of the features
        self._weights[:, slots], self._curvature[slots] = weights, curvature
        self.labels += 1

    @classmethod
    def learned(cls, weights: NDArray[np.float32], curvature: NDArray[np.float32], labels: int) -> "Heads":
        """Return heads with what many labels have taught. Shapes: (2, `WIDTH`) and (`WIDTH`)."""
        heads = cls()
        heads.labels, heads._weights, heads._curvature = labels, weights, curvature
        heads._curvature[ALWAYS] = min(heads._curvature[ALWAYS], _STIFF)
        return heads

    @classmethod
    def of(cls, curvature: NDArray[np.float32]) -> "Heads":
        """Return heads over other features, as many as `curvature` has numbers, the last one of them the intercept.

        They know nothing, but are as hard to teach as if they had learned labels of that curvature.
        """
        heads = cls()
        heads._weights, heads._curvature = np.zeros((2, len(curvature)), np.float32), curvature.copy()
        heads._precision = np.repeat(PRECISION[:, :1], len(curvature), axis=1)
        heads._precision[:, -1] = PRECISION[:, ALWAYS]
        return heads

    def dumped(self) -> bytes:
        """Return all that was learned: about ten bytes for each slot that was ever seen, packed."""
        seen = np.flatnonzero(self._curvature).astype(np.uint32)
        seen = np.union1d(seen, np.arange(SLOTS, WIDTH)).astype(np.uint32)
        head = _HEAD.pack(_FORM, VERSION, self.labels, len(seen))
        weights = self._weights[:, seen].astype(np.float16)
        curvature = np.minimum(self._curvature[seen], np.float32(np.finfo(np.float16).max)).astype(np.float16)
        return head + zlib.compress(seen.tobytes() + weights.tobytes() + curvature.tobytes(), 1)

    @classmethod
    def loaded(cls, dumped: bytes) -> "Heads | None":
        """Return what was learned before; None if it was with other features, or is damaged."""
        if len(dumped) < _HEAD.size:
            return None
        form, version, labels, count = _HEAD.unpack_from(dumped)
        if (form, version) != (_FORM, VERSION):
            return None
        unpacker = zlib.decompressobj()
        try:
            body = unpacker.decompress(dumped[_HEAD.size :], 10 * WIDTH + 1)
        except zlib.error:
            return None
        if len(body) != 10 * count or not unpacker.eof:
            return None
        seen = np.frombuffer(body, np.uint32, count)
        weights = np.frombuffer(body, np.float16, 2 * count, 4 * count).reshape(2, count)
        curvature = np.frombuffer(body, np.float16, count, 8 * count)
        if count and (seen.max() >= WIDTH or not np.isfinite(weights).all() or not (curvature >= 0).all()):
            return None
        heads = cls()
        heads.labels = labels
        heads._weights[:, seen] = weights
        heads._curvature[seen] = curvature
        return heads


def _probability(odds: float) -> float:
    return 1 / (1 + math.exp(-max(min(odds, 30.0), -30.0)))


def _error_after(odds: float, right: float, reach: float) -> float:
    """Return the error e that is left after a step which it causes itself: e = p(odds - reach * e) - right."""
    error = _probability(odds) - right
    low, high = min(error, 0.0), max(error, 0.0)
    for _ in range(_STEPS):
        p = _probability(odds - reach * error)
        error -= (error - p + right) / (1 + reach * p * (1 - p))
        error = min(max(error, low), high)
    return error
