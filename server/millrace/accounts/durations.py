"""How much sooner answers came: against the median time of the large model's answers of that size.

It is an estimate: nobody knows how long the large model would have taken for this request. The size is the answer's,
since most of the time goes into writing it. Times are counted in steps of about 5 %. Where the large model has hardly
answered, stored and shared answers are compared with those of any model.
"""

import math
from collections import Counter
from collections.abc import Mapping

from millrace.levers import Saving

STEP = math.log(1.05)
FEW = 5  # answers of a size, below which all sizes together count; of all sizes, below which nothing is known

Steps = dict[int, Counter[int]]  # by the size of the answer: how many took so many steps


def step_of(milliseconds: float) -> int:
    """Return the number of the step that a time is in."""
    return round(math.log(max(milliseconds, 1.0)) / STEP)


class Durations:
    """How long models took, by the size of the answer, and how long answers took that a lever made faster."""

    def __init__(self) -> None:
        self._any: Steps = {}
        self._large: Steps = {}
        self._medians: dict[tuple[int, bool], float | None] = {}  # as of the last answer
        self._spared: Counter[tuple[Saving, int]] = Counter()  # requests, by lever and size
        self._took: Counter[Saving] = Counter()  # milliseconds of these, by lever

    @classmethod
    def of(
        cls,
        answered: Mapping[int, Mapping[int, int]],
        by_large: Mapping[int, Mapping[int, int]],
        spared: Mapping[tuple[Saving, int], int],
        took: Mapping[Saving, int],
    ) -> "Durations":
        """Return what was counted elsewhere: answers by size and step, of any model and of the large one alone.

        Then what levers made faster: requests by lever and size, and their milliseconds.
        """
        durations = cls()
        durations._any = {size: Counter(steps) for size, steps in answered.items()}
        durations._large = {size: Counter(steps) for size, steps in by_large.items()}
        durations._spared.update(spared)
        durations._took.update(took)
        return durations

    def answered(self, output_tokens: int, milliseconds: float, *, by_large: bool) -> None:
        """Count an answer of a model. `by_large`: of the large one, and of no other before it."""
        at = step_of(milliseconds)
        size = output_tokens.bit_length()
        for steps in (self._any, self._large) if by_large else (self._any,):
            counted = steps.get(size)
            if counted is None:
                counted = steps[size] = Counter()
            counted[at] += 1
        self._medians.clear()

    def spared(self, lever: Saving, output_tokens: int, milliseconds: float) -> None:
        """Count an answer for which the large model was not asked."""
        self._spared[lever, output_tokens.bit_length()] += 1
        self._took[lever] += round(milliseconds)

    def saved_ms(self, lever: Saving, models: "Durations") -> float | None:
        """Return by how many milliseconds its answers came sooner, all together; None where nothing is known."""
        sizes = {size: count for (whose, size), count in self._spared.items() if whose is lever}
        large_alone = lever is Saving.ROUTING  # else the models that are compared are its own
        known = [
            count * median for size, count in sizes.items() if (median := models.median(size, large_alone)) is not None
        ]
        return sum(known) - self._took[lever] if known else None

    def median(self, size: int, large_alone: bool) -> float | None:  # noqa: FBT001 - a key of what is remembered
        """Return the median time of the large model's answers of a size, in milliseconds; None if it is not known.

        Unless `large_alone`, that of any model's answers does where the large one's is not known.
        """
        key = size, large_alone
        if key not in self._medians:
            found = _median(self._large, size, FEW)
            self._medians[key] = found if found is not None or large_alone else _median(self._any, size, 1)
        return self._medians[key]


def _median(steps: Steps, size: int, least: int) -> float | None:
    counted = steps.get(size)
    if counted is None or counted.total() < FEW:
        counted = sum(steps.values(), Counter())
    if counted.total() < least:
        return None
    half, seen = counted.total() / 2, 0
    for at in sorted(counted):
        seen += counted[at]
        if seen >= half:
            return math.exp(at * STEP)
    return None
