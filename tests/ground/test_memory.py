"""The memory budget: caches give way, then requests are refused; each tenant has its share."""

import pytest

from millrace.errors import MillraceError
from millrace.memory import SHORT, MemoryBudget


class Store:
    """Something that keeps bytes, and frees at most so many of them."""

    def __init__(self, used: int, spare: int = 0) -> None:
        self.used = used
        self.spare = spare
        self.asked: list[int] = []

    def give_way(self, size: int) -> None:
        self.asked.append(size)
        freed = min(size, self.spare)
        self.used -= freed
        self.spare -= freed


def budget(*stores: Store, limit: int = 100) -> MemoryBudget:
    made = MemoryBudget(limit)
    for store in stores:
        made.add("store", lambda store=store: store.used, give_way=store.give_way if store.spare else None)  # type: ignore[misc]
    return made


def filled(made: MemoryBudget, tenant: str, step: int = 1) -> int:
    """Hold as much for a tenant as it may, in steps; return that."""
    count = 0
    while True:
        try:
            made.hold(tenant).resize(step)
        except MillraceError:
            return count * step
        count += 1


def test_all_accounts_count_together() -> None:
    made = budget(Store(40), Store(50))
    assert made.used == 90
    made.check("t", 10)
    with pytest.raises(MillraceError, match="memory") as refused:
        made.check("t", 11)
    assert (refused.value.code, refused.value.rule.retry, refused.value.retry_after_ms) == ("overloaded", True, 1000)


def test_caches_give_way_one_after_the_other_and_no_more_than_they_must() -> None:
    first, store, second, third = Store(30, 10), Store(40), Store(30, 30), Store(0, 1)
    budget(first, store, second, third).check("t", 20)
    assert (first.asked, store.asked, second.asked, third.asked) == ([20], [], [10], [])


def test_no_account_is_allowed_more_than_all() -> None:
    made = MemoryBudget(100)
    made.add("small", lambda: 0, 10)
    made.add("large", lambda: 0, 1000)
    made.add("without a bound of its own", lambda: 0)
    assert [account.allowed for account in made.accounts] == [100, 10, 100, 100]


def test_a_tenant_holds_as_much_as_is_free_and_there_is_always_room_for_one_more() -> None:
    """One alone half of all, the next a quarter, whoever comes; and what one gives back the others may have."""
    made = MemoryBudget(1024)
    assert [filled(made, tenant) for tenant in ("a", "b", "c", "d")] == [512, 256, 128, 64]
    assert filled(made, "a") == 0
    made.requests.count("a", -512)
    assert filled(made, "d", 8) == 256


def test_one_thing_alone_may_take_all_that_is_free() -> None:
    """At once or bit by bit, whatever others hold. A second one may not."""
    made = MemoryBudget(100)
    made.hold("other").resize(30)
    growing = made.hold("t")
    for size in range(1, 71):
        growing.resize(size)
    with pytest.raises(MillraceError):
        growing.resize(71)
    assert growing.size == 70
    with pytest.raises(MillraceError):
        made.hold("t").resize(1)


def test_a_hold_is_handed_over_without_a_gap_and_closed_once() -> None:
    made = MemoryBudget(100)
    frame = made.hold("t")
    frame.resize(40)
    run = frame.move()
    assert (frame.size, run.size, made.requests.held("t")) == (0, 40, 40)
    rest = run.move(15)
    run.count(90)
    assert made.requests.held("t") == 105
    for each in (frame, run, rest, run):
        each.close()
    assert (made.used, made.requests.held("t"), run.move(5).size) == (0, 0, 0)


@pytest.mark.parametrize(("many", "long", "short"), [(True, 1 / 3, 1 / 2), (False, 1 / 2, 1)])
def test_what_is_long_leaves_room_for_what_is_short(*, many: bool, long: float, short: float) -> None:
    """Of the same tenant too; where there is only one tenant, it has all."""
    made = MemoryBudget(1200 * SHORT, lambda: many)
    assert filled(made, "t", 2 * SHORT) == pytest.approx(long * made.limit, rel=0.01)
    assert filled(made, "t", SHORT) == pytest.approx((short - long) * made.limit, rel=0.05)
