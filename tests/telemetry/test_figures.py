"""How requests are counted: each once, whatever became of it, with labels that stay few."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from millrace import settings
from millrace.assembly.telemetry import Observed, Providers
from millrace.principal import Limits, Principal, Role
from millrace.runs.sweeper import Sweeper
from millrace.stores.limits import MemoryLimiter
from millrace.telemetry import families as the
from millrace.telemetry.figures import Figures
from millrace.telemetry.numbers import MOST_SERIES, Numbers, total
from millrace.types import (
    EVIDENCE_TENANT,
    CacheOutcome,
    Charge,
    Entry,
    Outcome,
    Price,
    Source,
    Statement,
    Status,
    Story,
    Strategy,
    Tier,
    Usage,
)
from millrace.types.budget import Period, Step
from tests.support.bills import Store
from tests.support.logs import captured_logs
from tests.support.server import configuration_for

USAGE = Usage(input_tokens=10, output_tokens=5)
PRICE = Price(input=Decimal("0.15"), output=Decimal("0.60"))
COST = Decimal("0.0000045")


def call(tier: Tier = Tier.SMALL, outcome: Outcome = Outcome.ANSWERED, **fields: Any) -> Charge:
    made = Charge(
        model=f"{tier}-model",
        tier=tier,
        usage=USAGE,
        cost=COST,
        outcome=outcome,
        price=PRICE,
        began_at=1.0,
        spoke_at=1.1,
        ended_at=1.5,
    )
    return replace(made, **fields)


def entry(*calls: Charge, **fields: Any) -> Entry:
    cost = sum((each.cost for each in calls), Decimal(0))
    made = Entry(
        request_id="resp_1",
        tenant="acme",
        opened_at=100.0,
        status=Status.COMPLETED,
        source=Source.SMALL,
        cache=CacheOutcome.MISS,
        strategy=Strategy.AUTO,
        check=None,
        code=None,
        statement=Statement(usage=USAGE, cost=cost, saved=Decimal(0), charges=calls),
        ttft_ms=100.0,
        latency_ms=500.0,
        baseline=PRICE,
        dialect="chat",
    )
    return replace(made, **fields)


def counted(*entries: Entry, tenant: str | None = None) -> Numbers:
    figures = Figures()
    for each in entries:
        figures.settled(each)
    return figures.of(tenant)


def test_a_race_is_no_escalation() -> None:
    """Who lost is waste, who won is told by strategy."""
    found = counted(
        entry(call(outcome=Outcome.LOST), call(Tier.LARGE), source=Source.LARGE, strategy=Strategy.RACE),
        entry(call(), call(Tier.LARGE, Outcome.LOST), strategy=Strategy.HEDGE),
    )
    assert found.counts[the.RACES] == {("race", "large"): 1, ("hedge", "small"): 1}
    assert the.ESCALATIONS not in found.counts
    assert found.counts[the.WASTED] == {("lost",): 9000}


def test_an_escalation_has_the_check_or_the_code_as_its_reason() -> None:
    revised = entry(call(outcome=Outcome.REVISED), call(Tier.LARGE), source=Source.LARGE, check="unsure")
    failed = replace(
        revised,
        check=None,
        statement=replace(revised.statement, charges=(call(outcome=Outcome.FAILED), call(Tier.LARGE))),
        story=Story(failed=(("small-model", "upstream_timeout"),)),
    )
    strange = replace(failed, story=Story(failed=(("small-model", "insufficient_luck_4711"),)))
    found = counted(revised, failed, strange)
    assert found.counts[the.ESCALATIONS] == {("unsure",): 1, ("upstream_timeout",): 1, ("other",): 1}


def test_a_race_that_was_cancelled_is_no_escalation() -> None:
    """As little as one in which the small model failed: nobody took an answer back."""
    both = call(outcome=Outcome.CANCELLED), call(Tier.LARGE, Outcome.CANCELLED)
    cancelled = entry(*both, status=Status.CANCELLED, source=None, strategy=Strategy.RACE)
    failed = entry(call(outcome=Outcome.FAILED), call(Tier.LARGE), source=Source.LARGE, strategy=Strategy.RACE)
    found = counted(cancelled, replace(cancelled, strategy=Strategy.HEDGE), failed)
    assert the.ESCALATIONS not in found.counts


def test_a_code_that_a_provider_made_up_is_no_label() -> None:
    found = counted(*(entry(status=Status.FAILED, code=f"code_{number}", source=None) for number in range(3)))
    assert found.counts[the.ERRORS] == {("other",): 3}
    assert {labels[-1] for labels in found.histograms[the.REQUEST_SECONDS]} == {"other"}


def test_a_metric_has_a_bounded_number_of_series() -> None:
    figures = Figures()
    for number in range(MOST_SERIES + 50):
        figures.settled(entry(call(model=f"model-{number}", deployment=str(number))))
    found = figures.of(None)
    assert len(found.counts[the.CALLS]) <= MOST_SERIES + 1
    assert len(found.counts[the.REQUESTS]) <= MOST_SERIES + 1
    assert sum(found.counts[the.CALLS].values()) == sum(found.counts[the.REQUESTS].values()) == MOST_SERIES + 50
    assert sum(found.counts[the.SPENT].values()) == 4500 * (MOST_SERIES + 50)


def test_what_evidence_asks_is_spent_and_no_request() -> None:
    found = counted(entry(call()), entry(call(), tenant=EVIDENCE_TENANT))
    assert sum(found.counts[the.REQUESTS].values()) == 1
    assert found.counts[the.SPENT] == {("small-model", "small"): 9000}
    assert found.counts[the.WASTED] == {("evidence",): 4500}
    assert counted(entry(tenant="other"), tenant="acme").counts == {}


def test_a_hit_has_no_gap_between_tokens() -> None:
    found = counted(entry(cache=CacheOutcome.SEMANTIC, source=Source.CACHE, ttft_ms=1.0, latency_ms=2.0))
    assert the.TOKEN_GAP_SECONDS not in found.histograms
    (labels,) = found.histograms[the.FIRST_TOKEN_SECONDS]
    assert labels[-1] == "semantic"
    assert found.counts[the.LOOKUPS] == {("semantic", "hit"): 1}


def test_histograms_put_a_value_at_its_bound() -> None:
    numbers = Numbers()
    for value in (0.001, 0.0011, 9.0):
        numbers.observe(the.LAG, (), value)
    both = total([numbers, numbers])
    histogram = both.histograms[the.LAG][()]
    assert (histogram.counts[0], histogram.counts[1], histogram.counts[-1]) == (2, 2, 2)
    assert histogram.sum == pytest.approx(2 * 9.0021)
    assert sum(numbers.histograms[the.LAG][()].counts) == 3, "and what was added to is another one"


def test_an_observer_that_fails_costs_no_row(store: Store) -> None:
    class Broken:
        def settled(self, entry: Entry) -> None:
            raise ValueError(entry.request_id)

    figures = Figures()
    with captured_logs() as logs:
        Observed(store.ledger, [Broken(), figures]).settled(entry(call()))
    assert sum(figures.of(None).counts[the.REQUESTS].values()) == 1
    assert "observer failed" in logs.text


def test_providers_have_the_names_of_the_conventions() -> None:
    tree = configuration_for("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")
    tree["models"]["small"] |= {"provider": "gemini"}
    tree["models"]["large"] |= {"upstream": "anthropic"}
    providers = Providers(settings.build(tree, {}))
    assert providers() == {"small-model": "gcp.gemini", "large-model": "anthropic"}
    tree["models"]["small"] |= {"provider": "vllm", "model": "own"}
    renewed = settings.build(tree, {})
    providers.settings = lambda: renewed
    assert providers()["own"] == "vllm"


async def test_a_late_beat_is_measured() -> None:
    late: list[float] = []
    now = iter((0.0, 0.35, 0.35))
    sweeper = Sweeper(lambda: next(now), beat_s=0.001)
    sweeper.on_late = late.append
    with pytest.raises(RuntimeError):  # the clock ends
        await sweeper.run()
    assert late == [pytest.approx(0.349)]


def test_a_budget_of_yesterday_is_not_spent_today() -> None:
    """Accounts that nobody has used since are not looked at until a scrape."""
    wall = [1_800_000_000.0]
    limits = Limits(dollars_per_day=Decimal(1), dollars_per_month=Decimal(4))
    owner = Principal(key_id="k", tenant="acme", role=Role.USE, limits=limits)
    limiter = MemoryLimiter(lambda: 0.0, lambda: wall[0], steps=((Decimal("0.5"), Step.WARN),))
    limiter.admit(owner, Decimal("0.6"), 1).settle(Decimal("0.6"), 1)
    used = {each.period: (each.ratio, each.step) for each in limiter.budgets()(None)}
    assert used == {Period.DAY: (0.6, Step.WARN), Period.MONTH: (0.15, None)}
    assert limiter.budgets()("other") == []
    wall[0] += 86_400
    limiter.admit(replace(owner, key_id="another"), Decimal(0), 1).settle(Decimal(0), 1)
    now = {(each.account.name, each.period): each.ratio for each in limiter.budgets()("acme")}
    assert now["k", Period.DAY] == 0
    assert now["k", Period.MONTH] == 0.15
