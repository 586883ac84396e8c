"""What an operator reads of what was judged: the shares that count, with bounds; what is not known says so."""

from decimal import Decimal
from typing import Any

import pytest

from millrace.evidence import intervals
from millrace.evidence.rates import first_errors
from millrace.evidence.report import LARGEST, Promises, Reports, needed, report
from millrace.types import Change, EvidenceCost, FeedbackCounts, Judged, Lever, Steering
from millrace.wire.evidence import EvidenceReport, seconds
from tests.support.judged import judged

PROMISES = Promises(judged=True, max_wrong_hit_rate=0.01, dollars_per_day=Decimal(1))


def reported(*samples: Judged, **fields: Any) -> EvidenceReport:
    by_lever = {lever: [each for each in samples if each.sample.lever is lever] for lever in Lever}
    known: dict[str, Any] = {"steered": {}, "changes": [], "feedback": FeedbackCounts(), "cost": None}
    known |= {"promises": PROMISES, "since": 0.0}
    return report(by_lever, first_errors(samples), **known | fields)


def many(count: int, says: str, **fields: Any) -> list[Judged]:
    return [judged(f"{says}{number}{fields}", says, **fields) for number in range(count)]


def test_what_is_not_known_is_null() -> None:
    told = reported()
    for rate in (told.semantic.wrong, told.near_misses, told.small, told.large):
        assert (rate.judged, rate.estimate, rate.lower, rate.upper, rate.since) == (0, None, None, None, None)
    assert (told.checks, told.judges, told.changes, told.semantic.tenants) == ([], [], [], [])


def test_hits_are_counted_wrong_and_other_levers_right() -> None:
    """A near miss whose answer was the same could have been served, a check that took back the same was wrong."""
    levers = (Lever.SEMANTIC, Lever.NEAR_MISS, Lever.SMALL, Lever.LARGE)
    samples = [
        each
        for lever in levers
        for each in (*many(90, "same same", lever=lever), *many(10, "different different", lever=lever))
    ]
    told = reported(*samples, *many(3, "same same", lever=Lever.CHECK, detail="unsure"))
    assert told.semantic.wrong.estimate == pytest.approx(0.1, abs=0.01)
    for rate in (told.near_misses, told.small, told.large):
        assert rate.estimate == pytest.approx(0.9, abs=0.01)
        assert rate.lower is not None
        assert rate.upper is not None
        assert 0.8 < rate.lower < 0.9 < rate.upper < 1
    (check,) = told.checks
    assert (check.check, check.needless.judged, check.needless.estimate) == ("unsure", 3, 1.0)


def test_each_check_has_its_own_false_alarms() -> None:
    alarms = many(4, "same", lever=Lever.CHECK, detail="refusal")
    told = reported(*alarms, *many(6, "different", lever=Lever.CHECK, detail="unsure"))
    assert [(each.check, each.needless.judged) for each in told.checks] == [("refusal", 4), ("unsure", 6)]
    refusal, unsure = (each.needless.estimate for each in told.checks)
    assert refusal is not None
    assert unsure is not None
    assert refusal > unsure


def test_a_judge_that_nobody_has_checked_has_no_errors_yet() -> None:
    told = reported(*many(3, "same"), *many(2, "same same"))
    first, second = told.judges
    assert (first.judge, first.said, first.compared) == ("judge 1", 5, 2)
    assert first.alarms == pytest.approx(1 / 12)
    assert (second.judge, second.said, second.compared) == ("judge 2", 2, 0)
    assert (second.misses, second.misses_upper, second.alarms, second.alarms_upper) == (None, None, None, None)


def test_so_many_more_hits_keep_the_promise() -> None:
    """As many as it says, judged right, and not one less."""
    samples = (
        many(40, "same same") + many(1, "different different") + many(100, "different different", lever=Lever.SMALL)
    )
    errors = first_errors(samples)
    hits = [each for each in samples if each.sample.lever is Lever.SEMANTIC]
    more = needed(hits, errors, 0.05)
    assert more is not None
    goal = 0.05 * (1 - errors.misses_upper)
    assert intervals.upper(1.0, 41 + more, 0.05) <= goal < intervals.upper(1.0, 41 + more - 1, 0.05)
    told = reported(*samples)
    assert told.semantic.needed is not None
    assert told.semantic.needed > more
    assert needed(hits + many(more, "same same", taken_at=1.0), errors, 0.05) == 0


