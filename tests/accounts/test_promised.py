"""Whether promises hold: only what is known with confidence is said to."""

from decimal import Decimal
from typing import Any

import pytest

from millrace.accounts.dashboard import promised
from millrace.funnel.routing.promises import Promised, Promises
from millrace.types import Tier
from millrace.wire.evidence import ShownRate, ShownSemantic

PLACE = ("acme", "auto")


def semantic(lower: float | None, upper: float | None) -> ShownSemantic:
    wrong = ShownRate(judged=100, effective=100.0, estimate=lower, lower=lower, upper=upper, since=None)
    return ShownSemantic(promised=0.02, wrong=wrong, needed=7, tenants=[], scopes=[])


@pytest.mark.parametrize(
    ("lower", "upper", "holds"),
    [(0.0, 0.02, "yes"), (0.0, 0.03, "unknown"), (0.021, 0.2, "no"), (None, None, "unknown")],
)
def test_wrong_hits_hold_by_their_upper_bound(lower: float | None, upper: float | None, holds: str) -> None:
    found = promised.wrong_hits(semantic(lower, upper))
    assert (found.holds, found.promised, found.needed) == (holds, 0.02, 7)
    assert "2.00%" in found.because


def promises(**given: Any) -> Promises:
    return Promises(Promised(**given), lambda: 50_000.0)


@pytest.mark.parametrize(("large", "of_all", "holds"), [(10, 49, "unknown"), (10, 100, "yes"), (40, 100, "no")])
def test_a_share_holds_within_what_chance_makes_of_it(large: int, of_all: int, holds: str) -> None:
    kept = promises(large_share=0.2)
    for number in range(of_all):
        kept.routed(PLACE, 0.1, Tier.LARGE if number < large else Tier.SMALL)
    (found,) = promised.of_router(kept, "acme", None)
    assert (found.kind, found.name, found.judged, found.holds) == ("large_share", "auto", of_all, holds)
    assert found.estimate == large / of_all
    assert promised.of_router(kept, "beta", None) == []


@pytest.mark.parametrize(("losses", "holds"), [(0, "yes"), (10, "unknown"), (60, "no")])
def test_a_quality_holds_by_its_lower_bound(losses: int, holds: str) -> None:
    kept = promises(keep_quality=0.9)
    for number in range(200):
        kept.routed(PLACE, 0.0, Tier.SMALL)
        kept.judged(PLACE, 0.0, Tier.SMALL, float(number < losses * 2), 1.0)
    (found,) = promised.of_router(kept, None, None)
    assert (found.kind, found.judged, found.is_upper) == ("quality", 200, False)
    assert found.estimate == pytest.approx(1 - losses / 100)
    assert found.holds == holds


def test_where_all_goes_to_the_large_model_its_quality_is_kept() -> None:
    kept = promises(keep_quality=0.97)
    kept.routed(PLACE, 0.5, Tier.LARGE)
    (found,) = promised.of_router(kept, None, None)
    assert (found.holds, found.lower) == ("yes", 1.0)


@pytest.mark.parametrize(("spent", "holds"), [("4.99", "yes"), ("5.01", "no"), (None, "unknown")])
def test_money_holds_while_it_is_not_passed(spent: str | None, holds: str) -> None:
    kept = promises(spend_per_day=Decimal(5))
    (found,) = promised.of_router(kept, None, None if spent is None else Decimal(spent))
    assert (found.kind, found.promised, found.holds) == ("spend", Decimal(5), holds)


def test_where_nothing_is_promised_nothing_is_said() -> None:
    assert promised.of_router(promises(), None, None) == []
