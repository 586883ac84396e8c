"""What is reserved for a request pays for its calls: no more is spent, and nothing of it is left unused."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from millrace import pricing, tokens
from millrace.funnel.bill import Bill
from millrace.funnel.calls import plan
from millrace.funnel.catalog import Catalog
from millrace.funnel.response_log import ResponseLog
from millrace.funnel.routing.choice import likely
from millrace.pricing import BOOKED
from millrace.principal import Limits, Principal, Role
from millrace.runs.admission import admitted
from millrace.stores.limits import MemoryLimiter
from millrace.types import Call, Message, Model, Outcome, Price, Request, Status, Strategy
from tests.support.bills import LARGE, REQUEST, SMALL, Store, StubAttempt, settle
from tests.support.scripted_models import STOP, ScriptedAttempt, request, scripted_funnel

UNCAPPED, DEAR = (replace(model, max_output_tokens=None, context_window=200_000) for model in (SMALL, LARGE))
CATALOG = Catalog(UNCAPPED, DEAR, {}, Strategy.AUTO)
CRABS = Message(role="user", parts=("🦀🧊" * 2000,))  # three tokens each, though a character


class Key:
    """A key with so many dollars a day, and a request of it."""

    def __init__(self, dollars: Decimal | str, catalog: Catalog = CATALOG) -> None:
        self.limiter = MemoryLimiter(lambda: 0.0, lambda: 1_700_000_000.0)
        limits = Limits(dollars_per_day=Decimal(dollars))
        self.owner = Principal(key_id="k", tenant="acme", role=Role.USE, limits=limits)
        self.catalog = catalog

    def admit(self, asked: Request) -> tuple[Request, Any]:
        return admitted(asked, self.owner, self.limiter, self.catalog)

    @property
    def reserved(self) -> Decimal:
        (account,) = self.limiter.accounts
        return account.reserved_cost


async def test_who_gets_the_rest_of_a_budget_may_use_all_of_it(store: Store) -> None:
    """It is reserved as a whole. So an answer is not cut where the first booking ends, but where the money does."""
    asked, admission = Key("0.01").admit(REQUEST)
    assert asked.rest is not None  # a large answer would cost more
    bill = Bill(asked, DEAR.price, store.ledger, 0.0, admission)
    bill.input_tokens = 10
    attempt = StubAttempt()
    charge = bill.open(plan(UNCAPPED, ResponseLog(asked, lambda: 0.0), bill), attempt)
    bought = charge.call.max_output_tokens
    assert bought > 16 * BOOKED
    while len(attempt.parts) < bought:
        attempt.parts += [" mill"] * min(100, bought - len(attempt.parts))
        assert bill.book_more()
        assert attempt.limited_to is None
    charge.outcome = Outcome.ANSWERED
    assert settle(bill).statement.cost <= Decimal("0.01")


async def test_what_is_reserved_for_another_model_pays_for_an_answer_that_goes_on(store: Store) -> None:
    """Where the budget has no more: nobody else may have it before this request has ended."""
    key = Key("0.011")  # what small and large are likely to cost
    asked, admission = key.admit(REQUEST)
    assert asked.rest is None
    bill = Bill(asked, DEAR.price, store.ledger, 0.0, admission)
    bill.input_tokens = 10
    attempt = StubAttempt()
    bill.open(plan(UNCAPPED, ResponseLog(asked, lambda: 0.0), bill), attempt)
    attempt.parts += [" mill"] * 10 * BOOKED
    assert bill.book_more()
    assert attempt.limited_to is None
    assert key.reserved <= Decimal("0.011")


@pytest.mark.parametrize("strategy", [Strategy.SMALL, Strategy.CASCADE, Strategy.RACE])
async def test_a_prompt_with_more_tokens_than_was_thought_reserves_them_before_it_is_sent(
    strategy: Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At admission its bytes are counted, not its tokens."""
    key, seen = Key(Decimal(1)), []
    async with scripted_funnel(["Yes.", STOP]) as stage:
        key.catalog = stage.funnel.catalog
        asked, admission = key.admit(request(CRABS, strategy=strategy))
        thought = key.reserved
        response, opened = ResponseLog(asked, asyncio.get_running_loop().time), stage.small.open

        def open_small(call: Call) -> ScriptedAttempt:
            seen.append(key.reserved)
            return opened(call)

        monkeypatch.setattr(stage.small, "open", open_small)
        await stage.funnel.answer(response, admission)
        call = stage.small.attempts[0].call
        assert call.counted.tokens == tokens.count_message(CRABS) + tokens.REPLY
        needed = pricing.cost(pricing.booking(call, call.counted.tokens), call.price)
        assert seen[0] >= needed
        assert strategy is not Strategy.SMALL or needed > 1.5 * float(thought)
    assert response.ended is not None
    assert response.ended.status is Status.COMPLETED
    assert key.reserved == 0


