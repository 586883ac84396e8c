"""The router's promises: thresholds that keep a share, a quality or the dollars of a day, place by place."""

import math
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from hypothesis import given, settings, strategies as some

from millrace.funnel.routing import drift, promises, recent
from millrace.funnel.routing.pairs import Pair, Pairs
from millrace.funnel.routing.promises import Place, Promised, Promises
from millrace.funnel.routing.recent import Recent
from millrace.types import Tier
from tests.support.clock import ManualClock

HERE: Place = ("tenant", "auto")
ELSEWHERE: Place = ("another", "auto")
SCORES = some.floats(-1, 1)


def kept(promised: Promised) -> Promises:
    return Promises(promised, ManualClock(0.0))


def route(promised: Promises, score: float, place: Place = HERE) -> Tier:
    """Route a request as the router does."""
    tier = Tier.LARGE if score >= promised.threshold(place).value else Tier.SMALL
    promised.routed(place, score, tier)
    return tier


def judge(promised: Promises, chance: random.Random, pairs: int, *, loss: float) -> None:
    """Have pairs judged of requests that went to the large model first; all scores are alike in their loss."""
    for _ in range(pairs):
        score = chance.random()
        promised.routed(HERE, score, Tier.LARGE)
        promised.judged(HERE, score, Tier.LARGE, float(chance.random() < loss), 0.1)


def test_without_a_promise_the_small_model_is_asked_first() -> None:
    threshold = kept(Promised()).threshold(HERE)
    assert (threshold.value, threshold.reason) == (math.inf, "small first: nothing is promised")


@given(some.lists(SCORES, max_size=600))
def test_quantiles_are_those_of_the_last_requests(scores: list[float]) -> None:
    found = Recent()
    for score in scores:
        found.add(score, Tier.SMALL)
    last = sorted(scores[-recent.LAST :])
    assert len(found) == len(last)
    assert (found.score_of(0), found.score_of(1)) == (math.inf, -math.inf)
    for share in (0.1, 0.5, 0.9):
        reached = sum(score >= found.score_of(share) for score in last)
        assert reached >= round(share * len(last))
        assert sum(score > found.score_of(share) for score in last) <= round(share * len(last))


