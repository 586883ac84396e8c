"""What each lever took off one request, from its row: exact, whatever became of it."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from millrace import levers, pricing
from millrace.levers import Saving, Waste, levers_of
from millrace.types import EVIDENCE_TENANT, CacheOutcome, Outcome, Past, PastCall, Price, Status, Usage

LARGE = Price(input=Decimal("2.50"), output=Decimal("10.00"), cached_input=Decimal("1.25"))
SMALL = Price(input=Decimal("0.15"), output=Decimal("0.60"), cached_input=Decimal("0.075"), cache_write=Decimal("0.19"))
FLEX = Price(input=Decimal("1.25"), output=Decimal("5.00"))
USAGE = Usage(input_tokens=100, output_tokens=20)
NANO = Decimal("1e-9")


def call(
    price: Price | None = SMALL, usage: Usage = USAGE, outcome: Outcome = Outcome.ANSWERED, **fields: Any
) -> PastCall:
    cost = 0 if price is None else int(pricing.cost(usage, price) / NANO)
    known: dict[str, Any] = {"model": "small-model", "tier": "small", "cost": cost}
    return PastCall(usage=usage, price=price, outcome=outcome, **known | fields)


def row(*calls: PastCall, **fields: Any) -> Past:
    known: dict[str, Any] = {
        "request_id": "resp_1",
        "tenant": "acme",
        "opened_at": 0.0,
        "status": Status.COMPLETED,
        "source": "small",
        "cache": CacheOutcome.MISS,
        "strategy": "auto",
        "code": None,
        "check": None,
        "usage": calls[-1].usage if calls else USAGE,
        "saved": 0,
        "latency_ms": 10.0,
        "trimmed_tokens": 0,
        "baseline": LARGE,
    }
    return Past(cost=sum(each.cost for each in calls), calls=[*calls], **known | fields)


BASELINE = 100 * 2500 + 20 * 10_000  # nanodollars of `USAGE` on the large model


def test_the_small_model_in_place_of_the_large_one_is_routing() -> None:
    found = levers_of(row(call()))
    assert (found.baseline, found.savings, found.waste) == (
        BASELINE,
        {Saving.ROUTING: BASELINE - 100 * 150 - 20 * 600},
        {},
    )


def test_the_large_model_alone_saves_nothing() -> None:
    found = levers_of(row(call(LARGE, model="large-model", tier="large"), source="large"))
    assert (found.baseline, found.savings, found.waste) == (BASELINE, {}, {})


@pytest.mark.parametrize(
    ("cache", "saving"),
    [
        (CacheOutcome.EXACT, Saving.EXACT),
        (CacheOutcome.SEMANTIC, Saving.SEMANTIC),
        (CacheOutcome.JOINED, Saving.JOIN),
    ],
)
def test_an_answer_without_a_call_saves_all_that_trimming_left(cache: CacheOutcome, saving: Saving) -> None:
    found = levers_of(row(cache=cache, source="cache", trimmed_tokens=40))
    assert found.baseline == BASELINE + 40 * 2500
    assert found.savings == {Saving.TRIMMING: 40 * 2500, saving: BASELINE}
    assert found.cost == 0


def test_what_a_provider_had_in_its_cache_is_its_prefix_lever() -> None:
    usage = replace(USAGE, cached_input_tokens=80)
    found = levers_of(row(call(usage=usage)))
    assert found.savings[Saving.PREFIX] == 80 * 75
    assert found.baseline == BASELINE, "nothing of it is in the baseline"


def test_the_prefix_lever_is_negative_where_it_was_only_written() -> None:
    usage = replace(USAGE, cache_write_tokens=100)
    assert levers_of(row(call(usage=usage))).savings[Saving.PREFIX] == -100 * 40


@pytest.mark.parametrize(("tier", "saving"), [("flex", Saving.SERVICE_TIER), ("batch", Saving.BATCH)])
def test_the_price_of_another_service_tier_is_told_apart_from_the_model(tier: str, saving: Saving) -> None:
    charged = call(FLEX, model="large-model", tier="large", standard=LARGE, service_tier=tier)
    found = levers_of(row(charged, source="large"))
    assert found.savings == {saving: BASELINE // 2}


def test_a_dearer_tier_saves_less_than_nothing() -> None:
    dear = Price(input=Decimal(5), output=Decimal(20))
    charged = call(dear, model="large-model", tier="large", standard=LARGE, service_tier="priority")
    assert levers_of(row(charged)).savings == {Saving.SERVICE_TIER: -BASELINE}


def test_the_price_of_longer_input_is_no_service_tier() -> None:
    longer = replace(LARGE, steps=(replace(LARGE, input=Decimal(5), above_tokens=50),))
    charged = call(longer.at(100), model="large-model", tier="large", standard=longer)
    found = levers_of(row(charged, source="large", baseline=longer))
    assert (found.baseline, found.savings) == (BASELINE + 100 * 2500, {})


def test_a_draft_that_was_taken_back_is_waste() -> None:
    draft = call(outcome=Outcome.REVISED)
    found = levers_of(row(draft, call(LARGE, model="large-model", tier="large"), source="large"))
    assert found.waste == {Waste.REVISED: draft.cost}
    assert found.saved == -draft.cost


def test_a_correction_that_helped_costs_its_longer_prompt() -> None:
    """The baseline is the request as it was asked, without the first answer and the validator's words."""
    draft, again = call(outcome=Outcome.REVISED), call(usage=Usage(input_tokens=160, output_tokens=20))
    found = levers_of(row(draft, again))
    assert found.baseline == BASELINE
    assert found.waste == {Waste.REVISED: draft.cost, Waste.REPAIR: 60 * 150}
    assert found.cost == draft.cost + again.cost