async def test_a_prompt_that_the_budget_does_not_pay_for_is_not_sent() -> None:
    """What lacks is known before a token costs anything."""
    async with scripted_funnel(["Yes.", STOP]) as stage:
        key = Key(Decimal("0.0015"), stage.funnel.catalog)
        asked, admission = key.admit(request(CRABS, strategy=Strategy.SMALL))
        response = ResponseLog(asked, asyncio.get_running_loop().time)
        await stage.funnel.answer(response, admission)
        assert stage.small.attempts == []
    assert response.ended is not None
    assert response.ended.error is not None
    assert response.ended.error.code == "budget_exceeded"
    assert "one output token of small-model" in response.ended.error.message
    assert key.reserved == 0


async def test_less_than_the_first_booking_is_held_to_from_the_first_token() -> None:
    """The next look at what it has said could be too late."""
    async with scripted_funnel(["Yes.", STOP]) as stage:
        counted = tokens.count_message(CRABS) + tokens.REPLY
        key = Key(counted * SMALL.price.input / 10**6 + 100 * SMALL.price.output / 10**6, stage.funnel.catalog)
        asked, admission = key.admit(request(CRABS, strategy=Strategy.SMALL))
        await stage.funnel.answer(ResponseLog(asked, asyncio.get_running_loop().time), admission)
        (attempt,) = stage.small.attempts
    assert attempt.limited_to == 100


async def test_a_model_that_stands_in_and_costs_more_reserves_more(store: Store) -> None:
    """What was thought of at first was the first model."""
    key = Key(Decimal(1))
    _, admission = key.admit(replace(REQUEST, strategy=Strategy.SMALL))
    bill = Bill(REQUEST, DEAR.price, store.ledger, 0.0, admission)
    bill.input_tokens = 10
    assert bill.covers(_call(UNCAPPED))
    before = key.reserved
    assert bill.covers(_call(DEAR), whole=True)
    assert key.reserved == 10 * DEAR.price.input / 10**6 + BOOKED * DEAR.price.output / 10**6 > 10 * before
    bill.close()


def test_input_that_a_provider_keeps_is_reserved_at_what_that_costs() -> None:
    keeps = replace(DEAR, price=Price(input=Decimal(2), output=Decimal(8), cache_write=Decimal("2.5")))
    usage = pricing.booking(_call(keeps), 1000)
    assert pricing.cost(usage, keeps.price) == (1000 * Decimal("2.5") + BOOKED * 8) / 10**6
    assert pricing.output_booked(pricing.cost(usage, keeps.price), _call(keeps), 1000) == BOOKED
    assert pricing.output_booked(Decimal("0.002"), _call(keeps), 1000) == 0


@pytest.mark.parametrize(
    "text", ["水車へ水を引く溝", "Mühlgraben und Wehr", "a mill race", "水車" * 50_000, "水 and a mill " * 9000]
)
def test_what_is_thought_of_a_prompt_goes_by_its_bytes(text: str) -> None:
    """As many scripts have more tokens for a character than letters have. Long texts are sampled."""
    asked = request(Message(role="user", parts=(text,)), strategy=Strategy.SMALL)
    used = likely(asked, CATALOG).tokens - BOOKED - tokens.MESSAGE - tokens.REPLY
    assert used == pytest.approx(tokens.estimate(len(text.encode())), rel=0.02)


def _call(model: Model) -> Call:
    return Call(model=model, prompt=REQUEST.prompt)