@settings(max_examples=10)
@given(some.floats(0, 1), some.lists(SCORES, min_size=1, max_size=5), some.integers(0, 2**32))
def test_a_share_is_kept_whatever_the_scores_are(share: float, different: list[float], seed: int) -> None:
    """A few scores that tie, which then drift: a threshold alone cannot split those that tie."""
    chance, promised = random.Random(seed), kept(Promised(large_share=share))
    large = sum(route(promised, chance.choice(different) + at // 1000) is Tier.LARGE for at in range(3000))
    assert large / 3000 == pytest.approx(share, abs=0.03)


def test_requests_that_others_keep_at_the_large_model_count_for_the_share() -> None:
    """A session that is held up costs as much as one that the threshold sends up."""
    chance, promised, large = random.Random(1), kept(Promised(large_share=0.5)), 0
    for _ in range(2000):
        score = chance.random()
        is_large = score >= promised.threshold(HERE).value or chance.random() < 0.3
        promised.routed(HERE, score, Tier.LARGE if is_large else Tier.SMALL)
        large += is_large
    assert large / 2000 == pytest.approx(0.5, abs=0.03)


def test_no_share_is_never_and_all_is_always() -> None:
    for share, value in ((0.0, math.inf), (1.0, -math.inf)):
        promised = kept(Promised(large_share=share))
        for score in range(50):
            route(promised, score)
        assert promised.threshold(HERE).value == value


def test_a_share_says_what_it_is_now() -> None:
    promised = kept(Promised(large_share=0.5))
    for score in range(10):
        route(promised, float(score % 2))
    assert promised.threshold(HERE).reason == "50% to the large model: 50% of the last 10"


def test_quality_is_kept_by_the_large_model_until_the_labels_suffice() -> None:
    promised, chance = kept(Promised(keep_quality=0.95)), random.Random(1)
    assert promised.threshold(HERE).value == -math.inf
    assert promised.threshold(HERE).reason.startswith("large, to keep 0.95 of its quality: 0 labels of ")
    judge(promised, chance, 200, loss=0.0)
    threshold = promised.threshold(HERE)
    assert threshold.binds
    assert threshold.reason == "keeps 0.95 of quality: 200 labels"
    assert {route(promised, chance.random()) for _ in range(100)} == {Tier.SMALL}


def test_the_reason_names_how_many_labels_it_takes() -> None:
    """As many as it says suffice where nothing is lost, and no fewer."""
    promised, chance = kept(Promised(keep_quality=0.9)), random.Random(1)
    least = int(promised.threshold(HERE).reason.split()[-3])
    judge(promised, chance, least - 1, loss=0.0)
    assert promised.threshold(HERE).value == -math.inf
    judge(promised, chance, 1, loss=0.0)
    assert promised.threshold(HERE).value == math.inf


def test_labels_that_say_that_too_much_would_be_lost_keep_the_large_model() -> None:
    promised = kept(Promised(keep_quality=0.95))
    judge(promised, random.Random(1), 500, loss=0.5)
    assert route(promised, 0.5) is Tier.LARGE
    assert promised.threshold(HERE).reason.endswith("500 labels that say it would not keep it")


@settings(max_examples=2)
@given(some.integers(0, 2**32))
def test_a_small_share_that_would_break_the_promise_is_found_seldom(seed: int) -> None:
    """Of 40 places in which each small answer loses a little too much, few are wrong at any time of 300 labels."""
    chance, wrong = random.Random(seed), 0
    for _ in range(40):
        pairs = Pairs()
        for at in range(300):
            pairs.add(Pair(rank=0.0, loss=float(chance.random() < 0.11), large=1.0, weight=1.0))
            if at % 10 == 0 and pairs.small_share(0.9, 0.95):
                wrong += 1
                break
    assert wrong <= 8  # 2 are expected at most


@given(some.lists(some.tuples(some.floats(0, 1), some.sampled_from([-1, 0, 1])), min_size=1, max_size=60))
def test_more_quality_never_allows_more_small_answers(found: list[tuple[float, int]]) -> None:
    pairs = Pairs([Pair(rank=rank, loss=loss, large=float(loss >= 0), weight=1.0) for rank, loss in found])
    shares = [pairs.small_share(quality, 0.95) for quality in (0.5, 0.8, 0.95, 1.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0.0 or any(loss < 0 for _, loss in found)


def test_a_small_answer_that_the_checks_fail_loses_nothing() -> None:
    promised, chance = kept(Promised(keep_quality=0.9)), random.Random(1)
    judge(promised, chance, 100, loss=0.0)
    for _ in range(500):  # the large model alone is right, but its answer is what the user gets
        promised.judged(HERE, 0.0, Tier.SMALL, 1.0, 1.0, failed=True)
    assert promised.threshold(HERE).value == math.inf
    labels = int(promised.threshold(HERE).reason.split()[-2])
    assert labels == 150  # 500 of weight 1 are as much as 50 of weight 10


def test_a_pair_of_an_answer_that_was_given_takes_the_place_of_one_that_no_check_has_seen() -> None:
    """Else what would be lost without checks would count for as long as the pair is remembered."""
    pairs = Pairs([Pair(rank=rank, loss=1.0, large=1.0, weight=1.0, is_checked=False) for rank in (0.1, 0.9)])
    pairs.add(Pair(rank=0.11, loss=0.0, large=1.0, weight=1.0))
    assert [(pair.rank, pair.loss) for pair in pairs.all] == [(0.9, 1.0), (0.11, 0.0)]


def test_what_was_not_taken_at_random_is_no_label() -> None:
    promised = kept(Promised(keep_quality=0.9))
    for _ in range(200):
        promised.judged(HERE, 0.0, Tier.SMALL, 0.0, 0.0)
    assert promised.threshold(HERE).value == -math.inf


def small_answers(promised: Promises, chance: random.Random, count: int, fails: float) -> None:
    for _ in range(count):
        score = chance.random()
        if route(promised, score) is Tier.SMALL:
            promised.flagged(HERE, Tier.SMALL, chance.random() < fails, score)


def test_checks_that_fail_more_small_answers_than_before_tighten_quality_and_then_begin_anew() -> None:
    promised, chance = kept(Promised(keep_quality=0.9)), random.Random(1)
    judge(promised, chance, 200, loss=0.0)
    small_answers(promised, chance, 2000, 0.3)
    assert promised.threshold(HERE).value == math.inf
    reasons = set[str]()
    for _ in range(500):
        small_answers(promised, chance, 10, 0.5)
        reasons.add(promised.threshold(HERE).reason)
        if promised.threshold(HERE).value == -math.inf:
            break
    assert any("of small answers, " in reason and reason.endswith("% before") for reason in reasons)
    assert promised.threshold(HERE).value == -math.inf
    assert promised.threshold(HERE).reason.startswith("large, to keep 0.9 of its quality: 0 labels of")


def test_labels_that_are_dropped_while_they_are_looked_at_stay_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked at on another thread than the one that drops them."""
    promised, chance, look = kept(Promised(keep_quality=0.9)), random.Random(1), Pairs.small_share
    judge(promised, chance, 200, loss=0.0)
    small_answers(promised, chance, 2000, 0.3)

    def slow(pairs: Pairs, quality: float, confidence: float) -> float:
        found = look(pairs, quality, confidence)
        monkeypatch.setattr(Pairs, "small_share", look)
        small_answers(promised, chance, 1000, 0.9)
        return found

    monkeypatch.setattr(Pairs, "small_share", slow)
    judge(promised, chance, 1, loss=0.0)
    assert promised.threshold(HERE).value == -math.inf


def test_what_was_judged_is_looked_at_once_and_not_by_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    promised = kept(Promised(keep_quality=0.95))
    judge(promised, random.Random(1), 500, loss=0.5)
    monkeypatch.setattr(Pairs, "least", None)
    assert promised.threshold(HERE).value == -math.inf


def test_it_is_dumped_while_requests_of_many_are_routed() -> None:
    promised, ended = kept(Promised(large_share=0.5)), threading.Event()

    def requests() -> None:
        while not ended.is_set():
            for number in range(20):
                promised.routed((f"tenant {number}", "auto"), 0.5, Tier.SMALL)

    with ThreadPoolExecutor() as pool:
        routing = pool.submit(requests)
        try:
            dumped = [promised.dumped() for _ in range(200)]
        finally:
            ended.set()
        routing.result()
    assert all(kept(Promised(large_share=0.5)).restored(each) for each in dumped)


def test_checks_that_fail_as_many_as_before_tighten_nothing() -> None:
    chance, risen = random.Random(1), 0
    for _ in range(20):
        found = drift.Drift()
        for _ in range(3000):
            rank = chance.random()
            found.judged(rank, failed=chance.random() < 0.1 + 0.4 * rank)
            risen += found.has_risen
            if found.has_risen:
                break
    assert risen <= 2


def test_which_requests_are_asked_of_the_small_model_may_change_without_alarm() -> None:
    """Higher scores fail more often, and that is no news."""
    found, chance = drift.Drift(), random.Random(1)
    for width in (0.5, 1.0, 0.5, 1.0):
        for _ in range(1000):
            rank = chance.random() * width
            found.judged(rank, failed=chance.random() < 0.1 + 0.5 * rank)
            assert not found.has_risen


def test_verdicts_on_the_large_model_and_those_that_pass_loosen_nothing() -> None:
    promised = kept(Promised(keep_quality=0.9))
    for _ in range(1000):
        promised.flagged(HERE, Tier.SMALL, False, 0.0)
        promised.flagged(HERE, Tier.LARGE, True, 0.0)
    assert promised.threshold(HERE).value == -math.inf


def test_tenants_and_names_never_meet() -> None:
    promised = kept(Promised(keep_quality=0.9))
    judge(promised, random.Random(1), 200, loss=0.0)
    assert promised.threshold(HERE).value == math.inf
    assert promised.threshold(ELSEWHERE).value == -math.inf
    assert promised.threshold(("tenant", "quick")).value == -math.inf


def test_places_are_bounded_and_the_oldest_one_begins_anew() -> None:
    promised = kept(Promised(keep_quality=0.9))
    judge(promised, random.Random(1), 200, loss=0.0)
    for number in range(promises.PLACES):
        promised.threshold((f"tenant {number}", "auto"))
    assert promised.threshold(HERE).value == -math.inf


def test_pairs_say_what_each_share_would_keep() -> None:
    promised = kept(Promised())
    for score in range(100):
        promised.routed(HERE, float(score), Tier.SMALL)
    for score in range(100):
        promised.judged(HERE, float(score), Tier.LARGE, float(score >= 80), 1.0)
    kept_by = {round(each.large_share, 2): round(each.quality, 2) for each in promised.outlook(HERE)}
    assert (kept_by[0.0], kept_by[0.1], kept_by[0.2], kept_by[0.5]) == (0.8, 0.9, 1.0, 1.0)
    assert promised.outlook(ELSEWHERE) == []


@pytest.mark.parametrize(
    "promised",
    [Promised(large_share=0.3), Promised(keep_quality=0.9), Promised(spend_per_day=Decimal(1)), Promised()],
    ids=["share", "quality", "dollars", "nothing"],
)
def test_what_was_learned_outlives_a_restart(promised: Promised) -> None:
    before, chance = kept(promised), random.Random(1)
    judge(before, chance, 200, loss=0.05)
    small_answers(before, chance, 500, 0.3)
    for tier in (Tier.SMALL, Tier.LARGE, None):
        before.spent(HERE, tier, Decimal("0.01"))
    after = kept(promised)
    assert after.restored(before.dumped())
    assert after.threshold(HERE).value == before.threshold(HERE).value
    assert after.dumped() == before.dumped()


@pytest.mark.parametrize("damaged", [b"", b"\x93\x01", b"\xff" * 100])
def test_what_is_damaged_or_of_another_version_is_not_restored(damaged: bytes) -> None:
    promised = kept(Promised(keep_quality=0.9))
    assert not promised.restored(damaged)
    other = bytearray(promised.dumped())
    other[1] = promises.VERSION + 1
    assert not promised.restored(bytes(other))
    assert promised.threshold(HERE).value == -math.inf


def test_another_promise_holds_from_now_on_and_what_is_known_stays() -> None:
    promised = kept(Promised(large_share=0.5))
    for number in range(100):
        route(promised, number / 100)
    promised.promise(Promised(large_share=1.0))
    assert promised.threshold(HERE).reason.startswith("100% to the large model")
    assert {route(promised, score / 100) for score in range(100)} == {Tier.LARGE}
    promised.promise(Promised())
    assert promised.threshold(HERE).value == math.inf
    promised.promise(Promised(spend_per_day=Decimal(0)))
    assert promised.threshold(HERE).reason.startswith("0.00 of 0.00 dollars")
    promised.promise(Promised(large_share=0.0))
    assert route(promised, 1.0) is Tier.SMALL
    assert promised.places == [HERE]


def test_a_promise_of_quality_is_decided_by_the_pairs_that_are_known() -> None:
    promised, chance = kept(Promised(large_share=1.0)), random.Random(0)
    judge(promised, chance, 1500, loss=0.0)
    promised.promise(Promised(keep_quality=0.9))
    promised.threshold(HERE)
    assert promised.threshold(HERE).value > -math.inf
    promised.promise(Promised(keep_quality=0.9999))
    promised.threshold(HERE)
    assert promised.threshold(HERE).value == -math.inf
