"""Rates with their intervals, and the threshold for a bound."""

import pytest

from millrace.cli.rates import Scores, needed, rate


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [  # as published tables of exact binomial limits have them, and the closed forms at the ends
        (0, 10, 0.0, 1 - 0.025 ** (1 / 10)),
        (10, 10, 0.025 ** (1 / 10), 1.0),
        (1, 10, 0.0025, 0.4450),
        (5, 10, 0.1871, 0.8129),
        (10, 100, 0.0490, 0.1762),
        (0, 406, 0.0, 1 - 0.025 ** (1 / 406)),
        (0, 0, 0.0, 1.0),
    ],
)
def test_an_interval_is_the_exact_one(count: int, of: int, low: float, high: float) -> None:
    found = rate(count, of)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_large_counts_have_intervals_too() -> None:
    """Near those of the normal approximation."""
    found = rate(3_000, 100_000)
    assert (found.low, found.high) == pytest.approx((0.02895, 0.03107), abs=2e-5)


def test_what_is_ruled_out_is_served_at_no_threshold() -> None:
    point = Scores([0.9, None, 0.5], [0.7, None]).at(0.0)
    assert (point.hits.count, point.hits.of, point.wrong.count, point.wrong.of) == (2, 3, 1, 2)
    assert point.wrong_of_served.value == pytest.approx(1 / 3)


def test_a_threshold_serves_what_reaches_it() -> None:
    scores = Scores([0.5, 0.9], [0.5])
    assert (scores.at(0.5).hits.count, scores.at(0.5).wrong.count) == (2, 1)
    assert (scores.at(0.51).hits.count, scores.at(0.51).wrong.count) == (1, 0)


def test_the_threshold_for_a_bound_is_the_lowest_one_that_is_certain() -> None:
    """At a step less, one wrong hit more makes the upper end of the interval pass the bound."""
    scores = Scores([0.5, *[0.99] * 10], [number / 1000 for number in range(1000)])
    found = scores.least(0.02)
    assert found is not None
    assert found.wrong.high <= 0.02 < scores.at(found.threshold - 0.0011).wrong.high
    assert found.hits.count == 10


def test_where_all_may_be_served_the_threshold_is_no_lower_than_the_hits_need() -> None:
    found = Scores([0.81234, 0.9], [None] * 499 + [0.3]).least(0.02)
    assert found is not None
    assert (found.threshold, found.hits.count) == (0.8123, 2)
    assert Scores([], [0.1] + [None] * 500).least(0.02) is not None


def test_too_few_pairs_show_no_bound() -> None:
    assert Scores([0.5], [None] * 20).least(0.01) is None
    assert Scores([0.5], [1.0] * 1000).least(0.01) is None
    least = needed(0.01)
    assert rate(0, least).high <= 0.01 < rate(0, least - 1).high
