"""What is reserved and booked for a request that asks for a service tier, and what it saves."""

import json
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from millrace import pricing
from millrace.funnel.catalog import Catalog
from millrace.funnel.routing.choice import likely
from millrace.types import Call, Price, Strategy, Usage
from tests.support.bills import Store, StubAttempt, call, settle
from tests.support.scripted_models import LARGE, SMALL, request

DEAR = Price(input=Decimal("0.30"), output=Decimal("1.20"))
CHEAP = Price(input=Decimal("0.07"), output=Decimal("0.30"), cached_input=Decimal("0.01"))
TIERED = replace(SMALL, tier_prices={"priority": DEAR, "flex": CHEAP})
CATALOG = Catalog(TIERED, LARGE, {}, Strategy.AUTO)


@pytest.mark.parametrize(
    ("tier", "price"),
    [(None, SMALL.price), ("auto", SMALL.price), ("priority", DEAR), ("flex", CHEAP), ("x", SMALL.price)],
)
def test_a_reservation_has_the_price_of_the_tier(tier: Any, price: Price) -> None:
    """A tier without a price is not asked for, so it costs what the standard one does."""
    extras = {"service_tier": tier} if tier else {}
    reserved = likely(request(strategy=Strategy.SMALL, extras=extras), CATALOG)
    usage = pricing.booking(Call(model=SMALL, prompt=request().prompt), 0)
    input_tokens = reserved.tokens - usage.output_tokens
    assert reserved.cost == pricing.cost(replace(usage, input_tokens=input_tokens), price)


def test_a_cap_of_the_cost_holds_if_another_tier_is_served() -> None:
    """A cheap tier may be answered at the standard price."""
    bought = {
        tier: pricing.output_bought(
            Decimal("0.0001"), Call(model=TIERED, prompt=request(extras={"service_tier": tier}).prompt), 0
        )
        for tier in ("default", "flex", "priority")
    }
    assert bought["flex"] == bought["default"] > 1.9 * bought["priority"]


async def test_a_charge_follows_what_the_provider_reports(store: Store) -> None:
    """Until it reports, the tier that was asked for; a row of the ledger says which it was."""
    bill = store.bill()
    attempt = StubAttempt(usage=Usage(input_tokens=1000, output_tokens=1000, cached_input_tokens=500))
    charge = call(bill, TIERED, attempt)
    costs = {}
    for tier in ("", "flex", "priority", "scale"):
        attempt.service_tier = tier
        costs[tier] = charge.so_far.cost
    prices = {"": SMALL.price, "flex": CHEAP, "priority": DEAR, "scale": SMALL.price}
    assert costs == {tier: pricing.cost(attempt.usage or Usage(), price) for tier, price in prices.items()}
    assert charge.notes == ("has no price for service_tier 'scale': charged as default",)
    settle(bill)
    (row,) = await store.rows()
    assert json.loads(row["calls"])[0]["service_tier"] == "scale"
