"""Limits per key: what is refused, with which code, and until when; what is booked, and what a restart remembers."""

from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from millrace.errors import MillraceError
from millrace.ports import Admitted
from millrace.principal import Limits, Principal, Role
from millrace.stores.accounts import DAY_S, Window
from millrace.stores.limits import MemoryLimiter

NOON = 20_000 * DAY_S + DAY_S / 2.0


class Bench:
    """A limiter, and a clock turned by hand."""

    def __init__(self, **limits: object) -> None:
        self.now = 0.0
        self.owner = Principal(key_id="k", tenant="t", role=Role.USE, limits=Limits(**limits))  # type: ignore[arg-type]
        self.limiter = MemoryLimiter(lambda: self.now, lambda: NOON + self.now)

    def admit(self, cost: str = "0", tokens: int = 0) -> Admitted:
        return self.limiter.admit(self.owner, Decimal(cost), tokens)

    def refused(self, cost: str = "0", tokens: int = 0) -> tuple[str, int | None]:
        with pytest.raises(MillraceError) as refused:
            self.admit(cost, tokens)
        return refused.value.code, refused.value.retry_after_ms


def test_a_key_without_limits_is_not_counted() -> None:
    """However much it does."""
    bench = Bench()
    for _ in range(100):
        bench.admit("1000", 10**9).settle(Decimal(1000), 10**9)


def test_requests_a_minute() -> None:
    """A refused one does not count; the time to come back is a time at which one is let in."""
    bench = Bench(requests_per_minute=3)
    for bench.now in (0.5, 10.0, 10.9):
        bench.admit().settle(Decimal(0), 0)
    code, wait_ms = bench.refused()
    assert (code, wait_ms is not None) == ("rate_limit_exceeded", True)
    assert wait_ms is not None
    assert 0 < wait_ms <= 61_000
    bench.now += wait_ms / 1000
    bench.admit()
    assert bench.refused()[0] == "rate_limit_exceeded"


@given(st.lists(st.floats(0, 20), max_size=200), st.integers(1, 10))
def test_never_more_requests_in_any_minute(pauses: list[float], limit: int) -> None:
    """Whenever they come; and with a minute's pause there is always room."""
    bench = Bench(requests_per_minute=limit)
    admitted: list[float] = []
    waits: list[int | None] = []
    for pause in pauses:
        bench.now += pause
        try:
            bench.admit().settle(Decimal(0), 0)
            admitted.append(bench.now)
        except MillraceError as error:
            waits.append(error.retry_after_ms)
    assert all(wait is not None and 0 < wait <= 61_001 for wait in waits)
    for first, later in zip(admitted, admitted[limit:], strict=False):
        assert later - first >= 60
    bench.now += 61
    bench.admit()


def test_tokens_a_minute_are_reserved_and_then_booked() -> None:
    """What was reserved is given back for what was used."""
    bench = Bench(tokens_per_minute=1000)
    running = bench.admit(tokens=900)
    assert bench.refused(tokens=200) == ("rate_limit_exceeded", 1000)
    running.settle(Decimal(0), 300)
    bench.admit(tokens=700).settle(Decimal(0), 700)
    code, wait_ms = bench.refused(tokens=1)
    assert (code, wait_ms) == ("rate_limit_exceeded", 61_001)
    bench.now += 61.001
    bench.admit(tokens=1000)


def test_a_request_over_the_whole_limit_is_told_so() -> None:
    """No time to come back would help, and no client repeats it; both numbers are told."""
    bench = Bench(tokens_per_minute=1000)
    with pytest.raises(MillraceError, match=r"1001 tokens, but this key only 1000 a minute") as refused:
        bench.admit(tokens=1001)
    assert (refused.value.code, refused.value.rule.retry, refused.value.retry_after_ms) == (
        "budget_exceeded",
        False,
        None,
    )


