"""What a call costs, in whole nanodollars."""

from decimal import Decimal

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from millrace import pricing
from millrace.types import Call, Model, Price, Prompt, Tier, Usage

PRICE = Price(input=Decimal("0.15"), cached_input=Decimal("0.075"), output=Decimal("0.60"))
WRITTEN = replace(PRICE, cache_write=Decimal("0.1875"), cache_write_1h=Decimal("0.3"))
COUNT = st.integers(0, 10**9)
DOLLARS = st.decimals(0, 10_000, places=6, allow_nan=False)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    input_tokens = draw(COUNT)
    cached = draw(st.integers(0, input_tokens))
    return Usage(input_tokens=input_tokens, cached_input_tokens=cached, output_tokens=draw(COUNT))


@pytest.mark.parametrize(
    ("usage", "price", "dollars"),
    [
        (Usage(), PRICE, "0"),
        (Usage(input_tokens=1), PRICE, "0.000000150"),
        (Usage(output_tokens=1), PRICE, "0.000000600"),
        (Usage(input_tokens=1, cached_input_tokens=1), PRICE, "0.000000075"),
        (Usage(input_tokens=1, cached_input_tokens=1), replace(PRICE, cached_input=None), "0.000000150"),
        (Usage(input_tokens=1_000_000, output_tokens=1_000_000), PRICE, "0.75"),
        (Usage(input_tokens=1000, cached_input_tokens=400, output_tokens=10, reasoning_tokens=7), PRICE, "0.000126"),
        (Usage(input_tokens=1000, cache_write_tokens=400), PRICE, "0.00015"),
        (Usage(input_tokens=1000, cached_input_tokens=500, cache_write_tokens=400), WRITTEN, "0.0001275"),
        (Usage(input_tokens=9, cache_write_tokens=8, cache_write_1h_tokens=3), WRITTEN, "0.000001988"),
        (
            Usage(input_tokens=9, cache_write_tokens=8, cache_write_1h_tokens=3),
            replace(WRITTEN, cache_write_1h=None),
            "0.00000165",
        ),
    ],
)
def test_a_cost_is_exact(usage: Usage, price: Price, dollars: str) -> None:
    """Per million tokens; those read from a cache and written to it at prices of their own, where they have one.

    Reasoning is part of the output.
    """
    assert pricing.cost(usage, price) == Decimal(dollars)


def test_what_may_be_written_to_a_cache_is_reserved_at_that_price() -> None:
    """A provider may write all of the input there."""
    model = Model(tier=Tier.SMALL, id="m", address="", price=WRITTEN, context_window=1000)
    call = Call(model=model, prompt=Prompt(messages=()), room=10)
    assert call.dearest == Price(input=Decimal("0.3"), output=Decimal("0.60"))
    assert pricing.output_bought(Decimal("0.0000306"), call, 100) == 1


@given(usages(), usages(), st.builds(Price, input=DOLLARS, output=DOLLARS, cached_input=st.none() | DOLLARS))
def test_costs_are_whole_nanodollars_never_negative_and_add_up(one: Usage, other: Usage, price: Price) -> None:
    """Two calls cost what one call of both sizes does, within the nanodollar that each is rounded to."""
    both = Usage(
        input_tokens=one.input_tokens + other.input_tokens,
        cached_input_tokens=one.cached_input_tokens + other.cached_input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
    )
    costs = [pricing.cost(usage, price) for usage in (one, other)]
    assert all(cost >= 0 and cost == cost.quantize(pricing.NANODOLLAR) for cost in costs)
    assert abs(sum(costs) - pricing.cost(both, price)) <= Decimal("1.5e-9")
