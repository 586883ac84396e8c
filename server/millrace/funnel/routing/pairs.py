"""Judged pairs of one place, and up to which share of requests the small model may be asked first.

A pair is a request that both models answered. Of each pair is known which rank its score has among the last requests,
and what its user would lose with the small answer. For each share of a grid, the lowest ranks first, the mean of

    loss, if the request is among that share  -  (1 - quality) x whether the large answer is right

must be negative with confidence. It is, as soon as a bet against it has won 1 / (1 - confidence) times its stake
(Waudby-Smith and Ramdas 2024; Ville 1939). Shares are tried from the safe side, and the first that fails is the last
(fixed sequence: Angelopoulos et al. 2021, Learn then Test).
"""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

LAST = 1000  # pairs
GRID = np.arange(1, 21) / 20  # shares of requests for the small model
_STAKES = np.array([0.03, 0.06, 0.12, 0.25, 0.5, 0.75, 0.95])  # of what a bet has; their wins are averaged


class Pair(Struct, frozen=True, array_like=True):
    """A judged pair."""

    rank: float  # from 0, the lowest score
    loss: float  # of a user who gets the small answer: 1 large right and small wrong, -1 the reverse; 0: none
    large: float  # whether the large answer is right
    weight: float  # how many requests it stands for


class Pairs:
    """The last judged pairs. Looking at them takes about a millisecond: not on the event loop."""

    def __init__(self, pairs: Sequence[Pair] = ()) -> None:
        self._pairs = deque(pairs, LAST)

    @property
    def all(self) -> list[Pair]:
        """All that are kept, the oldest one first."""
        return list(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, pair: Pair) -> None:
        """Add a pair. The oldest one is forgotten."""
        self._pairs.append(pair)

    def small_share(self, quality: float, confidence: float) -> float:
        """Return the largest share of requests, by rank, that the small model may be asked first for; 0: none."""
        if not self._pairs:
            return 0.0
        rank, loss, large, weight = self._columns()
        allowed = (1 - quality) * large
        won = 0.0
        for share in GRID:
            if _log_win(weight * (loss * (rank < share) - allowed)) < -math.log(1 - confidence):
                break
            won = float(share)
        return won

    def losses(self) -> list[tuple[float, float]]:
        """Return for each share of requests for the small model which share of the large model's quality is kept."""
        if not self._pairs:
            return []
        rank, loss, large, weight = self._columns()
        right = float(weight @ large)
        return [(float(share), 1 - float(weight @ (loss * (rank < share))) / right) for share in GRID] if right else []

    def least(self, quality: float, confidence: float) -> int:
        """Return how many pairs it takes at least, if there is no loss in any of them."""
        pairs = self._pairs
        large = sum(pair.large for pair in pairs) / len(pairs) if pairs else 1.0
        win = math.log1p(float(_STAKES[-1]) * (1 - quality) * max(large, 0.1))
        return math.ceil(math.log(len(_STAKES) / (1 - confidence)) / win) if win else LAST

    def _columns(self) -> tuple[NDArray[np.float64], ...]:
        """Return ranks, losses, whether the large answers are right, and weights of which the greatest is 1."""
        rank, loss, large, weight = np.array([(p.rank, p.loss, p.large, p.weight) for p in list(self._pairs)]).T
        return rank, loss, large, weight / weight.max()


def _log_win(excess: NDArray[np.float64]) -> float:
    """Return the logarithm of what bets that the mean is negative have won of a stake of 1. Each is at most 1."""
    wins = np.log1p(-_STAKES[:, None] * excess[None, :]).sum(axis=1)
    return float(np.logaddexp.reduce(wins)) - math.log(len(_STAKES))
