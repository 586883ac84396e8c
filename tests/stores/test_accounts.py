"""Limits of tenants, end users and tags beside those of a key: all reserve or none, and what each has left."""

import asyncio
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.errors import MillraceError
from millrace.ports import Admitted
from millrace.principal import UNLIMITED, LimitRules, Limits, Principal, Role
from millrace.stores.accounts import DAY_S, Today
from millrace.stores.limits import MemoryLimiter
from millrace.types import EVIDENCE_TENANT
from millrace.types.budget import AccountKind, AccountName, Period, Reached, Spent, Step, Steps

NOON = 20_000 * DAY_S + DAY_S / 2.0  # 4 October 2024
STEPS: Steps = ((Decimal("0.8"), Step.WARN), (Decimal("0.9"), Step.SMALL), (Decimal(1), Step.CACHE))


class Bench:
    """A limiter, a clock turned by hand, and a ledger that is a dict."""

    def __init__(self, key: Limits = UNLIMITED, steps: Steps = (), most: int = 10, **rules: Any) -> None:
        self.now = 0.0
        self.spent: dict[AccountName, Spent] = {}
        self.reads: list[tuple[tuple[AccountName, ...], bool]] = []
        self.fails = False
        self.owner = Principal(key_id="k", tenant="acme", role=Role.USE, limits=key)
        self.limiter = MemoryLimiter(
            lambda: self.now, lambda: NOON + self.now, self.read, LimitRules(**rules), steps, most=most
        )
        self.reached: list[Reached] = []
        self.limiter.on_reached = self.reached.append

    async def read(self, names: Collection[AccountName], after_writes: bool) -> Mapping[AccountName, Spent]:
        self.reads.append((tuple(names), after_writes))
        await asyncio.sleep(0)
        if self.fails:
            raise TimeoutError
        return {name: self.spent[name] for name in names if name in self.spent}

    def admit(self, cost: str = "0", tokens: int = 0, user: str = "", tag: str = "", **how: Any) -> Admitted:
        return self.limiter.admit(how.pop("owner", self.owner), Decimal(cost), tokens, user, tag, **how)

    def refused(self, *asked: Any, **how: Any) -> MillraceError:
        with pytest.raises(MillraceError) as refused:
            self.admit(*asked, **how)
        return refused.value

    def held(self) -> set[tuple[int, int, Decimal]]:
        return {(one.in_flight, one.reserved_tokens, one.reserved_cost) for one in self.limiter.accounts}


FOUR = [
    ("key", {"key": Limits(dollars_per_day=Decimal(5))}, "this key's $5 a day"),
    ("tenant", {"tenant": Limits(dollars_per_day=Decimal(5))}, "this tenant's $5 a day"),
    ("user", {"user": Limits(dollars_per_day=Decimal(5))}, "this end user's $5 a day"),
    ("tag", {"tag": Limits(dollars_per_month=Decimal(5))}, "this tag's $5 a month"),
]


@pytest.mark.parametrize(("kind", "limits", "words"), FOUR, ids=[each[0] for each in FOUR])
def test_each_kind_of_account_refuses_and_says_whose_it_is(kind: str, limits: dict[str, Any], words: str) -> None:
    bench = Bench(**limits)
    bench.admit("4", user="ann", tag="nightly").settle(Decimal(4), 0)
    error = bench.refused("2", user="ann", tag="nightly")
    assert error.code == "budget_exceeded"
    assert f"$1 of {words} is left" in error.message
    assert "may cost $2" in error.message
    assert error.left is not None
    assert error.left.dollars is not None
    assert (error.left.dollars.limit, error.left.dollars.left) == (5, 1)
    assert {account.name.kind for account in bench.limiter.accounts} == {kind}


