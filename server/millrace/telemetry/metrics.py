"""What a process shows at `GET /metrics` beside what is looked up of it there, and who may read it."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from msgspec import Struct, field

from millrace.evidence.report import Reports
from millrace.telemetry import families as the
from millrace.telemetry.figures import NONE, Figures
from millrace.telemetry.numbers import Numbers
from millrace.types.budget import Used
from millrace.wire.evidence import ShownRate

EVIDENCE_S = 7 * 86_400  # that the figures of evidence are of
FRESH_S = 60.0  # for which these are shown again: a report takes up to some seconds of a core

Lags = Callable[[], Mapping[str, float]]  # returns for how many seconds something waits, by direction
Budgets = Callable[[str | None], list[Used]]  # returns the budgets of a tenant, or of all


class Access(Struct, frozen=True, kw_only=True):
    """Who may read everything without an admin's key."""

    is_open: bool = False
    key: str = ""  # that a scraper sends as a bearer; empty: there is none


def _no_budgets() -> Budgets:
    return lambda _: []


class Metrics(Struct, frozen=True, kw_only=True):
    """What was counted of requests, and what is added up at a scrape."""

    figures: Figures = field(default_factory=Figures)
    access: Access = Access()
    budgets: Callable[[], Budgets] = _no_budgets  # as they are now; what it returns is called on a thread
    reports: Reports | None = None
    lags: Lags = dict  # of what replicas tell each other of semantic entries
    _evidence: dict[str | None, tuple[float, Numbers]] = field(default_factory=dict)

    async def gathered(self, numbers: Numbers, tenant: str | None, now: float) -> None:
        """Add all that was counted of a tenant, or of all. `now` in Unix seconds."""
        numbers.add(await self._of_evidence(tenant, now))
        for direction, seconds in self.lags().items():
            numbers.count(the.SHARING_LAG, (direction,), seconds)
        await asyncio.to_thread(partial(self._gather, numbers, self.budgets(), tenant))

    def _gather(self, numbers: Numbers, budgets: Budgets, tenant: str | None) -> None:
        furthest: dict[tuple[str, ...], float] = {}
        for used in budgets(tenant):
            labels: tuple[str, ...] = used.account.kind.value, used.period.value
            furthest[labels] = max(furthest.get(labels, 0.0), used.ratio)
            numbers.count(the.BUDGET_STEPS, (used.account.kind.value, NONE if used.step is None else used.step.value))
        for labels, ratio in furthest.items():
            numbers.count(the.BUDGET_USED, labels, ratio)
        numbers.add(self.figures.of(tenant))

    async def _of_evidence(self, tenant: str | None, now: float) -> Numbers:
        at, numbers = self._evidence.get(tenant, (0.0, Numbers()))
        if self.reports is None or now - at < FRESH_S:
            return numbers
        try:
            report = await self.reports.report(now - EVIDENCE_S, tenant)
        except TimeoutError:  # the disk is too slow
            return numbers
        numbers = Numbers()
        numbers.count(the.PROMISED, (), report.semantic.promised)
        _add_rate(numbers, "semantic", report.semantic.wrong)
        for lever, same in (("small", report.small), ("large", report.large)):
            _add_rate(numbers, lever, _others(same))
        self._evidence[tenant] = now, numbers
        return numbers


def _add_rate(numbers: Numbers, lever: str, rate: ShownRate) -> None:
    numbers.count(the.EVIDENCE, (lever,), rate.judged)
    for bound, share in (("estimate", rate.estimate), ("lower", rate.lower), ("upper", rate.upper)):
        if share is not None:
            numbers.count(the.WRONG, (lever, bound), share)


def _others(same: ShownRate) -> ShownRate:
    """Return how often another model said something else, from how often it said the same."""
    left = [None if share is None else 1 - share for share in (same.estimate, same.upper, same.lower)]
    return ShownRate(
        judged=same.judged,
        effective=same.effective,
        estimate=left[0],
        lower=left[1],
        upper=left[2],
        since=same.since,
    )
