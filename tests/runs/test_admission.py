"""What budgets make of a request, and of a line of a batch."""

import dataclasses
from decimal import Decimal

import pytest
from msgspec.structs import replace

from millrace.errors import MillraceError
from millrace.funnel.catalog import Catalog
from millrace.principal import Limits, Principal, Role
from millrace.runs.admission import admitted
from millrace.stores.limits import MemoryLimiter
from millrace.types import BATCH_TIER, Request, Strategy
from millrace.types.budget import Step
from tests.support.bills import LARGE, REQUEST, SMALL

OWNER = Principal(key_id="k", tenant="acme", role=Role.USE, limits=Limits(dollars_per_day=Decimal(1)))
CATALOG = Catalog(SMALL, LARGE, {}, Strategy.AUTO)
LINE = replace(REQUEST, batch="batch_1")
PAID = replace(LINE, prompt=dataclasses.replace(REQUEST.prompt, extras={"service_tier": BATCH_TIER}))


@pytest.fixture
def limiter() -> MemoryLimiter:
    steps = ((Decimal("0.5"), Step.SMALL), (Decimal(1), Step.CACHE))
    return MemoryLimiter(lambda: 0.0, lambda: 1_700_000_000.0, steps=steps)


def spend(limiter: MemoryLimiter, dollars: str) -> None:
    limiter.admit(OWNER, Decimal(0), 0).settle(Decimal(dollars), 0)


def taken(limiter: MemoryLimiter, request: Request) -> Request:
    return admitted(request, OWNER, limiter, CATALOG)[0]


def test_what_a_provider_has_answered_already_goes_to_no_other_model(limiter: MemoryLimiter) -> None:
    """Its batch is paid for."""
    spend(limiter, "0.6")
    for asked in (REQUEST, LINE):
        budget = taken(limiter, asked).budget
        assert budget is not None
        assert budget.step is Step.SMALL
    assert taken(limiter, PAID).budget is None


def test_a_line_waits_where_a_request_gets_the_rest(limiter: MemoryLimiter) -> None:
    """It would be cut there; a step still leaves it the caches."""
    spend(limiter, "0.99999")
    assert taken(limiter, REQUEST).rest is not None
    budget = taken(limiter, LINE).budget
    assert budget is not None
    assert budget.step is Step.CACHE
    with pytest.raises(MillraceError) as refused:
        taken(limiter, PAID)
    assert refused.value.code == "budget_exceeded"
