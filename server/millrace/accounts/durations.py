"""How much sooner stored and shared answers came: against the median time of a model's answers of that size.

It is an estimate: nobody knows how long the model would have taken for this request. The size is the answer's, since
most of the time goes into writing it. Times are counted in steps of about 5 %.
"""

import math
from collections import Counter
from collections.abc import Mapping

from millrace.levers import Saving

STEP = math.log(1.05)
FEW = 5  # answers of a size, below which all sizes together count


def step_of(milliseconds: float) -> int:
    """Return the number of the step that a time is in."""
    return round(math.log(max(milliseconds, 1.0)) / STEP)


class Durations:
    """How long models took, by the size of the answer, and how long answers took for which none was asked."""

    def __init__(self) -> None:
        self._models: dict[int, Counter[int]] = {}  # by size: how many answers took so many steps
        self._spared: Counter[tuple[Saving, int]] = Counter()  # requests, by lever and size
        self._took: Counter[Saving] = Counter()  # milliseconds of these, by lever

    @classmethod
    def of(
        cls,
        models: Mapping[int, Mapping[int, int]],
        spared: Mapping[tuple[Saving, int], int],
        took: Mapping[Saving, int],
    ) -> "Durations":
        """Return what was counted elsewhere: models' answers by size and step, spared ones, and their milliseconds."""
        durations = cls()
        durations._models = {size: Counter(steps) for size, steps in models.items()}
        durations._spared.update(spared)
        durations._took.update(took)
        return durations

    def answered(self, output_tokens: int, milliseconds: float) -> None:
        """Count an answer of a model."""
        at = step_of(milliseconds)
        size = output_tokens.bit_length()
        steps = self._models.get(size)
        if steps is None:
            steps = self._models[size] = Counter()
        steps[at] += 1

    def spared(self, lever: Saving, output_tokens: int, milliseconds: float) -> None:
        """Count an answer for which no model was asked."""
        self._spared[lever, output_tokens.bit_length()] += 1
        self._took[lever] += round(milliseconds)

    def saved_ms(self, lever: Saving, models: "Durations") -> float | None:
        """Return by how many milliseconds its answers came sooner, all together; None where nothing is known."""
        sizes = {size: count for (whose, size), count in self._spared.items() if whose is lever}
        medians = {size: models.median(size) for size in sizes}
        known = [count * median for size, count in sizes.items() if (median := medians[size]) is not None]
        return sum(known) - self._took[lever] if known else None

    def median(self, size: int) -> float | None:
        """Return the median time of a model's answers of a size, in milliseconds; of all sizes if these are few."""
        counted = self._models.get(size)
        if counted is None or counted.total() < FEW:
            counted = sum(self._models.values(), Counter())
        half, seen = counted.total() / 2, 0
        for at in sorted(counted):
            seen += counted[at]
            if seen >= half:
                return math.exp(at * STEP)
        return None
