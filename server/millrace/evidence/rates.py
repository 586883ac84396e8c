"""How often bets were wrong, with bounds of 95 % that also cover the errors of the judges.

A sample that was taken with probability p stands for 1/p bets, and a verdict of a judge that was asked with probability
q for 1/q of its samples (Horvitz and Thompson 1952). Bounds are exact ones of a simple sample of the effective size
(Clopper and Pearson 1934; Kish 1965).

Judges err. Where several have spoken, the last and dearest is believed. So the first one's errors are known where
another spoke after it: `misses`, how often it says "same" of answers that differ, and `alarms`, how often "different"
of those that are the same. They are properties of the judge, so they are counted over all levers. Of the wrong bets
only 1 - misses are seen, so what is seen is divided by that. A "different" that nobody has checked counts in full for
the upper bound, and for the lower one and the estimate less the alarms to be expected (Rogan and Gladen 1978).
"""

from collections.abc import Iterable

from msgspec import Struct, field

from millrace.evidence import intervals
from millrace.types import Judged, JudgeErrors, Rate, Says

TAIL = 0.05  # of each bound
# A judge that nobody has checked counts as if it had been wrong in one of ten pairs.
ASSUMED, ASSUMED_OF = 1.0, 10.0


class Weighted(Struct):
    """A share of weighted cases."""

    total: float = 0.0
    squares: float = 0.0
    counted: float = 0.0  # weight of those that count

    def add(self, weight: float, *, counts: bool) -> None:
        """Add a case."""
        self.total += weight
        self.squares += weight * weight
        self.counted += weight * counts

    @property
    def effective(self) -> float:
        """The size of a simple sample that says as much."""
        return self.total * self.total / self.squares if self.squares else 0.0

    @property
    def share(self) -> float:
        """The share of those that count; 0 of none."""
        return self.counted / self.total if self.total else 0.0


class ErrorCounts(Struct):
    """What is known of the errors of one judge, or of all first ones together."""

    misses: Weighted = field(default_factory=Weighted)  # of what differs
    alarms: Weighted = field(default_factory=Weighted)  # of what is the same
    compared: int = 0

    def add(self, judged: Judged, at: int = 0) -> None:
        """Count the opinion at an index, if a dearer judge spoke after it."""
        opinions = judged.opinions
        if at + 1 >= len(opinions):
            return
        self.compared += 1
        # The others were asked with the probability of the next one.
        weight, says = 1 / opinions[at + 1].probability, opinions[at].says
        if opinions[-1].says is Says.DIFFERENT:
            self.misses.add(weight, counts=says is Says.SAME)
        else:
            self.alarms.add(weight, counts=says is Says.DIFFERENT)

    def errors(self, judge: str) -> JudgeErrors:
        """Return the rates, with what is assumed of a judge that nobody has checked."""
        misses, misses_upper = _assumed(self.misses)
        alarms, alarms_upper = _assumed(self.alarms)
        return JudgeErrors(
            judge=judge,
            compared=self.compared,
            misses=misses,
            misses_upper=misses_upper,
            alarms=alarms,
            alarms_upper=alarms_upper,
        )


def errors_of(judged: Iterable[Judged]) -> list[JudgeErrors]:
    """Return the errors of each judge, by name."""
    counts: dict[str, ErrorCounts] = {}
    for each in judged:
        for at, opinion in enumerate(each.opinions):
            counts.setdefault(opinion.judge, ErrorCounts()).add(each, at)
    return [counts[name].errors(name) for name in sorted(counts)]


def first_errors(judged: Iterable[Judged]) -> JudgeErrors:
    """Return the errors of whoever spoke first, which `rate` needs."""
    counts = ErrorCounts()
    for each in judged:
        counts.add(each)
    return counts.errors("")


def rate(judged: Iterable[Judged], errors: JudgeErrors) -> Rate:
    """Return how often the bets of a period were wrong. `errors` are those of whoever spoke first."""
    seen, unchecked = Weighted(), 0.0
    count, since = 0, None
    for each in judged:
        if not each.sample.is_random:
            continue
        count += 1
        since = each.sample.taken_at if since is None else min(since, each.sample.taken_at)
        first, last = each.opinions[0], each.opinions[-1]
        is_wrong = first.says is Says.DIFFERENT and last.says is Says.DIFFERENT
        weight = 1 / each.sample.probability
        seen.add(weight, counts=is_wrong)
        unchecked += weight * (is_wrong and len(each.opinions) == 1)
    if not count:
        return Rate(judged=0, effective=0.0)
    size = seen.effective
    unchecked_share = unchecked / seen.total
    checked_share = seen.share - unchecked_share
    upper = intervals.upper(seen.share * size, size, TAIL) / (1 - errors.misses_upper)
    low = intervals.lower(seen.share * size, size, TAIL)
    doubtful = min(low, unchecked_share)  # of the lower bound
    lower = low - doubtful + _without_alarms(doubtful, 1 - checked_share, errors.alarms_upper)
    estimate = checked_share + _without_alarms(unchecked_share, 1 - checked_share, errors.alarms)
    return Rate(
        judged=count,
        effective=size,
        estimate=min(1.0, estimate / (1 - errors.misses)),
        lower=lower,
        upper=min(1.0, upper),
        since=since,
    )


def _without_alarms(share: float, of: float, alarms: float) -> float:
    """Return what is left of a share of "different" once the false alarms among `of` are taken off."""
    return max(0.0, share - alarms * of) / (1 - alarms)


def _assumed(counted: Weighted) -> tuple[float, float]:
    """Return the mean of an error and its upper bound, with the pairs that are assumed."""
    size = counted.effective
    count, of = counted.share * size + ASSUMED, size + ASSUMED_OF
    return count / of, min(0.9, intervals.upper(count, of, TAIL))
