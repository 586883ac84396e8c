"""What a call costs, in whole nanodollars."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from millrace import pricing
from millrace.types import Price, Usage

PRICE = Price(input=Decimal("0.15"), cached_input=Decimal("0.075"), output=Decimal("0.60"))
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
    ],
)
def test_a_cost_is_exact(usage: Usage, price: Price, dollars: str) -> None:
    """Per million tokens; the cached at their own price, if they have one; reasoning is part of the output."""
    assert pricing.cost(usage, price) == Decimal(dollars)


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
