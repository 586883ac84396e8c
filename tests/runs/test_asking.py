"""Asking again: at the operator's cost and never beyond a day's dollars, and nothing of it is a tenant's."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from millrace import pricing
from millrace.errors import MillraceError, UpstreamError
from millrace.funnel.bill import Bill
from millrace.funnel.funnels import Funnels
from millrace.principal import Limits, Principal, Role
from millrace.runs.asking import AT_ONCE, OUTPUT, Asking, _again
from millrace.stores.accounts import DAY_S
from millrace.stores.ledger import SqliteLedger
from millrace.stores.limits import MemoryLimiter
from millrace.types import EVIDENCE_TENANT, CacheMode, Call, Delivery, Entry, Model, Request, Strategy, Tier, Usage
from tests.support.bills import StubAttempt
from tests.support.looks import look
from tests.support.scripted_models import (
    CALLED,
    CUT,
    SMALL,
    STOP,
    ScriptedFunnel,
    Step,
    request,
    scripted_funnel,
)

ROWS = "SELECT status, cost_nanodollars, tenant, key_id, session, cache FROM entries"


class Clock:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Stage:
    """Something that asks again, and what it asks through."""

    funnel: ScriptedFunnel
    limiter: MemoryLimiter
    ask: Asking
    wall: Clock

    @property
    def database(self) -> Any:
        ledger: Any = self.funnel.funnel._ledger
        assert isinstance(ledger, SqliteLedger)
        return ledger._database

    async def rows(self) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = await look(self.database, lambda connection: connection.execute(ROWS).fetchall())
        return found

    async def dollars(self) -> Decimal:
        return sum((row[1] * pricing.NANODOLLAR for row in await self.rows()), pricing.ZERO)


@asynccontextmanager
async def asking(
    small: Sequence[Step], large: Sequence[Step] = ("Large.", STOP), dollars: str = "1"
) -> AsyncIterator[Stage]:
    wall = Clock()
    async with scripted_funnel(small, large) as funnel:
        limiter = MemoryLimiter(lambda: 0.0, wall)
        yield Stage(funnel, limiter, Asking(Funnels(funnel.funnel), limiter, lambda: 0.0, Decimal(dollars)), wall)


def cost(model: Model, output: int) -> Decimal:
    return pricing.cost(Usage(input_tokens=8, output_tokens=output), model.price)


async def test_an_answer_is_asked_for_again_and_booked_as_the_operators() -> None:
    async with asking(["Two", " metres.", STOP]) as stage:
        assert await stage.ask(request(strategy=Strategy.SMALL, session="s", store=False)) == "Two metres."
        ((status, nanodollars, tenant, key_id, session, cache),) = await stage.rows()
    assert (status, tenant, key_id, session, cache) == ("completed", EVIDENCE_TENANT, EVIDENCE_TENANT, "", "miss")
    assert nanodollars * pricing.NANODOLLAR == cost(SMALL, 2)


async def test_it_may_be_answered_by_another_strategy() -> None:
    async with asking(["Two.", STOP]) as stage:
        assert await stage.ask(request(strategy=Strategy.SMALL), Strategy.LARGE) == "Large."
        assert stage.funnel.small.attempts == []


@pytest.mark.parametrize("strategy", [Strategy.RACE, Strategy.HEDGE])
async def test_two_models_are_never_asked_at_once(strategy: Strategy) -> None:
    async with asking(["Two.", STOP]) as stage:
        assert await stage.ask(request(strategy=strategy)) == "Two."
        assert stage.funnel.large.attempts == []


@pytest.mark.parametrize(
    "steps", [["Two", CUT], [UpstreamError("upstream_error", "down")], ["", STOP], [CALLED]], ids=str
)
async def test_only_a_whole_answer_counts(steps: Sequence[Step]) -> None:
    async with asking(steps) as stage:
        assert await stage.ask(request(strategy=Strategy.SMALL)) is None
        assert len(await stage.rows()) == 1


async def test_a_model_that_fails_is_left_to_those_who_wait_for_an_answer() -> None:
    """A provider that refuses calls, without saying for how long, has the less left for them."""
    async with asking([UpstreamError("upstream_overloaded", "answered HTTP 429")]) as stage:
        for _ in range(5):
            assert await stage.ask(request(strategy=Strategy.SMALL)) is None
        assert len(stage.funnel.small.attempts) == 1


async def test_the_dollars_of_a_day_are_never_passed() -> None:
    """Not by all that may run together, each to its cap; and the next day there are more."""
    words: list[Step] = [" mill"] * 5000
    async with asking([*words, STOP], dollars="0.005") as stage:
        asked = [stage.ask(request(strategy=Strategy.SMALL)) for _ in range(12)]
        await asyncio.gather(*asked)
        spent = await stage.dollars()
        calls = len(stage.funnel.small.attempts)
        caps = [attempt.call.max_output_tokens for attempt in stage.funnel.small.attempts]
        while await stage.ask(request(strategy=Strategy.SMALL)) is None and len(stage.funnel.small.attempts) > calls:
            calls = len(stage.funnel.small.attempts)
        assert await stage.dollars() <= Decimal("0.005")
        assert Decimal("0.001") < spent <= Decimal("0.005")
        assert set(caps) <= set(OUTPUT)
        stage.wall.now += DAY_S
        await stage.ask(request(strategy=Strategy.SMALL))
        assert len(stage.funnel.small.attempts) == calls + 1


async def test_few_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are judged together, and live requests need the models more."""
    at_work: list[int] = []
    go_on = asyncio.Event()

    async def asked(*_: object) -> None:
        at_work.append(1)
        await go_on.wait()

    async with asking(["Two.", STOP]) as stage:
        monkeypatch.setattr(stage.ask, "_asked", asked)
        tasks = [asyncio.create_task(stage.ask(request())) for _ in range(3 * AT_ONCE)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(at_work) == AT_ONCE
        go_on.set()
        await asyncio.gather(*tasks)
        assert len(at_work) == 3 * AT_ONCE


async def test_nothing_is_asked_without_money() -> None:
    async with asking(["Two.", STOP], dollars="0") as stage:
        assert await stage.ask(request(strategy=Strategy.SMALL)) is None
        assert (stage.funnel.small.attempts, await stage.rows()) == ([], [])


def test_what_it_may_cost_is_booked_as_a_model_is_called() -> None:
    """So that all of it counts if the process dies, not the first words alone."""
    call = Call(model=replace(SMALL, max_output_tokens=4000), prompt=request().prompt)
    written: list[Entry] = []
    ledger: Any = SimpleNamespace(opened=written.append, wants_progress=False)
    for asked_again in (False, True):
        bill = Bill(replace(request(), asked_again=asked_again), SMALL.price, ledger, 0.0)
        bill.open(call, StubAttempt())
    assert [entry.statement.usage.output_tokens for entry in written] == [pricing.BOOKED, 4000]


async def test_a_cancel_settles_it_once() -> None:
    async with asking([*[" mill"] * 5000, STOP]) as stage:
        task = asyncio.create_task(stage.ask(request(strategy=Strategy.SMALL)))
        while not (stage.funnel.small.attempts and stage.funnel.small.attempts[0].parts):  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stage.funnel.small.attempts[0].aborted
        assert [row[0] for row in await stage.rows()] == ["cancelled"]
        (account,) = stage.limiter.accounts
        assert (account.in_flight, account.reserved_cost) == (0, pricing.ZERO)
        assert account.spent_day == account.spent_month == await stage.dollars() > 0


async def test_a_shadow_takes_no_place_and_nothing_of_a_tenants_limits() -> None:
    """A tenant whose only place and dollars are taken is neither served less, nor charged more."""
    owner = Principal(key_id="k", tenant="acme", role=Role.USE, limits=Limits(in_flight=1, dollars_per_day=Decimal(1)))
    async with asking([*[" mill"] * 50, STOP]) as stage:
        stage.funnel.funnel._places._free = lambda: 1 - stage.funnel.funnel.running
        task = asyncio.create_task(stage.ask(request(tenant="acme", key_id="k", strategy=Strategy.SMALL)))
        while not stage.funnel.small.attempts:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        assert stage.funnel.funnel.running == 0
        admission = stage.limiter.admit(owner, Decimal(1), 10)
        admission.settle(Decimal(0), 0)
        response = await stage.funnel.ask(request(tenant="acme", key_id="k", strategy=Strategy.SMALL))
        assert response.ended is not None
        assert response.ended.statement.cost == cost(SMALL, 50)
        await task
        ledger = SqliteLedger(stage.database)
        served = await ledger.bills.served(0.0, None)
        assert {tenant: counts.requests for tenant, counts in served.items()} == {"acme": 1}
        assert await ledger.bills.sessions(0.0, 10) == []
        with pytest.raises(MillraceError):
            stage.limiter.admit(owner, Decimal(2), 10)


async def test_what_was_trimmed_is_not_trimmed_again_and_its_context_is_sent() -> None:
    async with asking(["Two.", STOP]) as stage:
        asked = replace(request(strategy=Strategy.SMALL), context=("The mill pond has two metres.",))
        first = await stage.funnel.ask(asked)
        assert await stage.ask(first.request) == "Two."
        sent, again = (attempt.call.prompt.sent for attempt in stage.funnel.small.attempts)
    assert [message.text for message in again] == [message.text for message in sent]
    assert "two metres" in again[-1].text


async def test_a_model_that_rests_is_not_asked() -> None:
    late = UpstreamError("upstream_overloaded", "later", retry_after_ms=60_000)
    async with asking([late]) as stage:
        health = stage.funnel.funnel.health
        health.failed(health.pools["small"].places[0], late, 0.0)
        assert await stage.ask(request(strategy=Strategy.SMALL)) is None
        assert len(stage.funnel.small.attempts) == 0


async def test_a_model_that_fails_is_left_alone_and_tenants_are_not_told() -> None:
    """Their requests go where they would have gone."""
    late = UpstreamError("upstream_overloaded", "later", retry_after_ms=60_000)
    async with asking([late]) as stage:
        before = stage.funnel.funnel.health.reports()
        assert await stage.ask(request(strategy=Strategy.SMALL)) is None
        assert await stage.ask(request(strategy=Strategy.SMALL)) is None
        assert len(stage.funnel.small.attempts) == 1
        assert stage.funnel.funnel.health.reports() == before
        assert stage.funnel.funnel.health.wait(Tier.SMALL) is None


def test_the_copy_has_nothing_of_its_client() -> None:
    asked: Request = request(
        tenant="acme", key_id="k", session="s", store=True, previous_response_id="resp_0", metadata={"a": "b"}
    )
    again = _again(asked, None)
    assert (again.tenant, again.key_id, again.session, again.store) == (EVIDENCE_TENANT, EVIDENCE_TENANT, "", None)
    assert (again.cache, again.delivery, again.evidence) == (CacheMode.OFF, Delivery.FINAL, False)
    assert (again.metadata, again.previous_response_id) == ({}, None)
    assert again.id != asked.id
    assert len({_again(asked, None).id for _ in itertools.repeat(None, 3)}) == 3