def test_all_accounts_reserve_or_none() -> None:
    """The one that refuses is the last; nothing is left of what the others would have given."""
    rules: dict[str, Any] = {
        "tenant": Limits(in_flight=9),
        "user": Limits(tokens_per_minute=100),
        "tag": Limits(requests_per_minute=1),
    }
    bench = Bench(Limits(dollars_per_day=Decimal(5)), **rules)
    first = bench.admit("1", 10, "ann", "nightly")
    assert bench.held() == {(1, 10, Decimal(1))}
    error = bench.refused("1", 10, "ann", "nightly")
    assert (error.code, error.message[:8]) == ("rate_limit_exceeded", "this tag")
    assert error.retry_after_ms is not None
    assert 0 < error.retry_after_ms <= 61_001
    assert bench.held() == {(1, 10, Decimal(1))}
    first.settle(Decimal("0.5"), 7)
    first.settle(Decimal("0.5"), 7)
    assert bench.held() == {(0, 0, Decimal(0))}
    assert {account.spent_day for account in bench.limiter.accounts} == {Decimal("0.5")}


def test_accounts_are_checked_in_a_fixed_order() -> None:
    """Key, tenant, end user, tag."""
    one = Limits(in_flight=1)
    names = []
    for limited in ("key", "tenant", "user", "tag"):
        after: dict[str, Any] = dict.fromkeys(
            ("key", "tenant", "user", "tag")[("key", "tenant", "user", "tag").index(limited) :], one
        )
        bench = Bench(**after)
        bench.admit("0", 0, "ann", "nightly")
        names.append(bench.refused("0", 0, "ann", "nightly").message.partition(" has ")[0])
    assert names == ["this key", "this tenant", "this end user", "this tag"]


def test_walls_between_tenants_users_and_keys() -> None:
    """The same end user and tag of another tenant are others; two keys of a tenant share it."""
    one = Limits(in_flight=1)
    for kind in ("user", "tag"):
        rules: dict[str, Any] = {kind: one}
        bench = Bench(**rules)
        bench.admit("0", 0, "ann", "nightly")
        bench.admit("0", 0, "bob", "daily")
        bench.admit("0", 0, "ann", "nightly", owner=replace(bench.owner, tenant="other"))
        assert bench.refused("0", 0, "ann", "nightly").code == "too_many_in_flight"
    bench = Bench(tenant=one)
    bench.admit()
    assert bench.refused(owner=replace(bench.owner, key_id="second")).message.startswith("this tenant")


def test_named_limits_go_before_those_of_all_and_evidence_has_none() -> None:
    rules: dict[str, Any] = {
        "tenant": Limits(in_flight=1),
        "tenants": {"acme": Limits(in_flight=2)},
        "tag": Limits(in_flight=1),
        "tags": {"nightly": Limits(in_flight=3)},
    }
    bench = Bench(**rules)
    bench.admit(), bench.admit()
    assert bench.refused().code == "too_many_in_flight"
    bench.admit(owner=replace(bench.owner, tenant=EVIDENCE_TENANT))
    bench.admit(owner=replace(bench.owner, tenant=EVIDENCE_TENANT))
    other = replace(bench.owner, tenant="other")
    bench.admit(owner=other, tag="nightly").settle(Decimal(0), 0)
    bench.admit(owner=other, tag="daily")
    assert bench.refused(owner=other).message.startswith("this tenant has 1")


def test_without_limits_nothing_is_counted_and_nothing_told() -> None:
    bench = Bench()
    assert not bench.limiter.limits(bench.owner, "ann", "nightly")
    admission = bench.admit("1000", 10**9, "ann", "nightly", browns_out=True)
    admission.settle(Decimal(1000), 10**9)
    assert (admission.left(), admission.budget, list(bench.limiter.accounts)) == (None, None, [])
    only_users = Bench(user=Limits(in_flight=1))
    assert not only_users.limiter.limits(only_users.owner, "", "nightly")
    assert only_users.limiter.limits(only_users.owner, "ann", "")


def test_a_month_goes_on_where_a_day_ends() -> None:
    bench = Bench(Limits(dollars_per_day=Decimal(2), dollars_per_month=Decimal(3)))
    bench.admit("2").settle(Decimal(2), 0)
    assert "$0 of this key's $2 a day is left until 0:00 UTC" in bench.refused("1").message
    bench.now = DAY_S
    bench.admit("1").settle(Decimal(1), 0)
    assert "$0 of this key's $3 a month is left until the 1st, 0:00 UTC" in bench.refused("1").message
    bench.now = 31 * DAY_S
    bench.admit("2")


