"""The running TTFT of a model: exact quantiles of its last calls, and whether it is slower than it used to be."""

import random

import pytest

from millrace.funnel.ttft import HALF_LIFE_S, KEPT_S, LEAST, WINDOW, Ttft


def filled(times: list[float], *, every_s: float = 1.0, ttft: Ttft | None = None, at: float = 0.0) -> Ttft:
    ttft = ttft or Ttft()
    for number, seconds in enumerate(times):
        ttft.add(at + number * every_s, seconds)
    return ttft


def test_no_quantile_before_enough_calls() -> None:
    """A p95 of a few calls is the slowest of them."""
    assert filled([1.0] * (LEAST - 1)).quantile(0.95) is None
    assert filled([1.0] * LEAST).quantile(0.95) == 1.0


def test_the_quantiles_are_those_of_the_last_calls() -> None:
    """Exactly; what came before the window does not count."""
    numbers = random.Random(1)
    times = [numbers.lognormvariate(0, 1) for _ in range(3 * WINDOW)]
    last = sorted(times[-WINDOW:])
    ttft = filled(times)
    assert ttft.quantile(0.95) == last[-(-WINDOW * 95 // 100) - 1]
    assert ttft.quantile(0.5) == last[WINDOW // 2 - 1]


def test_old_calls_are_forgotten() -> None:
    """Also if few come after them."""
    ttft = filled([1.0] * LEAST)
    ttft.add(LEAST + KEPT_S, 2.0)
    assert ttft.quantile(0.5) is None


def test_calls_that_were_left_keep_the_percentile_where_it_is() -> None:
    """A loser is closed before it answers. Without it the p95 would sink from hedge to hedge."""
    numbers = random.Random(2)
    ttft, dropped = Ttft(), Ttft()
    for at in range(4000):
        seconds = numbers.lognormvariate(0, 0.3)
        for each, counts in ((ttft, True), (dropped, False)):
            p95 = each.quantile(0.95)
            if p95 is None or seconds <= p95:
                each.add(at, seconds)
            elif counts:
                each.add_silent(at, p95 + 0.05)
    real = 1.64  # of this distribution
    kept, sunk = ttft.quantile(0.95), dropped.quantile(0.95)
    assert kept is not None
    assert sunk is not None
    assert kept == pytest.approx(real, rel=0.2)
    assert sunk < 0.7 * real


def test_a_call_that_was_left_early_says_nothing() -> None:
    """A client that goes after a tenth of a second has not seen a quick model."""
    ttft = filled([1.0] * LEAST)
    ttft.add_silent(LEAST, 0.1)
    ttft.add_silent(LEAST, 3.0)
    assert ttft.quantile(0.5) == 1.0
    assert len(ttft._sorted) == LEAST + 1


def test_twice_the_usual_median_is_slow() -> None:
    """One slow call in ten is not."""
    ttft = filled([1.0] * 100)
    assert ttft.is_slow(100) is False
    filled([1.0, 1.0, 1.0, 9.0] * 8, ttft=ttft, at=100)
    assert ttft.is_slow(132) is False
    filled([3.0] * 30, ttft=ttft, at=132)
    assert ttft.is_slow(162) is True


def test_what_is_slow_for_good_becomes_usual() -> None:
    """After some minutes, so that hedges come back."""
    ttft = filled([1.0] * 100)
    filled([3.0] * int(2 * HALF_LIFE_S), ttft=ttft, at=100)
    assert ttft.is_slow(100 + 2 * HALF_LIFE_S) is False


def test_a_model_that_is_not_called_is_neither() -> None:
    """Nobody knows how it is now."""
    ttft = filled([1.0] * 100)
    assert ttft.is_slow(100 + 600) is None
    assert Ttft().is_slow(0) is None
