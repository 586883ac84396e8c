"""Many requests added up: their bill, by groups, and how much sooner their answers came."""

from typing import Any

import pytest

from millrace.accounts.waterfall import Waterfall
from millrace.types import EVIDENCE_TENANT, CacheOutcome, Outcome, Past
from millrace.wire.levers import ShownBill
from tests.ground.test_levers import LARGE, call, row


def by_large(latency_ms: float = 4000.0, **fields: Any) -> Past:
    return row(call(LARGE, model="large-model", tier="large"), source="large", latency_ms=latency_ms, **fields)


def by_small(**fields: Any) -> Past:
    return row(call(), latency_ms=1000.0, **fields)


def stored(**fields: Any) -> Past:
    return row(cache=CacheOutcome.EXACT, source="cache", latency_ms=2.0, **fields)


def added(*rows: Past, by: str | None = None) -> tuple[ShownBill, dict[str, ShownBill]]:
    waterfall = Waterfall(by=by)
    for each in rows:
        waterfall.add(each)
    report = waterfall.report(since=0.0, until=1.0, tenant=None)
    return report.total, {group.name: group for group in report.groups}


def saved_ms(bill: ShownBill, lever: str) -> float | None:
    return next(each.saved_ms for each in bill.savings if each.lever == lever)


def test_what_came_sooner_is_compared_with_the_large_model() -> None:
    """A stored answer, and one of the small model; what was escalated says nothing of either."""
    slow = row(call(outcome=Outcome.REVISED), call(LARGE, tier="large"), source="large", latency_ms=90_000.0)
    total, _ = added(*(by_large() for _ in range(5)), *(slow for _ in range(9)), by_small(), by_small(), stored())
    assert saved_ms(total, "routing") == pytest.approx(2 * 3000, rel=0.05)
    assert saved_ms(total, "exact") == pytest.approx(3998, rel=0.05)


def test_where_the_large_model_has_hardly_answered_a_stored_answer_is_compared_with_any() -> None:
    total, _ = added(*(by_large() for _ in range(4)), *(by_small() for _ in range(9)), stored())
    assert saved_ms(total, "routing") is None
    assert saved_ms(total, "exact") == pytest.approx(998, rel=0.05)


def test_what_evidence_asks_is_waste_and_no_request_of_anybody() -> None:
    asked = by_large(tenant=EVIDENCE_TENANT)
    for by in ("tag", "user", "key", "model", "tenant"):
        total, groups = added(by_small(), asked, by=by)
        assert (total.requests, total.answered) == (1, 1)
        assert total.cost_usd == pytest.approx((call().cost + asked.cost) / 1e9)
        assert groups[EVIDENCE_TENANT].cost_usd == pytest.approx(asked.cost / 1e9)
        assert (groups[EVIDENCE_TENANT].requests, len(groups)) == (0, 2)
    assert {name: group.requests for name, group in added(by_small(), asked, by="day")[1].items()} == {"1970-01-01": 1}