def test_days_and_months_are_those_of_utc() -> None:
    today = Today.at(NOON)
    assert (today.day, today.next_day) == (NOON - DAY_S / 2, NOON + DAY_S / 2)
    assert (today.month, today.next_month) == (1_727_740_800, 1_730_419_200)  # 1 October and 1 November 2024
    december = Today.at(1_735_689_599)
    assert december.next_month == december.next_day == 1_735_689_600


def test_more_is_reserved_as_far_as_the_scarcest_account_goes() -> None:
    """Of a day and of a month, of all accounts; all of it is given back."""
    bench = Bench(Limits(dollars_per_day=Decimal(9)), user=Limits(dollars_per_month=Decimal(3)))
    running = bench.admit("1", 10, "ann")
    assert running.limits_cost
    assert running.reserve_more(Decimal(1), 10) == 1
    assert running.reserve_more(Decimal(4), 10) == 1
    assert running.reserve_more(Decimal(4), 10) == 0
    assert "this end user's $3 a month is used up until the 1st" in running.used_up().message
    running.settle(Decimal(2), 5)
    assert bench.held() == {(0, 0, Decimal(0))}
    left = bench.admit("0", 0, "ann").left()
    assert left is not None
    assert left.dollars is not None
    assert (left.dollars.limit, left.dollars.left) == (3, 1)


def test_what_is_left_is_that_of_the_scarcest_account() -> None:
    key = Limits(requests_per_minute=10, tokens_per_minute=1000, dollars_per_day=Decimal(5))
    bench = Bench(key, tenant=Limits(requests_per_minute=3, tokens_per_minute=9000))
    left = bench.admit("1", 200).left()
    assert left is not None
    assert left.requests is not None
    assert left.tokens is not None
    assert left.dollars is not None
    assert (left.requests.limit, left.requests.left, left.requests.reset_s) == (3, 2, 61)
    assert (left.tokens.limit, left.tokens.left) == (1000, 800)
    assert (left.dollars.left, left.dollars.reset_s) == (4, DAY_S / 2)


async def test_what_was_spent_is_read_once_before_the_first_request() -> None:
    """Also if two come at once; and only of accounts with a budget in dollars."""
    bench = Bench(Limits(in_flight=9), user=Limits(dollars_per_day=Decimal(5)))
    ann = AccountName(AccountKind.USER, "acme", "ann")
    bench.spent[ann] = Spent(Decimal(4), Decimal(9))
    await asyncio.gather(*(bench.limiter.prepare(bench.owner, "ann") for _ in range(2)))
    bench.admit("1", user="ann").settle(Decimal("0.5"), 0)
    await bench.limiter.prepare(bench.owner, "ann")
    assert {names for names, _ in bench.reads} == {(ann,)}
    assert "$0.5 of this end user's $5" in bench.refused("1", user="ann").message


async def test_the_least_recently_used_of_many_users_is_read_again_when_it_comes_back() -> None:
    """Its dollars are remembered by the ledger, after all that waits to be written; one in flight is never dropped."""
    bench = Bench(user=Limits(dollars_per_day=Decimal(5)), most=2)
    running = bench.admit("1", user="ann")
    for number in range(5):
        await bench.limiter.prepare(bench.owner, f"user {number}")
        bench.admit("1", user=f"user {number}").settle(Decimal(1), 0)
    assert len(list(bench.limiter.accounts)) == 2
    first = AccountName(AccountKind.USER, "acme", "user 0")
    bench.spent[first] = Spent(Decimal(5), Decimal(5))
    await bench.limiter.prepare(bench.owner, "user 0")
    assert bench.reads[-1] == ((first,), True)
    assert bench.refused("1", user="user 0").code == "budget_exceeded"
    running.settle(Decimal(1), 0)
    assert bench.held() == {(0, 0, Decimal(0))}


