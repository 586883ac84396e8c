"""Prices with steps: what is reserved, booked, charged and shared where long input costs more; and that prices stay."""

import json
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from millrace import pricing
from millrace.types import Call, Model, Price, Usage
from tests.support.bills import Store, StubAttempt, call, settle
from tests.support.scripted_models import SMALL, request

LONG = Price(input=Decimal(2), cached_input=Decimal(1), output=Decimal(8), above_tokens=1000)
LONGER = Price(input=Decimal(4), output=Decimal(16), above_tokens=2000)
PRICE = Price(input=Decimal(1), cached_input=Decimal("0.5"), output=Decimal(4), steps=(LONG, LONGER))
STEPPED = replace(SMALL, price=PRICE, max_output_tokens=None)


@pytest.mark.parametrize(
    ("usage", "millionths"),
    [
        (Usage(input_tokens=1000, output_tokens=10), 1040),
        (Usage(input_tokens=1001, output_tokens=10), 2082),
        (Usage(input_tokens=1001, cached_input_tokens=1001), 1001),  # what was cached counts as input
        (Usage(input_tokens=2000, output_tokens=1), 4008),
        (Usage(input_tokens=2001, cached_input_tokens=1000), 8004),  # the step has no price for cached input
    ],
)
def test_all_of_a_call_costs_what_its_step_says(usage: Usage, millionths: int) -> None:
    """Input, cached input and output; the bound itself still costs less."""
    assert pricing.cost(usage, PRICE) == Decimal(millionths) / 10**6


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_the_dearer_of_two_prices_is_the_dearer_one_at_every_length(input_tokens: int, output_tokens: int) -> None:
    """Whichever of them has steps, and where."""
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    flat, other = Price(input=Decimal(3), output=Decimal(3)), replace(PRICE, steps=(replace(LONG, above_tokens=1500),))
    for one in (flat, other, PRICE):
        most = PRICE.dearer(one)
        assert pricing.cost(usage, most) >= max(pricing.cost(usage, PRICE), pricing.cost(usage, one))
        assert pricing.cost(usage, most) == pricing.cost(usage, one.dearer(PRICE))


def test_a_cap_of_the_cost_buys_less_output_after_long_input() -> None:
    """It holds at the step that the prompt reaches."""
    asked = Call(model=STEPPED, prompt=request().prompt, room=100_000)
    bought = [pricing.output_bought(Decimal("0.01"), asked, count) for count in (1000, 1001, 2001)]
    assert bought == [(10_000 - 1000) // 4, (10_000 - 2002) // 8, (10_000 - 8004) // 16]


async def test_a_row_has_the_price_of_the_step(store: Store) -> None:
    """As it was charged, and with all steps where the input was short."""
    bill = store.bill()
    for input_tokens in (500, 1500):
        call(bill, STEPPED, StubAttempt(usage=Usage(input_tokens=input_tokens, output_tokens=10)))
    settle(bill)
    (row,) = await store.rows()
    short, long = json.loads(row["calls"])
    above = {"input": "2", "output": "8", "cached_input": "1", "above_tokens": 1000}
    assert long["price"] == above
    assert long["cost_nanodollars"] == 3_080_000
    assert short["price"] == {
        "input": "1",
        "output": "4",
        "cached_input": "0.5",
        "steps": [above, {"input": "4", "output": "16", "above_tokens": 2000}],
    }


async def test_a_call_is_booked_at_its_step_before_anything_is_reported(store: Store) -> None:
    """By what was counted here; what the provider reports counts from then on."""
    bill = store.bill()
    bill.input_tokens = 1500
    attempt = StubAttempt()
    charge = call(bill, STEPPED, attempt)
    assert charge.booked.price is LONG
    assert charge.booked.cost == pricing.cost(charge.booked.usage, LONG)
    attempt.usage = Usage(input_tokens=900, output_tokens=10)
    assert charge.so_far.cost == Decimal("0.00094")


async def test_shares_of_a_long_call_cost_what_the_whole_does(store: Store) -> None:
    """The one who takes it over pays output alone, and still at the price of the long input."""
    first, second = store.bill(), store.bill()
    attempt = StubAttempt(words=10)
    first.input_tokens = second.input_tokens = 1500
    charge = call(first, STEPPED, attempt)
    first.hand_over(second)
    attempt.usage = Usage(input_tokens=1500, output_tokens=30)
    whole = pricing.cost(attempt.usage, PRICE)
    assert first.statement().cost + second.statement().cost == whole
    assert charge.so_far.price is LONG
    settle(first)
    settle(second)


async def test_a_price_that_changes_while_a_call_runs_does_not_change_its_bill(store: Store) -> None:
    """The call has the model of its beginning; a new configuration is another model."""
    bill = store.bill()
    attempt = StubAttempt(usage=Usage(input_tokens=100, output_tokens=100))
    charge = call(bill, SMALL, attempt)
    before = charge.so_far.cost
    dearer: Model = replace(SMALL, price=Price(input=Decimal(100), output=Decimal(100)))
    later = call(bill, dearer, StubAttempt(usage=attempt.usage))
    assert charge.so_far.cost == before
    assert later.so_far.cost > before
    entry = settle(bill)
    assert [one.price for one in entry.statement.charges] == [SMALL.price, dearer.price]
