"""How good a score is: PGR, APGR and CPT, with their intervals."""

import math

import numpy as np
import pytest

from millrace.funnel.routing.curves import Curve, Ranked

SMALL = np.array([0.0, 0, 1, 1, 1, 0, 1, 0, 1, 1])
LARGE = np.array([1.0, 1, 1, 1, 0, 0, 1, 1, 1, 1])  # gains: 1 1 0 0 -1 0 0 1 0 0
GAIN = LARGE - SMALL


def curve(scores: list[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> Curve:
    return Ranked(np.asarray(scores, float), SMALL, LARGE).curve()


def test_quality_goes_from_the_small_models_to_the_large_ones() -> None:
    found = curve(np.arange(10, 0, -1.0))
    assert [found.small, found.large] == pytest.approx([0.6, 0.8])
    assert found.shares.tolist() == pytest.approx([each / 10 for each in range(11)])
    assert found.at(0.2) == pytest.approx(0.8)
    assert found.at(0.15) == pytest.approx(0.75)


def test_a_random_order_recovers_half() -> None:
    found = curve([0.0] * 10)
    assert found.apgr == pytest.approx(0.5)
    assert found.cpt(0.5) == pytest.approx(0.5)
    assert found.cpt(0.8) == pytest.approx(0.8)


def test_the_oracle_recovers_more_than_all_with_few_calls() -> None:
    found = curve(GAIN)
    assert found.cpt(1.0) == pytest.approx(0.2)
    assert found.cpt(1.5) == pytest.approx(0.3)
    assert found.apgr == pytest.approx((0.3 * 0.75) + 0.6 * 1.5 + 0.1 * 1.25)
    assert math.isnan(found.cpt(1.6))


def test_the_worst_order_loses_what_the_oracle_gains() -> None:
    assert curve(-GAIN).apgr == pytest.approx(1 - curve(GAIN).apgr)


def test_the_order_of_rows_does_not_matter_where_scores_are_equal() -> None:
    scores = np.array([1.0, 1, 1, 0, 0, 0, 0, 1, 1, 0])
    backwards = Ranked(scores[::-1], SMALL[::-1], LARGE[::-1]).curve()
    assert backwards.quality.tolist() == pytest.approx(curve(scores).quality.tolist())


def test_a_large_model_that_is_no_better_recovers_nothing_that_could_be_measured() -> None:
    found = Ranked(np.arange(10.0), LARGE, SMALL).curve()
    assert math.isnan(found.apgr)
    assert math.isnan(found.cpt(0.5))
    assert found.share_for(found.small) == 0


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)

    def sample(size: int) -> Ranked:
        score = rng.random(size)
        small = (rng.random(size) > 0.2 + 0.4 * score).astype(float)
        large = (rng.random(size) > 0.15).astype(float)
        return Ranked(score, small, large)

    truth = sample(200_000).curve().apgr
    covered = 0
    for _ in range(60):
        (found,) = sample(400).intervals(lambda each: each.apgr, draws=200)
        covered += found.low <= truth <= found.high
    assert covered >= 51


def test_intervals_of_one_file_are_always_the_same() -> None:
    ranked = Ranked(GAIN, SMALL, LARGE)
    measures = (lambda each: each.apgr, lambda each: each.cpt(0.5))
    assert ranked.intervals(*measures, draws=50) == ranked.intervals(*measures, draws=50)
