"""How steep a series of samples is, whatever single samples say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Slope:
    """The change of a figure, by the estimator of Theil and Sen: the median of the slopes between all pairs."""

    per_hour: float
    low: float  # of 95 %, by Sen's interval; it takes samples to be independent
    high: float
    first: float  # medians of the first and of the last quarter of the samples
    last: float

    @property
    def share(self) -> float:
        """The last quarter beside the first, as a share of it."""
        return self.last / self.first - 1 if self.first else 0.0


def slope(hours: Sequence[float], values: Sequence[float]) -> Slope:
    """Return the slope of some samples, of which there are at least four."""
    at, of = np.asarray(hours, float), np.asarray(values, float)
    count = len(at)
    assert count >= 4, "too few samples for a slope"
    before, after = np.triu_indices(count, 1)
    slopes = np.sort((of[after] - of[before]) / (at[after] - at[before]))
    around = 1.96 * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)  # Kendall's variance, without ties
    low = max(round((len(slopes) - around) / 2), 0)
    high = min(round((len(slopes) + around) / 2), len(slopes) - 1)
    quarter = max(count // 4, 1)
    return Slope(
        per_hour=float(np.median(slopes)),
        low=float(slopes[low]),
        high=float(slopes[high]),
        first=float(np.median(of[:quarter])),
        last=float(np.median(of[-quarter:])),
    )
