"""A shared generation whose payer has no more: another participant pays for the rest, and nobody's answer is cut."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from msgspec.structs import replace

from millrace.funnel.bill import Bill
from millrace.funnel.ending import Result
from millrace.funnel.flight import Flight
from millrace.funnel.response_log import ResponseLog
from millrace.pricing import BOOKED
from millrace.principal import UNLIMITED, LimitRules, Limits, Principal, Role
from millrace.stores.limits import MemoryLimiter
from millrace.types import CacheOutcome, Call, FinishReason, Outcome, Source, Usage
from tests.support.bills import LARGE, SMALL, Store
from tests.support.manual_attempt import ManualAttempt
from tests.support.scripted_models import request
from tests.support.waiting import turns

UNCAPPED = replace(SMALL, max_output_tokens=None, context_window=128_000)
OUTPUT = SMALL.price.output / 10**6
FIRST = BOOKED * OUTPUT
RULES = LimitRules(user=Limits(dollars_per_day=4 * FIRST))
OWNER = Principal(key_id="k", tenant="acme", role=Role.USE, limits=UNLIMITED)


class Shared:
    """One generation of several end users, of whom each has money for four bookings."""

    def __init__(self, store: Store) -> None:
        self.limiter = MemoryLimiter(lambda: 0.0, lambda: 1_700_000_000.0, rules=RULES)
        self.attempt = ManualAttempt()
        self.bills: list[Bill] = []
        self.tasks: list[asyncio.Task[Result]] = []
        self._store = store
        self._flight: Flight | None = None

    async def join(self, user: str, spent: Decimal = Decimal(0)) -> Bill:
        self.limiter.admit(OWNER, Decimal(0), 0, user).settle(spent, 0)
        admission = self.limiter.admit(OWNER, FIRST, BOOKED, user)
        asked = request(id=f"resp_{len(self.bills)}", user=user)
        response, bill = ResponseLog(asked, lambda: 0.0), Bill(asked, LARGE.price, self._store.ledger, 0.0, admission)
        self._flight = self._flight or Flight(response, self._work, lambda _: None)
        self.bills.append(bill)
        self.tasks.append(asyncio.create_task(self._flight.join(response, bill)))
        await turns(2)
        return bill

    async def _work(self, response: ResponseLog, flight: Flight) -> Result:
        call = Call(model=UNCAPPED, prompt=response.request.prompt)
        if not flight.covers(call):
            raise AssertionError("somebody has money")
        charge = flight.open(call, self.attempt)
        response.attach(self.attempt)
        await self.attempt.done
        charge.outcome = Outcome.ANSWERED
        return Result(source=Source.SMALL, model=UNCAPPED.id, usage=charge.usage, finish=FinishReason.STOP)

    def say(self, bookings: float) -> None:
        """Let so many times as much come as is booked at once; nobody has enough at each look."""
        for _ in range(int(bookings * 32)):
            self.attempt.read(*[" mill"] * (BOOKED // 32))
            assert all(bill.book_more() for bill in self.bills)

    async def end(self, bookings: float) -> list[Result]:
        self.attempt.finish(Usage(output_tokens=int(bookings * BOOKED)))
        return [await task for task in self.tasks]

    def shares(self) -> list[list[tuple[Outcome, int]]]:
        return [
            [(charge.outcome, charge.usage.output_tokens) for charge in bill.statement().charges] for bill in self.bills
        ]


@pytest.fixture
async def shared(store: Store) -> AsyncIterator[Shared]:
    shared = Shared(store)
    yield shared
    for task in shared.tasks:
        task.cancel()
    await asyncio.gather(*shared.tasks, return_exceptions=True)


async def test_the_next_one_pays_where_the_budget_of_the_first_ends(shared: Shared) -> None:
    """It is one end user's budget that is spent, not those of all who have asked the same."""
    await shared.join("ann", spent=2 * FIRST)
    await shared.join("bob")
    shared.say(4)
    results = await shared.end(4)
    assert not any(step.startswith("limit") for step in shared.attempt.steps)
    assert [result.cache for result in results] == [CacheOutcome.JOINED] * 2
    (of_ann,), (of_bob,) = shared.shares()
    assert (of_ann[0], of_bob[0]) == (Outcome.ANSWERED, Outcome.ANSWERED)
    assert of_ann[1] + of_bob[1] == 4 * BOOKED
    assert BOOKED < of_ann[1] <= 2 * BOOKED
    assert sum(bill.statement().cost for bill in shared.bills) == 4 * FIRST


async def test_where_nobody_has_more_it_is_cut(shared: Shared) -> None:
    """No later than where the money of all of them together ends; half a booking of the first may be left."""
    ann, bob = await shared.join("ann", spent=2 * FIRST), await shared.join("bob", spent=3 * FIRST)
    shared.say(2.5)
    (limit,) = {*shared.attempt.steps}
    assert 2.5 * BOOKED <= int(limit.removeprefix("limit ")) <= 3 * BOOKED
    shared.attempt.read(*[" mill"] * (BOOKED // 2))
    assert not (ann.book_more() and bob.book_more())


async def test_who_has_no_limits_pays_for_who_has(shared: Shared) -> None:
    await shared.join("ann", spent=3 * FIRST)
    await shared.join("")
    shared.say(6)
    await shared.end(6)
    (of_ann,), (of_nobody,) = shared.shares()
    assert of_ann[1] <= BOOKED < of_nobody[1]


async def test_a_call_that_the_payer_cannot_pay_is_paid_by_the_next(shared: Shared) -> None:
    """As when the small model's answer was weak. What the first has paid stays on its bill."""
    ann, bob = await shared.join("ann"), await shared.join("bob")
    shared.limiter.admit(OWNER, Decimal(0), 0, "ann").settle(4 * FIRST, 0)
    flight = shared._flight
    assert flight is not None
    dear = Call(
        model=replace(UNCAPPED, price=replace(SMALL.price, output=3 * SMALL.price.output)),
        prompt=request().prompt,
    )
    assert flight.covers(dear, whole=True)
    flight.open(dear, ManualAttempt())
    assert [len(bill.statement().charges) for bill in (ann, bob)] == [1, 2]