async def test_a_budget_that_cannot_be_read_is_not_taken_for_a_full_one() -> None:
    bench = Bench(Limits(dollars_per_day=Decimal(5)))
    bench.fails = True
    with pytest.raises(MillraceError, match="what this key has spent cannot be read now") as refused:
        await bench.limiter.prepare(bench.owner)
    assert (refused.value.code, refused.value.retry_after_ms) == ("overloaded", 1000)
    bench.fails = False
    await bench.limiter.prepare(bench.owner)
    bench.admit("5")


async def test_other_limits_hold_from_the_next_request_on() -> None:
    """What runs keeps those that it began with; what was spent without a limit is read."""
    bench = Bench(Limits(in_flight=9))
    running = bench.admit("1")
    bench.spent[AccountName(AccountKind.TENANT, "acme")] = Spent(Decimal(4), Decimal(4))
    bench.limiter.configure(LimitRules(tenant=Limits(dollars_per_day=Decimal(5))), ())
    await bench.limiter.prepare(bench.owner)
    assert bench.reads[-1][1]
    assert not running.limits_cost
    assert bench.refused("2").message.startswith("$1 of this tenant's")
    running.settle(Decimal(1), 0)
    bench.admit("1")


def budget_of(bench: Bench, cost: str = "0", **how: Any) -> tuple[Step | None, bool]:
    admission = bench.admit(cost, browns_out=True, in_frames=True, **how)
    admission.settle(Decimal(cost), 0)
    budget = admission.budget
    return (None, False) if budget is None else (budget.step, budget.is_news)


def test_the_steps_come_in_order_and_each_is_news_once_a_key() -> None:
    """A second key of the tenant is told by itself; the next day it begins anew."""
    bench = Bench(tenant=Limits(dollars_per_day=Decimal(10)), steps=STEPS)
    other = replace(bench.owner, key_id="second")
    assert [budget_of(bench, "2") for _ in range(4)] == [(None, False)] * 4
    assert [budget_of(bench) for _ in range(2)] == [(Step.WARN, True), (Step.WARN, False)]
    assert budget_of(bench, "1") == (Step.WARN, False)
    assert [budget_of(bench) for _ in range(2)] == [(Step.SMALL, True), (Step.SMALL, False)]
    assert budget_of(bench, "1", owner=other) == (Step.SMALL, True)
    assert [budget_of(bench) for _ in range(2)] == [(Step.CACHE, True), (Step.CACHE, False)]
    assert budget_of(bench, owner=other) == (Step.CACHE, True)
    assert [(each.step, each.spent, each.limit, each.period) for each in bench.reached] == [
        (Step.WARN, Decimal(8), Decimal(10), Period.DAY),
        (Step.SMALL, Decimal(9), Decimal(10), Period.DAY),
        (Step.CACHE, Decimal(10), Decimal(10), Period.DAY),
    ]
    bench.now = DAY_S
    assert budget_of(bench, "9") == (None, False)
    assert budget_of(bench) == (Step.SMALL, True)
    assert [each.step for each in bench.reached[3:]] == [Step.SMALL]


def test_a_request_whose_client_is_not_told_in_frames_uses_no_news_up() -> None:
    bench = Bench(Limits(dollars_per_day=Decimal(10)), steps=STEPS)
    bench.admit("8").settle(Decimal(8), 0)
    admission = bench.admit(browns_out=True)
    assert admission.budget is not None
    assert not admission.budget.is_news
    assert budget_of(bench) == (Step.WARN, True)