def test_a_correction_that_did_not_help_is_waste_of_its_own() -> None:
    draft, again = call(outcome=Outcome.REVISED), call(outcome=Outcome.REVISED)
    found = levers_of(row(draft, again, call(LARGE, model="large-model", tier="large")))
    assert found.waste == {Waste.REVISED: draft.cost, Waste.REPAIR: again.cost}


def test_a_participant_that_took_a_call_over_pays_the_rest_and_saves_what_was_paid_before() -> None:
    rest = call(LARGE, Usage(output_tokens=5), model="large-model", tier="large")
    found = levers_of(row(rest, cache=CacheOutcome.JOINED, usage=USAGE))
    assert found.savings == {Saving.JOIN: BASELINE - rest.cost}
    assert found.cost == rest.cost


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.CANCELLED, "cancelled"),
        (Status.FAILED, "upstream_error"),
        (Status.KILLED, None),
        (Status.INCOMPLETE, "deadline"),
        (Status.INCOMPLETE, "slow_consumer"),
    ],
)
def test_all_of_a_request_without_an_answer_is_waste(status: Status, code: str | None) -> None:
    cancelled, failed = call(outcome=Outcome.CANCELLED), call(outcome=Outcome.FAILED)
    found = levers_of(row(cancelled, failed, status=status, code=code))
    assert (found.baseline, found.savings) == (0, {})
    assert found.waste == {Waste.CANCELLED: cancelled.cost, Waste.FAILED: failed.cost}


def test_an_answer_that_a_cap_or_a_budget_cut_is_one() -> None:
    for code in ("max_output_tokens", "budget_exceeded", "content_filter"):
        assert levers_of(row(call(), status=Status.INCOMPLETE, code=code)).baseline == BASELINE


def test_what_evidence_asks_is_waste() -> None:
    found = levers_of(row(call(), tenant=EVIDENCE_TENANT))
    assert (found.baseline, found.waste) == (0, {Waste.EVIDENCE: call().cost})


def test_embeddings_are_compared_with_nothing() -> None:
    embedded = call(None, tier="embeddings", cost=77)
    found = levers_of(row(embedded, strategy="embeddings", source=None, baseline=None))
    assert (found.baseline, found.saved, found.cost) == (77, 0, 77)


def test_a_row_without_prices_is_compared_with_todays() -> None:
    """It does not tell its call's price either, so all that it cost less counts as a cheaper model."""
    old = row(call(None, cost=900), baseline=None)
    assert levers_of(old).saved == 0
    assert levers_of(old, LARGE).savings == {Saving.ROUTING: BASELINE - 900}


PRICES = st.builds(
    Price,
    input=st.decimals(0, 60, places=6),
    output=st.decimals(0, 60, places=6),
    cached_input=st.none() | st.decimals(0, 60, places=6),
    cache_write=st.none() | st.decimals(0, 60, places=6),
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    read, written, plain = (draw(st.integers(0, 5000)) for _ in range(3))
    return Usage(
        input_tokens=read + written + plain,
        cached_input_tokens=read,
        cache_write_tokens=written,
        output_tokens=draw(st.integers(0, 5000)),
    )


CALLS = st.builds(
    call,
    st.none() | PRICES,
    usages(),
    st.sampled_from(Outcome),
    model=st.sampled_from(("small-model", "large-model", "other")),
    tier=st.sampled_from(("small", "large")),
    standard=st.none() | PRICES,
    service_tier=st.sampled_from(("", "flex", "batch")),
)
ROWS = st.builds(
    lambda calls, fields: row(*calls, **fields),
    st.lists(CALLS, max_size=4),
    st.fixed_dictionaries(
        {
            "status": st.sampled_from([status for status in Status if status is not Status.OPEN]),
            "code": st.sampled_from((None, "deadline", "budget_exceeded", "max_output_tokens", "cancelled")),
            "cache": st.sampled_from(CacheOutcome),
            "source": st.sampled_from((None, "small", "large", "cache")),
            "strategy": st.sampled_from(("auto", "race", "embeddings")),
            "tenant": st.sampled_from(("acme", EVIDENCE_TENANT)),
            "trimmed_tokens": st.integers(0, 5000),
            "baseline": st.none() | PRICES,
            "usage": usages(),
        }
    ),
)


@given(ROWS)
def test_the_sum_is_exact_for_every_row(past: Past) -> None:
    found = levers_of(past)
    assert found.baseline - sum(found.savings.values()) + sum(found.waste.values()) == past.cost


@given(ROWS)
def test_a_bill_compares_with_the_same_baseline(past: Past) -> None:
    """`saved` of a bill is the sum of the levers: both reckon from one baseline."""
    found = levers_of(past)
    if past.baseline is not None and found.savings and past.strategy != "embeddings":
        compared = levers.compared(past.usage, past.trimmed_tokens, past.calls, past.baseline)
        assert int(compared / NANO) == found.baseline
