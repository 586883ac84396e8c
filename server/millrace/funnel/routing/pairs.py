"""Judged pairs of one place, and up to which share of requests the small model may be asked first.

A pair is a request that both models answered. Of each pair is known which rank its score has among the last requests,
and what its user would lose with the small answer. For each share of a grid, the lowest ranks first, the mean of

    loss, if the request is among that share  -  (1 - quality) x whether the large answer is right

must be negative with confidence. It is, as soon as a bet against it has won 1 / (1 - confidence) times its stake
(Waudby-Smith and Ramdas 2024; Ville 1939). Shares are tried from the safe side, and the first that fails is the last
(fixed sequence: Angelopoulos et al. 2021, Learn then Test).

Where the large model was asked first, nobody may know whether the checks would have failed the small answer. Such a
pair counts as if they had not: its loss is too high. So each pair of a small answer that was given takes the place of
the oldest one of those among about the same ranks.
"""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

LAST = 1000  # pairs
GRID = np.arange(1, 21) / 20  # shares of requests for the small model
_STAKES = np.array([0.04, 0.1, 0.2, 0.4, 0.7, 0.95])  # of what a bet has: high ones win fast where nothing is lost
_ODDS = np.log([0.1, 0.1, 0.1, 0.1, 0.1, 0.5])  # how the first stake is divided among them


class Pair(Struct, frozen=True, array_like=True):
    """A judged pair."""

    rank: float  # from 0, the lowest score
    loss: float  # of a user who gets the small answer: 1 large right and small wrong, -1 the reverse; 0: none
    large: float  # whether the large answer is right
    weight: float  # how many requests it stands for
    is_checked: bool = True  # whether the loss counts what the checks say of the small answer

    @property
    def band(self) -> int:
        """The first share of the grid that it is among."""
        return int(np.searchsorted(GRID, self.rank, side="right"))


class Pairs:
    """The last judged pairs. Looking at them takes about a millisecond: not on the event loop."""

    def __init__(self, pairs: Sequence[Pair] = ()) -> None:
        self._pairs = deque(pairs, LAST)
        self.allowed = 0.0  # share of requests, that the small model may be asked first for: as `decide` has found
        self.needed: int | None = None  # pairs at least; None: `decide` was not called
        self._failed = [0.0, 0.0]  # weight of failed small answers that are still to be added, and of right large ones

    @property
    def all(self) -> list[Pair]:
        """All that are kept, the oldest one first."""
        return list(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, pair: Pair) -> None:
        """Add a pair. The oldest one is forgotten."""
        if pair.is_checked:
            instead = next((old for old in self._pairs if not old.is_checked and old.band == pair.band), None)
            if instead is not None:
                self._pairs.remove(instead)
        self._pairs.append(pair)

    def add_failed(self, large: float, weight: float) -> None:
        """Add a small answer that the checks failed, so that nothing is lost.

        All of them are judged, and each stands for itself alone: they are added as one pair, once they weigh as much as
        others do.
        """
        self._failed[0] += weight
        self._failed[1] += weight * large
        others = self._pairs[-1].weight if self._pairs else 0.0
        if self._failed[0] >= others > 0:
            total, right = self._failed
            self._pairs.append(Pair(rank=0.0, loss=0.0, large=right / total, weight=total))
            self._failed = [0.0, 0.0]

    def decide(self, quality: float, confidence: float) -> None:
        """Find `allowed` and `needed` of the pairs that there are."""
        self.allowed = self.small_share(quality, confidence)
        self.needed = None if self.allowed else self.least(quality, confidence)

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
        wins = np.log1p(_STAKES * (1 - quality) * max(large, 0.1))[:, None] * np.arange(LAST) + _ODDS[:, None]
        return int((np.logaddexp.reduce(wins, axis=0) < -math.log(1 - confidence)).sum())

    def _columns(self) -> tuple[NDArray[np.float64], ...]:
        """Return ranks, losses, whether the large answers are right, and weights of which the greatest is 1."""
        rank, loss, large, weight = np.array([(p.rank, p.loss, p.large, p.weight) for p in list(self._pairs)]).T
        return rank, loss, large, weight / weight.max()


def _log_win(excess: NDArray[np.float64]) -> float:
    """Return the logarithm of what bets that the mean is negative have won of a stake of 1. Each is at most 1."""
    wins = np.log1p(-_STAKES[:, None] * excess[None, :]).sum(axis=1)
    return float(np.logaddexp.reduce(wins + _ODDS))