def test_what_does_not_fit_any_more_is_left_to_the_caches_and_reserves_nothing() -> None:
    """As long as what is left is spent, and not only reserved by others."""
    bench = Bench(Limits(dollars_per_day=Decimal(10)), steps=STEPS)
    bench.admit("7").settle(Decimal(7), 0)
    admission = bench.admit("4", 100, browns_out=True)
    assert admission.budget is not None
    assert admission.budget.step is Step.CACHE
    assert admission.budget.said == "70% of this key's $10 a day is spent"
    assert bench.held() == {(1, 0, Decimal(0))}
    assert bench.refused("4").code == "budget_exceeded"  # what is not browned out: embeddings, evidence
    running = bench.admit("3", browns_out=True)
    assert bench.refused("2", browns_out=True).code == "rate_limit_exceeded"
    running.settle(Decimal(0), 0)
    bench.limiter.configure(LimitRules(), STEPS[:2])
    assert bench.refused("4", browns_out=True).code == "budget_exceeded"


def test_one_request_that_costs_too_much_skips_no_step() -> None:
    """It is left to the caches; others still get what there is, and both the key and the operator are told in order."""
    bench = Bench(Limits(dollars_per_day=Decimal(10)), steps=STEPS)
    assert budget_of(bench, "7") == (None, False)
    dear = bench.admit("4", browns_out=True, in_frames=True)
    dear.settle(Decimal(0), 0)
    assert dear.budget is not None
    assert (dear.budget.step, dear.budget.is_news) == (Step.CACHE, False)
    assert budget_of(bench, "1") == (None, False)
    assert budget_of(bench, "1") == (Step.WARN, True)
    assert budget_of(bench, "0.5") == (Step.SMALL, True)
    dear = bench.admit("4", browns_out=True, in_frames=True)
    assert dear.budget is not None
    assert (dear.budget.step, dear.budget.is_news) == (Step.CACHE, True)
    assert [each.step for each in bench.reached] == [Step.WARN, Step.SMALL, Step.CACHE]


async def test_a_step_that_was_reached_before_the_start_is_not_told_to_the_operator_again() -> None:
    bench = Bench(Limits(dollars_per_day=Decimal(10)), steps=STEPS)
    bench.spent[AccountName(AccountKind.KEY, "acme", "k")] = Spent(Decimal(8), Decimal(8))
    await bench.limiter.prepare(bench.owner)
    assert budget_of(bench, "0.5") == (Step.WARN, True)
    assert bench.reached == []
    bench.limiter.count(AccountName(AccountKind.KEY, "acme", "k"), Decimal("0.5"))
    assert [each.step for each in bench.reached] == [Step.SMALL]


async def test_a_step_that_lower_limits_have_reached_is_told_to_the_operator() -> None:
    """Once, like all others."""
    name = AccountName(AccountKind.TENANT, "acme")
    bench = Bench(tenant=Limits(dollars_per_day=Decimal(100)), steps=STEPS)
    bench.spent[name] = Spent(Decimal(9), Decimal(9))
    await bench.limiter.prepare(bench.owner)
    bench.limiter.configure(LimitRules(tenant=Limits(dollars_per_day=Decimal(10))), STEPS)
    for _ in range(2):
        await bench.limiter.prepare(bench.owner)
        budget_of(bench)
    assert [(each.step, each.limit) for each in bench.reached] == [(Step.SMALL, Decimal(10))]


def test_a_request_gets_the_rest_of_a_budget_that_is_less_than_it_is_likely_to_cost() -> None:
    """As soon as nobody else has reserved of it; with less than it takes to begin, it is refused."""
    bench = Bench(Limits(dollars_per_day=Decimal(10)))
    running = bench.admit("6")
    running.settle(Decimal(5), 0)
    running = bench.admit("4", least_cost=Decimal(1))
    assert bench.refused("6", least_cost=Decimal(1)).code == "rate_limit_exceeded"
    running.settle(Decimal(3), 0)
    rest = bench.admit("6", least_cost=Decimal(1))
    assert rest.rest is not None
    assert (rest.rest.dollars, rest.rest.of) == (Decimal(2), "what is left of this key's dollars a day")
    assert bench.held() == {(1, 0, Decimal(2))}
    assert rest.reserve_more(Decimal(1), 10) == 0
    rest.settle(Decimal("1.5"), 0)
    assert bench.refused("6", least_cost=Decimal(1)).code == "budget_exceeded"
    assert bench.held() == {(0, 0, Decimal(0))}
