"""Two online heads, one for each model: the probability that its answer to a prompt is right."""

import numpy as np
from numpy.typing import NDArray

from millrace.funnel.routing.features import NUMBERS, SLOTS, VERSION, Features

RATE = 0.3  # of learning
_WIDTH = SLOTS + len(NUMBERS)


class Heads:
    """Logistic regressions over the same features, learned by AdaGrad, one label at a time. Not thread-safe."""

    def __init__(self) -> None:
        self._weights = np.zeros((2, _WIDTH + 1), np.float32)  # small, large; the last is the intercept
        self._squares = np.full((2, _WIDTH + 1), 1e-2, np.float32)

    def scores(self, features: Features) -> tuple[float, float]:
        """Return the probabilities that the small and the large model's answers are right."""
        return self._score(0, features), self._score(1, features)

    def learn(self, features: Features, small: float | None, large: float | None, weight: float = 1.0) -> None:
        """Learn from one label; None: not known."""
        for head, right in enumerate((small, large)):
            if right is not None:
                self._step(head, features, right, weight)

    def dumped(self) -> bytes:
        """Return all that was learned."""
        return bytes([VERSION]) + self._weights.tobytes() + self._squares.tobytes()

    @classmethod
    def loaded(cls, dumped: bytes) -> "Heads | None":
        """Return what was learned before; None if it was with other features, or is damaged."""
        heads = cls()
        size = heads._weights.nbytes
        if len(dumped) != 1 + 2 * size or dumped[0] != VERSION:
            return None
        heads._weights = np.frombuffer(dumped, np.float32, heads._weights.size, 1).reshape(2, -1).copy()
        heads._squares = np.frombuffer(dumped, np.float32, heads._weights.size, 1 + size).reshape(2, -1).copy()
        return heads

    def _score(self, head: int, features: Features) -> float:
        weights = self._weights[head]
        odds = float(weights[features.slots] @ features.values) + float(weights[-1])
        return 1 / (1 + float(np.exp(-odds)))

    def _step(self, head: int, features: Features, right: float, weight: float) -> None:
        error = (self._score(head, features) - right) * weight
        slots = np.append(features.slots, np.uint32(_WIDTH))
        gradient: NDArray[np.float32] = error * np.append(features.values, np.float32(1))
        self._squares[head, slots] += gradient**2
        self._weights[head, slots] -= RATE * gradient / np.sqrt(self._squares[head, slots])
