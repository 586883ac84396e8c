"""The threshold that a promise needs, and whether what it says comes true."""

import math

import numpy as np
import pytest

from millrace.funnel.routing.calibration import Pairs, chosen, keeping, scored, threshold_after, with_share, within
from millrace.funnel.routing.curves import Counts, Ranked
from millrace.funnel.routing.features import features_of
from millrace.types import Message, Prompt

DRAWS = 200
SPLITS = 40
WITHIN = 35  # of them; 38 are expected, and 33 if intervals forget that the pairs themselves are a sample


def sample(size: int, seed: int) -> Ranked:
    """Return requests of which those with a high score gain most: half a point at a score of 1, none at 0."""
    rng = np.random.default_rng(seed)
    score = rng.random(size)
    large = rng.random(size) < 0.9
    small = rng.random(size) < 0.9 - 0.5 * score
    return Ranked(score, small.astype(float), large.astype(float))


def once(ranked: Ranked) -> Counts:
    return np.ones(len(ranked), np.int64)


def realised(ranked: Ranked, threshold: float) -> tuple[float, float]:
    """Return share and quality of other requests with a threshold."""
    goes = ranked.scores >= threshold
    return float(goes.mean()), float(np.where(goes, ranked.large, ranked.small).mean())


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_is_met(share: float) -> None:
    found = chosen(sample(800, 1), with_share(share), draws=DRAWS)
    assert found.share.value == pytest.approx(share)
    assert realised(sample(800, 1), found.threshold)[0] == pytest.approx(share)


def test_none_and_all_have_infinite_thresholds() -> None:
    ranked = sample(10, 1)
    assert threshold_after(ranked, 0) == math.inf
    assert threshold_after(ranked, len(ranked.ends)) == -math.inf


def test_requests_of_one_score_go_the_same_way() -> None:
    ranked = Ranked(np.array([0.5] * 6 + [0.1] * 4), np.zeros(10), np.ones(10))
    assert chosen(ranked, with_share(0.3), draws=DRAWS).share.value in (0.0, 0.6)


def test_what_comes_of_a_threshold_lies_in_its_intervals_about_as_often_as_it_says() -> None:
    share, quality = 0, 0
    for seed in range(SPLITS):
        found = chosen(sample(600, seed), with_share(0.3), draws=DRAWS)
        came = realised(sample(600, 100 + seed), found.threshold)
        share += found.share.low <= came[0] <= found.share.high
        quality += found.quality.low <= came[1] <= found.quality.high
    assert min(share, quality) >= WITHIN


def test_a_quality_is_kept_as_often_as_it_says() -> None:
    kept = 0
    truth = sample(50_000, 99)
    for seed in range(SPLITS):
        found = chosen(sample(600, seed), keeping(0.95, 0.95), draws=2)
        quality = realised(truth, found.threshold)[1]
        kept += quality >= 0.95 * float(truth.large.mean())
        assert found.share.value < 0.9
    assert kept >= WITHIN


def test_more_confidence_takes_more_large_calls() -> None:
    ranked = sample(600, 1)
    groups = [keeping(0.95, confidence)(ranked, once(ranked)) for confidence in (0.5, 0.8, 0.95, 0.99)]
    assert groups == sorted(set(groups))


def test_few_pairs_keep_a_quality_by_the_large_model_alone() -> None:
    assert chosen(sample(12, 1), keeping(0.98, 0.95), draws=DRAWS).threshold == -math.inf


def test_a_budget_is_spent_and_not_passed() -> None:
    ranked = sample(500, 1)
    costs = np.stack([np.full(500, 0.001), np.full(500, 0.011)])
    found = chosen(ranked, within(4.0, costs), costs, draws=DRAWS)
    assert found.dollars is not None
    assert found.dollars.value == pytest.approx(4.0, abs=0.02)
    assert found.share.value == pytest.approx(0.3, abs=0.01)
    assert chosen(ranked, within(11.0, costs), costs, draws=DRAWS).share.value == 1


def test_scores_are_learned_from_other_rows_only() -> None:
    """Each prompt has words of its own, so nothing that was learned from the others says anything of it."""
    rng = np.random.default_rng(1)
    size = 300
    words = ["".join(chr(ord("a") + int(digit)) for digit in f"{at:03}") for at in range(size)]
    prompts = [Prompt(messages=(Message(role="user", parts=(f"x{word} y{word} z{word}",)),)) for word in words]
    small = (rng.random(size) < 0.5).astype(float)
    pairs = Pairs(features=[features_of(each) for each in prompts], small=small, large=np.ones(size), keys=range(size))
    held_out = Ranked(pairs.cross_validated(), pairs.small, pairs.large).curve().apgr
    learned = Ranked(scored(pairs.fit(), pairs.features), pairs.small, pairs.large).curve().apgr
    assert held_out == pytest.approx(0.5, abs=0.1)
    assert learned > 0.7
