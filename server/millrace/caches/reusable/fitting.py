"""Makes weights from judged examples: logistic regression over the classes, each feature shrunk towards what it was."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.caches.reusable.features import SIZE, features
from millrace.caches.reusable.learned import CLASSES, Weights
from millrace.caches.reusable.reading import sentences

_STEPS = 40
_RATE = 0.25
_DECAY = 0.9, 0.99  # of the running mean of the slope, and of its square
_LARGEST = 127  # of an int8


class Example(Struct, frozen=True):
    """What is seen of a request, its class (an index of `CLASSES`), and how much it counts."""

    features: NDArray[np.int64]
    label: int
    weight: float = 1.0

    @classmethod
    def of(cls, text: str, label: int, weight: float = 1.0) -> "Example":
        """Return the example of a text."""
        return cls(features(sentences(text)), label, weight)


def fit(examples: Sequence[Example], *, threshold: float, shrink: float, start: Weights | None = None) -> Weights:
    """Return weights for the examples. The same examples give the same weights.

    `shrink` is how strongly weights are pulled towards those of `start`, or towards zero: the more, the less a few
    examples change.
    """
    found = [example.features for example in examples]
    sizes = np.array([len(each) for each in found])
    columns = np.concatenate(found)
    rows = np.repeat(np.arange(len(found)), sizes)
    value = (1 / np.sqrt(sizes)).astype(np.float32)[rows, None]
    truth = np.eye(len(CLASSES), dtype=np.float32)[[example.label for example in examples]]
    counts = np.array([example.weight for example in examples], np.float32)[:, None]
    begin = np.zeros((SIZE, len(CLASSES)), np.float32)
    if start is not None:
        begin += start.of_features * start.scale
    weights: NDArray[np.floating[Any]] = begin.copy()
    mean: NDArray[np.floating[Any]] = np.zeros_like(begin)
    square: NDArray[np.floating[Any]] = np.zeros_like(begin)
    firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    for step in range(1, _STEPS + 1):  # Adam, over all examples at once
        scores = np.add.reduceat(weights[columns] * value, firsts, axis=0)
        error = (_softmax(scores) - truth) * counts
        slope = _summed(columns, error[rows] * value) + shrink * (weights - begin)
        mean = _DECAY[0] * mean + (1 - _DECAY[0]) * slope
        square = _DECAY[1] * square + (1 - _DECAY[1]) * slope**2
        unbiased = np.sqrt(square / (1 - _DECAY[1] ** step)) + 1e-8
        weights -= _RATE * (1 - step / _STEPS) * mean / (1 - _DECAY[0] ** step) / unbiased
    scale = np.float32(np.abs(weights).max() / _LARGEST)
    return Weights(np.round(weights / scale).astype(np.int8), scale, threshold)


def _softmax(scores: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: NDArray[np.floating[Any]] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _summed(columns: NDArray[np.int64], values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return the sum of the values of each feature, shape (SIZE, classes)."""
    sums = [np.bincount(columns, each, SIZE) for each in np.ascontiguousarray(values.T)]
    return np.stack(sums, axis=1).astype(np.float32)
