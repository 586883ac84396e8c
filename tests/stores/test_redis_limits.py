"""Limits over replicas that share a real Redis: what all of them admit, whatever happens to one or to Redis."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

import pytest

from millrace.errors import MillraceError
from millrace.ports import Admitted
from millrace.principal import UNLIMITED, LimitRules, Limits, Principal, Role
from millrace.stores.accounts import DAY_S, Account, Today
from millrace.stores.limits import MemoryLimiter
from millrace.stores.redis import limits
from millrace.stores.redis.claims import Spools
from millrace.stores.redis.limits import BEAT_S, KNOWN_S, SETTLING_S, SURELY_S, SharedLimits
from millrace.stores.redis.link import RedisAwayError, RedisLink, linked
from millrace.types.budget import AccountKind, AccountName, Reached, Spent, Step, Steps
from tests.support.shared_servers import SharedServer
from tests.support.waiting import PATIENCE_S, until, within

NOON = 20_000 * DAY_S + DAY_S / 2.0


class Replica:
    """One of several, with a ledger that is a dict."""

    def __init__(
        self,
        link: RedisLink,
        number: int,
        clock: "Clock",
        steps: Steps,
        epoch: str = "a",
        ledger: "Ledger | None" = None,
        **rules: Any,
    ) -> None:
        self.spent: dict[AccountName, Spent] = {}
        self.skew_s = 0.0
        self.limiter = MemoryLimiter(clock, lambda: NOON + clock() + self.skew_s, self.read, LimitRules(**rules), steps)
        self.link = link
        self.number = number
        self.clock = clock
        self.reached: list[Reached] = []
        self.ledger = ledger
        self.lives: asyncio.Task[None] | None = None
        self.begin(epoch)

    async def read(self, names: Any, _: bool) -> Mapping[AccountName, Spent]:
        return {name: self.spent[name] for name in names if name in self.spent}

    def begin(self, epoch: str) -> None:
        self.shared = SharedLimits(self.link, self.limiter, f"{self.number:x}", epoch, self.clock, self.ledger)
        self.limiter.on_reached = self.shared.told_once(self.reached.append)
        self.lives = asyncio.create_task(self.shared.run())
        self.reads = asyncio.create_task(self.shared.read_ledger())

    async def die(self) -> None:
        """End without a word to Redis, as a process that was killed."""
        assert self.lives is not None
        self.link.ask = gone  # type: ignore[method-assign]
        self.lives.cancel()
        self.reads.cancel()
        with suppress(asyncio.CancelledError):
            await self.lives

    async def admit(
        self, cost: str = "0", tokens: int = 0, user: str = "", key: Limits = UNLIMITED, **how: Any
    ) -> Admitted:
        owner = Principal(key_id="k", tenant="acme", role=Role.USE, limits=key)
        async with self.limiter.drawn(owner, Decimal(cost), tokens, user):
            return self.limiter.admit(owner, Decimal(cost), tokens, user, **how)

    async def refused(self, cost: str = "0", **how: Any) -> str:
        with pytest.raises(MillraceError) as refused:
            await self.admit(cost, **how)
        return refused.value.code

    def account(self, kind: AccountKind = AccountKind.TENANT, name: str = "") -> Account:
        (found,) = (each for each in self.limiter.accounts if each.name == AccountName(kind, "acme", name))
        return found

    async def told(self) -> None:
        """Wait until all that has changed is in Redis."""
        assert self.lives is not None
        done = asyncio.create_task(self.shared._round.wait())
        self.shared._due.set()
        await asyncio.wait({done, self.lives}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        if self.lives.done():
            self.lives.result()
        assert done.done(), "nothing was told"


async def gone(*_: Any, **__: Any) -> Any:
    raise RedisAwayError("the process is dead")


class Ledger:
    """What all data_dirs have spent, in one place."""

    def __init__(self, **dollars: int) -> None:
        self.known = {AccountName(AccountKind.TENANT, "acme"): {spool[1:]: (d, d) for spool, d in dollars.items()}}
        self.asked = 0
        self.is_away = False

    async def __call__(self, names: Collection[AccountName], _: Today) -> Spools:
        self.asked += 1
        if self.is_away:
            raise TimeoutError
        return {name: self.known.get(name, {}) for name in names}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def replicas(
    redis: SharedServer, name: str, count: int = 2, steps: Steps = (), ledger: Ledger | None = None, **rules: Any
) -> AsyncIterator[list[Replica]]:
    async with AsyncExitStack() as parts:
        clock, found = Clock(), list[Replica]()
        for number in range(count):
            link = await parts.enter_async_context(linked(redis.url, name))
            found.append(Replica(link, number, clock, steps, ledger=ledger, **rules))
        for _ in range(2):  # so that each knows how many there are, and is known
            for replica in found:
                await replica.told()
            clock.now += KNOWN_S / 2
        for replica in found:
            await replica.told()
        try:
            yield found
        finally:
            for replica in found:
                assert replica.lives is not None
                replica.lives.cancel()
                replica.reads.cancel()
            await asyncio.gather(*(replica.lives for replica in found if replica.lives), return_exceptions=True)


async def settled(*found: Replica) -> None:
    """Let all notice that Redis has lost what it had, and tell it again."""
    for seconds in (BEAT_S, SETTLING_S, BEAT_S):
        found[0].clock.now += seconds + 0.1
        for replica in found:
            await replica.told()


def dollars(amount: str) -> Limits:
    return Limits(dollars_per_day=Decimal(amount))


async def test_what_one_reserves_the_others_cannot(redis: SharedServer) -> None:
    """Until it is settled; then only what it has cost counts."""
    async with replicas(redis, "reserves", tenant=dollars("10")) as (one, two):
        running = await one.admit("6")
        assert await two.refused("6") == "rate_limit_exceeded"
        running.settle(Decimal(1), 0)
        await one.told()
        (await two.admit("6")).settle(Decimal(9), 0)
        await two.told()
        assert await one.refused("0.1") == "budget_exceeded"
        left = one.limiter.left(((one.account(), one.account().limits),), None)
        assert left.dollars is not None
        assert left.dollars.left == 0


async def test_many_at_once_over_three_are_as_many_as_fit(redis: SharedServer) -> None:
    async with replicas(redis, "many", 3, user=dollars("50")) as found:
        admitted = [found[number % 3].admit("1", user="ann") for number in range(200)]
        results = await asyncio.gather(*admitted, return_exceptions=True)
        codes = [each.code for each in results if isinstance(each, MillraceError)]
        assert len(codes) <= 155  # what a replica has ahead of what it reserves may be kept from the others
        assert len(codes) >= 150
        assert set(codes) == {"rate_limit_exceeded"}


async def test_requests_tokens_and_those_in_flight_are_those_of_all(redis: SharedServer) -> None:
    async with replicas(redis, "rates", tenant=Limits(requests_per_minute=4, in_flight=3)) as (one, two):
        running = [await one.admit(), await two.admit(), await one.admit()]
        assert await two.refused() == "too_many_in_flight"
        for each in running:
            each.settle(Decimal(0), 0)
        await one.told()
        await two.told()
        (await two.admit()).settle(Decimal(0), 0)
        assert await one.refused() == "rate_limit_exceeded"
    async with replicas(redis, "tokens", tenant=Limits(tokens_per_minute=1000)) as (one, two):
        await one.admit(tokens=700)
        assert await two.refused(tokens=400) == "rate_limit_exceeded"
        await two.admit(tokens=300)


async def test_an_answer_that_grows_reserves_what_the_others_leave(redis: SharedServer) -> None:
    """At once, ahead of the call to Redis, and never more than there is."""
    async with replicas(redis, "grows", tenant=dollars("10")) as (one, two):
        first, second = await one.admit("1"), await two.admit("1")
        granted = Decimal(0)
        for _ in range(60):
            granted += first.reserve_more(Decimal("0.2"), 10) + second.reserve_more(Decimal("0.2"), 10)
            await one.told()
            await two.told()
        assert Decimal(7) < granted <= 8
        assert first.reserved + second.reserved <= 10
        first.settle(first.reserved, 0)
        second.settle(Decimal(1), 0)
        await one.told()
        await two.told()
        more = await two.admit(str(10 - first.reserved - 1))
        more.settle(Decimal(0), 0)


async def test_spending_begins_with_the_ledgers_of_all(redis: SharedServer) -> None:
    """Each data_dir has its own."""
    async with replicas(redis, "ledgers", tenant=dollars("10")) as (one, two):
        name = AccountName(AccountKind.TENANT, "acme")
        one.spent[name] = two.spent[name] = Spent(Decimal(4), Decimal(4))
        (await one.admit("1")).settle(Decimal(0), 0)
        assert await two.refused("3") == "budget_exceeded"
        one.clock.now += BEAT_S
        await one.told()  # there is not plenty any more, so it keeps nothing ahead
        (await two.admit("2")).settle(Decimal(2), 0)
        await two.told()
        assert await one.refused("1") == "budget_exceeded"


async def test_what_a_dead_replica_had_reserved_is_spent_until_its_ledger_knows(redis: SharedServer) -> None:
    async with replicas(redis, "dead", tenant=dollars("10")) as found:
        one, two = found
        await one.admit("6")
        await one.die()
        assert await two.refused("5") == "rate_limit_exceeded"
        await two.link.ask(lambda client: client.zadd("dead:limits1:replicas", {"0/a": 1}))  # not heard of since 1970
        assert await two.refused("5") == "budget_exceeded"
        await two.admit("2")
        del one.link.ask
        again = Replica(one.link, 0, one.clock, (), "b", tenant=dollars("10"))
        found.append(again)
        again.spent[AccountName(AccountKind.TENANT, "acme")] = Spent(Decimal(1), Decimal(1))
        (await again.admit("1")).settle(Decimal(0), 0)
        await again.told()
        await two.admit("4")  # it would be spent


async def test_a_process_that_comes_back_at_once_takes_its_dead_one_out(redis: SharedServer) -> None:
    async with replicas(redis, "back", tenant=dollars("10")) as (one, two):
        await one.admit("6")
        await one.die()
        del one.link.ask
        again = SharedLimits(one.link, one.limiter, "0", "b", one.clock)
        await again.begin(())
        assert await two.refused("5") == "budget_exceeded"  # it is known to be dead


async def test_the_day_turns_for_each_by_its_own_clock(redis: SharedServer) -> None:
    """One that is ahead has a new day; the others still have what it has spent on theirs."""
    async with replicas(redis, "turns", tenant=dollars("10")) as (one, two):
        (await one.admit("6")).settle(Decimal(6), 0)
        await one.told()
        one.skew_s = DAY_S / 2.0
        (await one.admit("9")).settle(Decimal(9), 0)
        await one.told()
        assert await two.refused("5") == "budget_exceeded"
        (await two.admit("4")).settle(Decimal(4), 0)
        two.skew_s = DAY_S / 2.0 + 1
        assert await two.refused("2") == "budget_exceeded"
        await two.admit("1")


async def test_an_emptied_redis_is_told_again(redis: SharedServer) -> None:
    """Meanwhile each has a share; nobody gets what is spent or reserved."""
    async with replicas(redis, "emptied", tenant=dollars("10")) as (one, two):
        (await one.admit("4")).settle(Decimal(4), 0)
        running = await two.admit("3")
        await one.told()
        await two.told()
        (await one.admit("0.5")).settle(Decimal(0), 0)
        await one.link.ask(lambda client: client.flushall())
        assert await one.refused("3") == "rate_limit_exceeded"
        (await one.admit("0.1")).settle(Decimal(0), 0)
        await settled(one, two)
        assert await one.refused("3.5") == "rate_limit_exceeded"
        running.settle(Decimal(0), 0)
        await two.told()
        await one.admit("4")


async def test_an_emptied_redis_learns_from_the_ledger_what_a_dead_replica_has_spent(redis: SharedServer) -> None:
    """Also for a replica that has never asked before, and once for all of them."""
    ledger = Ledger()
    async with replicas(redis, "of the ledger", 3, ledger=ledger, tenant=dollars("10")) as (one, two, three):
        (await one.admit("5")).settle(Decimal(5), 0)
        (await one.admit("4")).settle(Decimal(4), 0)
        await one.told()
        await one.die()
        await two.link.ask(lambda client: client.flushall())
        ledger.asked, ledger.known = 0, Ledger(_0=9 * 10**9).known
        assert await two.refused("2") == "budget_exceeded"
        (await two.admit("0.9")).settle(Decimal("0.9"), 0)
        await two.told()
        assert ledger.asked == 1
        assert await three.refused("0.2") == "budget_exceeded"
        await three.admit("0.1")
        assert ledger.asked == 1


async def test_while_the_ledger_is_away_what_redis_does_not_know_is_shared_in_equal_parts(
    redis: SharedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "READ_AGAIN_S", 0.01)
    ledger = Ledger(_7=8 * 10**9)
    ledger.is_away = True
    async with replicas(redis, "no ledger", ledger=ledger, tenant=dollars("10")) as (one, two):
        assert await one.refused("6") == "rate_limit_exceeded"
        (await one.admit("4")).settle(Decimal(1), 0)
        await one.told()
        ask, one.link.ask, ledger.is_away = one.link.ask, gone, False  # type: ignore[method-assign]
        asked = ledger.asked
        await until(lambda: ledger.asked > asked + 2)  # what it says does not arrive
        one.link.ask = ask  # type: ignore[method-assign]
        async with asyncio.timeout(PATIENCE_S):
            while one.shared._unread:
                await one.told()
        assert await two.refused("1.5") == "budget_exceeded"
        await one.admit("1")


async def test_what_several_workers_have_spent_outlives_redis(redis: SharedServer) -> None:
    """Each knows of its own alone, and has heard of all."""
    async with replicas(redis, "workers", tenant=dollars("10")) as (one, other):
        two = await sibling(one, other)
        for replica in (one, two, one):
            (await replica.admit("2")).settle(Decimal(2), 0)
            await replica.told()
        await two.told()
        await one.link.ask(lambda client: client.flushall())
        await settled(one, two)
        assert await one.refused("4.5") == await two.refused("4.5") == "budget_exceeded"
        (await two.admit("3.5")).settle(Decimal(0), 0)


async def test_what_a_dead_worker_had_reserved_is_spent(redis: SharedServer) -> None:
    """The others of its data_dir have not read what it had open."""
    async with replicas(redis, "worker", tenant=dollars("10")) as (one, other):
        two = await sibling(one, other)
        (await one.admit("1")).settle(Decimal(1), 0)
        await two.admit("6")
        await two.die()
        await one.link.ask(lambda client: client.zrem("worker:limits1:replicas", "0/b"))
        assert await one.refused("4") == "budget_exceeded"
        (await one.admit("2")).settle(Decimal(2), 0)


async def sibling(one: Replica, other: Replica) -> Replica:
    """Have the other one be a worker on the data_dir of the first one."""
    assert other.lives is not None
    other.lives.cancel()
    await asyncio.wait([other.lives])
    other.number = one.number
    other.begin("b")
    await other.told()
    return other


async def test_with_redis_away_each_has_a_share(redis: SharedServer) -> None:
    """It waits for nothing. Afterwards all that was spent meanwhile counts."""
    async with replicas(redis, "away", tenant=dollars("10"), user=Limits(requests_per_minute=6)) as (one, two):
        await asyncio.to_thread(redis.kill)
        try:
            spent = 0
            for replica in (one, two):
                assert await replica.refused() == "rate_limit_exceeded"  # it may be the only one that finds it away
            one.clock.now += SURELY_S
            for replica in (one, two):
                await replica.told()  # it asks the others
                for _ in range(20):
                    with suppress(MillraceError):
                        (await replica.admit("1")).settle(Decimal(1), 0)
                        spent += 1
                admitted = [replica.admit(user="ann") for _ in range(10)]
                results = await asyncio.gather(*admitted, return_exceptions=True)
                assert sum(not isinstance(each, MillraceError) for each in results) == 3
            assert 8 <= spent <= 10
        finally:
            await asyncio.to_thread(redis.start)
        async with asyncio.timeout(PATIENCE_S):
            while one.link.is_away or two.link.is_away:  # noqa: ASYNC110 - it cannot tell us
                await asyncio.sleep(0.02)
        await settled(one, two)
        for replica in (one, two):
            await replica.refused("10")
            assert [total for _, total, _ in replica.account().budgets(replica.account().limits)] == [spent]


async def test_who_has_just_begun_has_no_share(redis: SharedServer) -> None:
    """The others do not count it yet, and it has not heard of all of them."""
    async with replicas(redis, "begun", 1, tenant=dollars("10")) as found, linked(redis.url, "begun") as link:
        one, two = found[0], Replica(link, 1, found[0].clock, (), tenant=dollars("10"))
        found.append(two)
        await two.told()
        await asyncio.to_thread(redis.kill)
        try:
            for replica in (one, two):
                assert await replica.refused("1") == "rate_limit_exceeded"
            one.clock.now += SURELY_S
            for replica in (one, two):
                await replica.told()
            (await one.admit("8")).settle(Decimal(8), 0)
            assert await two.refused("1") == "rate_limit_exceeded"
        finally:
            await asyncio.to_thread(redis.start)


async def test_who_alone_finds_redis_away_has_no_share(redis: SharedServer) -> None:
    """The others may be granted all that is left. What it was granted itself it may use."""
    async with replicas(redis, "alone", tenant=dollars("10")) as (one, two):
        (await one.admit("1")).settle(Decimal(1), 0)
        await one.told()

        async def they_are_not() -> bool:
            return False

        one.shared.are_all_without = they_are_not
        one.link.ask = gone  # type: ignore[method-assign]
        one.link._is_away.set()
        spent = Decimal(1)
        for _ in range(2):
            one.clock.now += SURELY_S
            await one.told()
            for _ in range(20):
                with suppress(MillraceError):
                    (await one.admit("0.5")).settle(Decimal("0.5"), 0)
                    spent += Decimal("0.5")
        for _ in range(20):
            with suppress(MillraceError):
                (await two.admit("0.5")).settle(Decimal("0.5"), 0)
                spent += Decimal("0.5")
                await two.told()
        assert 8 <= spent <= 10


async def test_a_hung_redis_delays_one_request(redis: SharedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with replicas(redis, "hung", tenant=dollars("10")) as (one, _):
        (await one.admit("1")).settle(Decimal(0), 0)
        redis.hang()
        monkeypatch.undo()  # so it is away soon
        try:
            (await one.admit("1")).settle(Decimal(0), 0)
            await until(lambda: one.link.is_away)
            async with within(0.25):
                for _ in range(20):
                    (await one.admit("0.1")).settle(Decimal(0), 0)
        finally:
            redis.go_on()
        await until(lambda: not one.link.is_away)


async def test_a_step_is_told_by_one_of_them(redis: SharedServer) -> None:
    steps: Steps = ((Decimal("0.8"), Step.WARN), (Decimal(1), Step.CACHE))
    async with replicas(redis, "steps", 3, steps, tenant=dollars("10")) as found:
        (await found[0].admit("5")).settle(Decimal(5), 0)
        await found[0].told()
        for replica in found:
            (await replica.admit("1.2")).settle(Decimal("1.2"), 0)
            await replica.told()
        async with asyncio.timeout(PATIENCE_S):
            while not any(replica.reached for replica in found):  # noqa: ASYNC110 - it cannot tell us
                await asyncio.sleep(0.01)
        for replica in found:
            await replica.told()
        assert [step.step for replica in found for step in replica.reached] == [Step.WARN]


async def test_tenants_with_names_that_look_alike_share_nothing(redis: SharedServer) -> None:
    async with replicas(redis, "names", 1, user=dollars("1")) as (one,):
        for tenant, user in (("a:b", "c"), ("a", "b:c"), ("a", "c")):
            owner = Principal(key_id="k", tenant=tenant, role=Role.USE, limits=UNLIMITED)
            async with one.limiter.drawn(owner, Decimal(1), 0, user):
                one.limiter.admit(owner, Decimal(1), 0, user).settle(Decimal(1), 0)
        names: Any = await one.link.ask(lambda client: client.keys("names:account1:*"))
        assert len(names) == 3
