"""The promise of dollars a day: how the money of a day of UTC is divided among its requests."""

import math
import random
from collections.abc import Callable
from decimal import Decimal

import pytest

from millrace.funnel.routing.promises import Place, Promised, Promises
from millrace.funnel.routing.spending import DAY, FORGOTTEN_S, MOST, SLOTS, Allowed, Spending, SpendingLoop, Way
from millrace.types import Tier
from tests.support.clock import ManualClock

HERE: Place = ("tenant", "auto")
NOON = DAY // 2
COSTS = {Tier.SMALL: 0.0006, Tier.LARGE: 0.01}
Busy = Callable[[float], float]  # how busy a part of the day is, from 0 to 1


def even(_: float) -> float:
    return 1 / 3


def by_hours(part: float) -> float:
    """Few requests at night, most in the afternoon."""
    return math.exp(1.2 * math.sin((part - 0.4) * 2 * math.pi)) / 3.4


def spend(
    dollars: str, *, days: int = 3, size: int = 500, busy: Busy = by_hours, dearer: float = 1.0, seed: int = 1
) -> list[float]:
    """Return what days cost. In the middle of the last but one all costs rise."""
    clock, chance = ManualClock(0.0), random.Random(seed)
    promised = Promises(Promised(spend_per_day=Decimal(dollars)), clock)
    spent = [0.0] * days
    for at in sorted(chance.uniform(0, days * DAY) for _ in range(days * size * 3)):
        if chance.random() > busy(at % DAY / DAY):
            continue
        clock.now, score = at, chance.random()
        tier = Tier.LARGE if score >= promised.threshold(HERE).value else Tier.SMALL
        promised.routed(HERE, score, tier)
        cost = COSTS[tier] * chance.uniform(0.2, 1.8) * (dearer if at > (days - 1.5) * DAY else 1.0)
        promised.spent(HERE, tier, Decimal(str(cost)))
        spent[int(at // DAY)] += cost
    return spent


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("dearer", [1.0, 3.0])
@pytest.mark.parametrize("busy", [even, by_hours])
def test_a_day_is_never_over_by_two_percent_and_later_ones_are_near(busy: Busy, dearer: float, seed: int) -> None:
    days = spend("2.5", busy=busy, dearer=dearer, seed=seed)
    assert max(days) <= 2.5 * 1.02
    assert days[-1] >= 2.5 * 0.9


def test_an_answer_dearer_than_any_before_does_not_pass_the_day_as_it_ends() -> None:
    loop, chance = SpendingLoop(1.0), random.Random(7)
    for at in range(1000):
        loop.settled(Way.SMALL, 0.00001, float(at))
        loop.settled(Way.LARGE, 0.0001 * math.exp(chance.gauss(0, 0.8)), float(at))
    large, loop.state.spent = loop.state.large, 0.0
    assert large.rarely == pytest.approx(0.0001 * math.exp(4 * 0.8), rel=0.25)
    assert large.peak < large.rarely
    loop.dollars = 10 * large.rarely
    loop.routed(Way.SMALL, DAY - 60.0)
    loop.state.spent = loop.dollars * MOST - 1.1 * large.rarely
    assert loop.allowed(DAY - 30.0).large > 0
    loop.state.spent = loop.dollars * MOST - 0.9 * large.rarely
    assert loop.allowed(DAY - 30.0).large == 0
    for _ in range(30):
        loop.settled(Way.LARGE, 3 * large.mean, DAY - 30.0)
    assert large.rarely == pytest.approx(0.0003 * math.exp(4 * 0.8), rel=0.35)


def test_money_for_more_than_the_traffic_costs_goes_to_the_large_model() -> None:
    (day,) = spend("1000", days=1, size=500)
    assert day > 0.8 * 500 * COSTS[Tier.LARGE]


def test_where_even_the_small_model_alone_passes_it_that_is_said() -> None:
    loop = SpendingLoop(0.01)
    for at in range(100):
        loop.routed(Way.SMALL, at * 60.0)
        loop.settled(Way.SMALL, 0.001, at * 60.0)
    loop.settled(Way.LARGE, 0.01, 6000.0)
    assert loop.allowed(6000.0) == Allowed(
        0.0, alone=False, reason="0.11 of 0.01 dollars; even the small model alone may pass it"
    )


@pytest.mark.parametrize(("spent", "alone"), [(8.0, False), (8.98, True), (20.0, True)])
def test_what_is_left_is_kept_for_small_answers_where_it_does_not_pay_for_escalations(
    spent: float, *, alone: bool
) -> None:
    """Of 96 more requests at 0.01 dollars, of which each tenth costs 0.1 dollars more."""
    loop = SpendingLoop(10.0, Spending(usual=[1.0] * SLOTS, days=1.0, wrong=[0.0] * 24))
    loop.state.turn(0.0)
    for number in range(200):
        loop.settled(Way.SMALL, 0.01 if number % 10 else 0.11, 0.0, 0.01)
        loop.settled(Way.LARGE, 0.1, 0.0)
    loop.state.spent = spent
    allowed = loop.allowed(0.0)
    assert allowed.alone is alone
    assert ("pays for no escalations" in allowed.reason) is alone


def test_where_small_answers_are_never_escalated_there_is_nothing_to_spare() -> None:
    loop = SpendingLoop(1.0)
    for _ in range(100):
        loop.settled(Way.SMALL, 0.01, 0.0, 0.01)
        loop.settled(Way.LARGE, 0.1, 0.0)
    assert not loop.allowed(0.0).alone


def test_what_costs_scatter_by_is_no_change_of_the_price() -> None:
    """Escalations: one in five costs ten times as much."""
    chance, loop = random.Random(1), SpendingLoop(10.0)
    for _ in range(3000):
        loop.settled(Way.SMALL, 1.0 if chance.random() < 0.2 else 0.1, 0.0)
    assert loop.state.small.count > 200
    assert loop.state.small.mean == pytest.approx(0.28, rel=0.2)


def test_requests_that_run_are_reckoned_with_until_they_are_forgotten() -> None:
    """Else a burst of requests would all find the same money."""
    loop = SpendingLoop(1.0, Spending(day=0, usual=[1.0] * SLOTS))
    for tier, cost in COSTS.items():
        loop.settled(Way.of(tier, escalates=True), cost, NOON)
    for _ in range(100):
        loop.routed(Way.LARGE, NOON)
    assert loop.allowed(NOON).large == 0.0
    assert loop.allowed(NOON + FORGOTTEN_S + 1).large > 0.0


def test_the_dearest_answer_is_not_asked_for_when_it_would_pass_the_money() -> None:
    loop = SpendingLoop(10.0, Spending(day=0, usual=[1.0] * SLOTS))
    late = DAY - 600.0
    for cost in (*[0.1] * 200, 1.0, 0.1, 0.1):
        loop.settled(Way.LARGE, cost, late)
    loop.settled(Way.SMALL, 0.001, late)
    loop.state.spent = 9.0
    assert loop.allowed(late).large > 0.0
    loop.state.spent = 9.5
    assert loop.allowed(late) == Allowed(
        0.0, alone=False, reason="9.50 of 10.00 dollars; the rest is kept for the small model"
    )


def test_more_is_kept_back_the_less_the_traffic_is_known_and_the_longer_the_day() -> None:
    def kept_back(sizes: list[int]) -> list[float]:
        loop = SpendingLoop(10.0)
        for day, size in enumerate(sizes):
            for at in range(size):
                loop.routed(Way.SMALL, (day + at / size) * DAY)
        today = len(sizes) * DAY
        loop.state.turn(today)
        return [
            loop.state.at_most(loop.state.expected(now), now) - loop.state.expected(now)
            for now in (today, today + NOON, today + DAY - 60)
        ]

    steady, wild = kept_back([400] * 12), kept_back([200, 600] * 6)
    assert steady[0] < wild[0] / 2
    assert steady[0] > steady[1] > steady[2] >= 0.0
    assert steady[2] < 1.0


def test_what_was_spent_before_the_state_was_read_counts_on() -> None:
    loop = SpendingLoop(10.0)
    loop.settled(Way.SMALL, 2.0, NOON)
    loop.take_over(Spending(day=0, spent=3.0), NOON)
    assert loop.state.spent == 5.0
    loop.take_over(Spending(day=0, spent=3.0), DAY + 0.0)
    assert loop.state.spent == 0.0


def test_what_was_not_routed_counts_but_teaches_no_cost() -> None:
    loop = SpendingLoop(10.0)
    loop.settled(None, 7.0, 0.0)
    assert (loop.state.spent, loop.state.small.count, loop.state.large.count) == (7.0, 0, 0)


def test_a_new_day_of_utc_begins_with_nothing_spent() -> None:
    loop = SpendingLoop(10.0)
    loop.routed(Way.SMALL, DAY - 1)
    loop.settled(Way.SMALL, 7.0, DAY - 1)
    loop.allowed(DAY + 0.0)
    assert (loop.state.day, loop.state.spent) == (1, 0.0)


def test_a_price_that_rises_threefold_is_learned_within_two_hundred_requests() -> None:
    loop = SpendingLoop(10.0)
    for cost in (1.0, 3.0):
        for _ in range(500):
            loop.settled(Way.LARGE, cost, 0.0)
    assert loop.state.large.mean == pytest.approx(3.0, rel=0.05)


def test_the_hours_of_earlier_days_say_what_is_expected() -> None:
    loop = SpendingLoop(10.0)
    loop.state.turn(0.0)
    for hour in (9, 15, 15, 15):
        loop.routed(Way.SMALL, hour * 3600.0)
    loop.state.turn(DAY)
    assert loop.state.expected(DAY) == pytest.approx(4, abs=0.5)
    assert loop.state.expected(DAY + 18 * 3600) == pytest.approx(0, abs=0.1)