def test_a_promise_of_nothing_wrong_cannot_be_shown() -> None:
    assert needed(many(10, "same"), first_errors([]), 0.0) is None


def test_the_largest_tenants_and_scopes_are_told_apart() -> None:
    """With how they are steered: a scope as it is itself, a new one as its tenant."""
    samples = [
        each
        for number in range(LARGEST + 3)
        for each in many(number + 1, "same", tenant=f"t{number % 2}", scope=bytes([number]))
    ]
    off = Steering(strictness=1.0, is_off=True)
    told = reported(*samples, steered={("t0", b""): Steering(strictness=0.5), ("t0", bytes([LARGEST + 2])): off})
    assert [each.tenant for each in told.semantic.tenants] == ["t0", "t1"]
    assert [each.strictness for each in told.semantic.tenants] == [0.5, 0.0]
    scopes = told.semantic.scopes
    assert [each.wrong.judged for each in scopes] == [*range(LARGEST + 3, 3, -1)]
    assert [(each.scope, each.strictness, each.off) for each in scopes[:3]] == [
        ("16", 1.0, True),
        ("15", 0.0, False),
        ("14", 0.5, False),
    ]


def test_the_oldest_sample_says_since_when() -> None:
    told = reported(judged("1", taken_at=50.0), judged("2", taken_at=20.0))
    assert told.semantic.wrong.since == 20.0


@pytest.mark.parametrize(("text", "found"), [("90m", 5400), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)])
def test_a_duration_is_a_number_and_a_unit(text: str, found: float) -> None:
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "7 d", "1.5h", "999999d", "7days", "\u0667d"])
def test_others_are_none(text: str) -> None:
    assert seconds(text) is None


class Kept:
    """What two tenants have."""

    def __init__(self) -> None:
        self.rows = [*many(20, "same same", tenant="acme"), *many(30, "same different", tenant="other")]

    async def add(self, judged: object, changes: object = ()) -> None: ...

    async def judged(self, lever: Lever | None, since: float, most: int, tenant: str | None = None) -> list[Judged]:
        return [each for each in self.rows if each.sample.lever is lever and tenant in (None, each.sample.tenant)]

    async def steered(self) -> list[Change]:
        steering = Steering(strictness=2.0)
        return [Change(at=1.0, tenant="other", scope=b"", steering=steering, reason="stricter")]

    async def changes(self, since: float, most: int, tenant: str | None = None) -> list[Change]:
        return [each for each in await self.steered() if tenant in (None, each.tenant)]

    async def feedback(self, since: float, tenant: str | None = None) -> FeedbackCounts:
        return FeedbackCounts(up=1 if tenant is None else 0)

    async def evidence_cost(self, since: float) -> EvidenceCost:
        return EvidenceCost(requests=3, dollars=Decimal("0.25"))


async def test_a_tenant_is_told_of_its_own() -> None:
    """What its bounds allow for the errors of judges is what the steering allows; the cost is the operator's."""
    kept = Kept()
    reports = Reports(kept, kept, PROMISES, lambda: 100_000.0)
    own, whole = await reports.report(0.0, "acme"), await reports.report(0.0)
    assert (own.semantic.wrong.judged, whole.semantic.wrong.judged) == (20, 50)
    assert [each.tenant for each in own.semantic.tenants] == ["acme"]
    assert (own.changes, own.feedback.up, own.cost) == ([], 0, None)
    assert [each.compared for each in own.judges] == [20, 0]
    assert (len(whole.changes), whole.feedback.up) == (1, 1)
    assert whole.cost is not None
    assert (whole.cost.requests, whole.cost.cost_usd, whole.cost.most_per_day_usd) == (3, 0.25, 1.0)
    errors = first_errors(kept.rows)
    assert own.semantic.wrong.upper == pytest.approx(
        min(1.0, intervals.upper(0.0, 20, 0.05) / (1 - errors.misses_upper))
    )
