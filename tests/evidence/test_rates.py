"""Rates and their bounds: they hold for what was sampled, whatever the judges' errors."""

import random

import pytest

from millrace.evidence import intervals
from millrace.evidence.rates import errors_of, first_errors, rate
from millrace.types import Judged, JudgeErrors, Lever, Opinion, Sample, Says

SAME, DIFFERENT = Says.SAME, Says.DIFFERENT
NEVER_WRONG = JudgeErrors(judge="", compared=1000, misses=0.0, misses_upper=0.0, alarms=0.0, alarms_upper=0.0)


def judged(
    *says: Says, probability: float = 1.0, checked: float = 1.0, at: float = 0.0, lever: Lever = Lever.SEMANTIC
) -> Judged:
    """Return a sample of which the first judge says this, and the next one that."""
    opinions = tuple(
        Opinion(judge=f"judge {number}", says=each, probability=checked if number else 1.0)
        for number, each in enumerate(says)
    )
    sample = Sample(id="smp_1", lever=lever, tenant="t", request_id="r", taken_at=at, probability=probability)
    return Judged(sample=sample, opinions=opinions)


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    # Published two-sided 95 % intervals: 0 of 10, 5 of 10 and 10 of 10.
    [(0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0)],
)
def test_the_bounds_are_those_of_clopper_and_pearson(count: int, of: int, low: float, high: float) -> None:
    """To four digits."""
    assert intervals.lower(count, of, 0.025) == pytest.approx(low, abs=1e-4)
    assert intervals.upper(count, of, 0.025) == pytest.approx(high, abs=1e-4)


def test_nothing_judged_is_not_known() -> None:
    """There is no estimate, and no bound."""
    found = rate([], NEVER_WRONG)
    assert (found.judged, found.estimate, found.lower, found.upper) == (0, None, None, None)


def test_three_hundred_right_ones_of_a_sure_judge_prove_one_percent() -> None:
    """The rule of three."""
    found = rate([judged(SAME, at=5.0), *[judged(SAME, at=9.0)] * 299], NEVER_WRONG)
    assert found.upper == pytest.approx(0.00994, abs=1e-4)
    assert (found.estimate, found.lower, found.since) == (0.0, 0.0, 5.0)


def test_samples_count_by_how_rarely_they_were_taken() -> None:
    """One of ten that was taken for certain weighs a tenth of one that was taken with a probability of a tenth."""
    found = rate([judged(DIFFERENT, DIFFERENT)] * 10 + [judged(SAME, probability=0.1)] * 9, NEVER_WRONG)
    assert found.estimate == pytest.approx(10 / 100)
    assert found.effective == pytest.approx(100**2 / (10 + 900))


def test_the_errors_of_a_judge_are_those_where_a_dearer_one_spoke() -> None:
    """It misses one of ten, and raises one false alarm in twenty; what was checked rarely counts more."""
    pairs = [judged(SAME, DIFFERENT)] * 10 + [judged(DIFFERENT, DIFFERENT)] * 90
    pairs += [judged(DIFFERENT, SAME)] * 5 + [judged(SAME, SAME)] * 95 + [judged(SAME)] * 1000
    (first, second) = errors_of(pairs)
    assert (first.judge, first.compared) == ("judge 0", 200)
    assert first.misses == pytest.approx(11 / 110)  # with what is assumed of any judge
    assert first.alarms == pytest.approx(6 / 110)
    assert 0.1 < first.misses_upper < 0.17
    assert (second.compared, second.misses) == (0, 0.1)  # nobody has checked it
    rare = first_errors([*pairs, *[judged(SAME, DIFFERENT, checked=0.1)] * 10])
    assert rare.misses > 0.3


def test_an_unchecked_alarm_raises_the_upper_bound_and_not_the_lower_one() -> None:
    """It may be one of the false alarms that are to be expected; one that was checked counts for both."""
    errors = first_errors([judged(DIFFERENT, SAME)] * 5 + [judged(SAME, SAME)] * 95 + [judged(DIFFERENT, DIFFERENT)])
    unchecked = rate([judged(DIFFERENT)] * 5 + [judged(SAME)] * 95, errors)
    checked = rate([judged(DIFFERENT, DIFFERENT)] * 5 + [judged(SAME)] * 95, errors)
    assert unchecked.lower == 0.0
    assert unchecked.estimate == 0.0
    assert checked.lower is not None
    assert checked.lower > 0.015
    assert checked.upper == unchecked.upper
    assert checked.upper is not None
    assert checked.upper > 0.1


def test_the_upper_bound_holds_although_judges_err() -> None:
    """In 95 of 100 periods at least, with a judge that is wrong one time in twenty and a rare sure one."""
    chance = random.Random(3)
    held, periods, true = 0, 100, 0.02

    def one(is_wrong: bool, lever: Lever, probability: float) -> Judged:
        first = SAME if is_wrong ^ (chance.random() >= 0.05) else DIFFERENT
        checked = 1.0 if first is DIFFERENT and lever is Lever.SEMANTIC else 0.05
        if chance.random() >= checked:
            return judged(first, probability=probability, lever=lever)
        last = DIFFERENT if is_wrong else SAME
        return judged(first, last, probability=probability, checked=checked, lever=lever)

    for _ in range(periods):
        near = [one(chance.random() < 0.5, Lever.NEAR_MISS, 1.0) for _ in range(500)]
        hits = [chance.random() < true for _ in range(3000)]
        taken = [one(is_wrong, Lever.SEMANTIC, 0.1) for is_wrong in hits if chance.random() < 0.1]
        found = rate(taken, first_errors([*near, *taken]))
        held += found.upper is not None and found.upper >= sum(hits) / len(hits)
    assert held >= 0.92 * periods
