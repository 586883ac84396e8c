"""The memory budget: caches give way, then requests are refused."""

import pytest

from millrace.errors import MillraceError
from millrace.memory import MemoryBudget


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


def test_all_accounts_count_together() -> None:
    made = budget(Store(40), Store(50))
    assert made.used == 90
    made.admit(10)
    with pytest.raises(MillraceError, match="memory") as refused:
        made.admit(11)
    assert (refused.value.code, refused.value.rule.retry, refused.value.retry_after_ms) == ("overloaded", True, 1000)


def test_caches_give_way_one_after_the_other_and_no_more_than_they_must() -> None:
    first, store, second, third = Store(30, 10), Store(40), Store(30, 30), Store(0, 1)
    budget(first, store, second, third).admit(20)
    assert (first.asked, store.asked, second.asked, third.asked) == ([20], [], [10], [])


def test_no_account_is_allowed_more_than_all() -> None:
    made = MemoryBudget(100)
    made.add("small", lambda: 0, 10)
    made.add("large", lambda: 0, 1000)
    made.add("without a bound of its own", lambda: 0)
    assert [account.allowed for account in made.accounts] == [10, 100, 100]