def test_requests_in_flight() -> None:
    """One that ends makes room, once."""
    bench = Bench(in_flight=2)
    first, _ = bench.admit(), bench.admit()
    assert bench.refused() == ("too_many_in_flight", 1000)
    for _ in range(3):
        first.settle(Decimal(0), 0)
    bench.admit()
    assert bench.refused()[0] == "too_many_in_flight"


def test_a_spent_budget_is_not_one_that_is_reserved() -> None:
    """Spent stays spent until midnight; what is only reserved may come back."""
    bench = Bench(dollars_per_day=Decimal(10))
    running = bench.admit("6")
    assert bench.refused("6") == ("rate_limit_exceeded", 1000)
    running.settle(Decimal(1), 0)
    bench.admit("6").settle(Decimal(9), 0)
    assert bench.refused("0") == ("budget_exceeded", None)
    bench.now = DAY_S / 2
    bench.admit("10")


def test_what_is_left_has_to_cover_the_likely_cost() -> None:
    """A request that is dearer than what is left is refused for the day, whoever else is running."""
    bench = Bench(dollars_per_day=Decimal(10))
    bench.admit("4").settle(Decimal(4), 0)
    assert bench.refused("6.01") == ("budget_exceeded", None)
    bench.admit("6")


def test_what_runs_over_midnight_is_booked_when_it_ends() -> None:
    """And is given back from what was reserved the day before."""
    bench = Bench(dollars_per_day=Decimal(10))
    running = bench.admit("9")
    bench.now = DAY_S / 2
    assert bench.refused("2") == ("rate_limit_exceeded", 1000)
    running.settle(Decimal(3), 0)
    bench.admit("7")


def test_keys_do_not_share_limits() -> None:
    """Nor do two keys of one tenant."""
    bench = Bench(in_flight=1)
    bench.admit()
    neighbour = Principal(key_id="l", tenant="t", role=Role.USE, limits=Limits(in_flight=1))
    bench.limiter.admit(neighbour, Decimal(0), 0)


def test_a_window_is_bounded() -> None:
    """A million uses in a minute are 62 numbers."""
    window = Window()
    for step in range(100_000):
        window.expire(step / 1000)
        window.add(step / 1000, 1)
    assert len(window._seconds) <= 62
    assert window.used == sum(amount for _, amount in window._seconds)


def test_more_is_reserved_as_far_as_the_budget_goes() -> None:
    """Of dollars, and of the minute as many tokens as they buy. All of it is given back at the end."""
    bench = Bench(dollars_per_day=Decimal(10), tokens_per_minute=1000)
    first, other = bench.admit("4", 100), bench.admit("4", 100)
    assert first.reserve_more(Decimal("1.5"), 500) == Decimal("1.5")
    assert other.reserve_more(Decimal("1.5"), 500) == Decimal("0.5")
    assert other.reserve_more(Decimal(1), 0) == 0
    assert bench.refused(tokens=200)[0] == "rate_limit_exceeded"
    first.settle(Decimal(1), 10)
    assert other.reserve_more(Decimal(9), 0) == Decimal("4.5")
    other.settle(Decimal(2), 10)
    bench.admit("7", 900)


def test_where_no_dollars_are_left_no_tokens_are_reserved() -> None:
    """It is asked ten times a second, and the minute of the key would soon be full of nothing."""
    bench = Bench(dollars_per_day=Decimal(1), tokens_per_minute=1000)
    running = bench.admit("1", 100)
    for _ in range(50):
        assert running.reserve_more(Decimal("0.5"), 100) == 0
    running.settle(Decimal("0.5"), 100)
    again = bench.admit("0.2", 700)
    assert again.reserve_more(Decimal("0.6"), 180) == Decimal("0.3")
    bench.admit("0", 110)
    assert bench.refused("0", 1)[0] == "rate_limit_exceeded"


def test_without_a_budget_all_is_granted() -> None:
    for bench in (Bench(), Bench(in_flight=1)):
        assert bench.admit().reserve_more(Decimal(10**6), 1) == 10**6
