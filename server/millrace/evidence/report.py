"""What was found, as an operator reads it: how often cheap answers were right, what that cost, and what changed by it.

The errors of judges are counted over all tenants, as they are where the cache is steered: they are the judges' own.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from itertools import chain
from typing import Protocol, TypeVar

from msgspec import Struct

from millrace.evidence import intervals
from millrace.evidence.rates import TAIL, errors_of, first_errors, rate
from millrace.evidence.separation import separations
from millrace.ports import Clock, EvidenceStore
from millrace.types import (
    Change,
    EvidenceCost,
    FeedbackCounts,
    Judged,
    JudgeErrors,
    Lever,
    Rate,
    Steering,
)
from millrace.wire import evidence as wire

MOST = 10_000  # judged samples of a lever that a report reads: the last ones
LARGEST = 20  # tenants and scopes that are told apart
CHANGES = 50  # that are shown
MANY = 1_000_000  # judged hits; what needs more will not be known
DAY_S = 86_400
NOTHING = Rate(judged=0, effective=0.0)
_UNERRING = JudgeErrors(judge="", compared=0, misses=0.0, misses_upper=0.0, alarms=0.0, alarms_upper=0.0)

K = TypeVar("K")

Place = tuple[str, bytes]  # tenant and scope; an empty scope is the whole tenant


class KeptEvidence(EvidenceStore, Protocol):
    """All that is kept. `tenant`: only what is this tenant's."""

    async def changes(self, since: float, most: int, tenant: str | None = None) -> list[Change]:
        """Return the last changes since then (Unix seconds), the newest first."""
        ...

    async def feedback(self, since: float, tenant: str | None = None) -> FeedbackCounts:
        """Return how much feedback was given since then (Unix seconds)."""
        ...


class EvidenceCosts(Protocol):
    """What evidence has cost, from the ledger."""

    async def evidence_cost(self, since: float) -> EvidenceCost:
        """Return the cost of what was asked since then (Unix seconds); what is open counts at its highest cost."""
        ...


class Promises(Struct, frozen=True, kw_only=True):
    """What the operator has set."""

    judged: bool  # evidence is on
    max_wrong_hit_rate: float
    dollars_per_day: Decimal


class Reports:
    """Reads what is kept, and reports on it."""

    def __init__(
        self,
        kept: KeptEvidence,
        costs: EvidenceCosts,
        promises: Promises,
        wall: Clock,
        never_off: Collection[str] = (),  # checks that are not switched off
    ) -> None:
        self._never_off = never_off
        self._kept = kept
        self._costs = costs
        self.promises = promises  # may change at any time
        self._wall = wall
        self._turn = asyncio.Lock()  # a report takes up to some seconds of a core

    async def report(self, since: float, tenant: str | None = None) -> wire.EvidenceReport:
        """Report on what was judged since then (Unix seconds). Raises `TimeoutError` if the disk is too slow."""
        async with self._turn:
            return await self._report(since, tenant)

    async def _report(self, since: float, tenant: str | None) -> wire.EvidenceReport:
        kept, now = self._kept, self._wall()
        judged = {lever: await kept.judged(lever, since, MOST, tenant) for lever in Lever}
        of_all = judged if tenant is None else {lever: await kept.judged(lever, since, MOST) for lever in Lever}
        changes, feedback = await kept.changes(since, CHANGES, tenant), await kept.feedback(since, tenant)
        steered = {(each.tenant, each.scope): each.steering for each in await kept.steered()}
        cost = None if tenant is not None else await self._cost(since, now)
        errors = await asyncio.to_thread(lambda: first_errors(chain(*of_all.values())))
        return await asyncio.to_thread(
            lambda: report(
                judged,
                errors,
                steered=steered,
                changes=changes,
                feedback=feedback,
                cost=cost,
                promises=self.promises,
                since=since,
                tenant=tenant,
                never_off=self._never_off,
            )
        )

    async def _cost(self, since: float, now: float) -> wire.ShownCost:
        spent, today = await self._costs.evidence_cost(since), await self._costs.evidence_cost(now // DAY_S * DAY_S)
        return wire.ShownCost(
            requests=spent.requests,
            cost_usd=float(spent.dollars),
            today_usd=float(today.dollars),
            most_per_day_usd=float(self.promises.dollars_per_day),
        )


def report(  # noqa: PLR0913 - what there is to report
    judged: dict[Lever, list[Judged]],
    errors: JudgeErrors,  # of whoever spoke first
    *,
    steered: dict[Place, Steering],
    changes: Sequence[Change],  # the newest first
    feedback: FeedbackCounts,
    cost: wire.ShownCost | None,
    promises: Promises,
    since: float,
    tenant: str | None = None,
    never_off: Collection[str] = (),  # checks that are not switched off
) -> wire.EvidenceReport:
    """Return the report. Takes some milliseconds for each thousand samples."""

    def same(lever: Lever) -> wire.ShownRate:
        return _same(rate(judged[lever], errors))

    return wire.EvidenceReport(
        judges_now=promises.judged,
        tenant=tenant,
        since=since,
        semantic=_semantic(judged[Lever.SEMANTIC], errors, steered, promises.max_wrong_hit_rate),
        near_misses=same(Lever.NEAR_MISS),
        small=same(Lever.SMALL),
        large=same(Lever.LARGE),
        checks=_checks([*judged[Lever.SMALL], *judged[Lever.CHECK]], errors, never_off),
        judges=_judges([*chain(*judged.values())]),
        changes=[_change(each) for each in changes],
        cost=cost,
        feedback=wire.ShownFeedback(up=feedback.up, down=feedback.down, better=feedback.better),
    )


def needed(judged: Sequence[Judged], errors: JudgeErrors, promised: float) -> int | None:
    """Return how many more hits, all judged right, bring the upper bound to what is promised; None: far too many."""
    seen = rate(judged, _UNERRING)
    size, goal = seen.effective, promised * (1 - errors.misses_upper)
    wrong = (seen.estimate or 0.0) * size

    def suffice(more: int) -> bool:
        return intervals.upper(wrong, size + more, TAIL) <= goal

    if suffice(0):
        return 0
    too_few, enough = 0, 1
    while not suffice(enough):
        too_few, enough = enough, 2 * enough
        if enough > MANY:
            return None
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if suffice(middle) else (middle, enough)
    return enough


def _semantic(
    judged: Sequence[Judged], errors: JudgeErrors, steered: dict[Place, Steering], promised: float
) -> wire.ShownSemantic:
    def hits(place: Place, of: Sequence[Judged]) -> wire.ShownHits:
        tenant, scope = place
        steering = steered.get(place) or steered.get((tenant, b"")) or Steering()
        return wire.ShownHits(
            tenant=tenant,
            scope=scope.hex(),
            wrong=_shown(rate(of, errors)),
            needed=needed(of, errors, promised),
            strictness=steering.strictness,
            off=steering.is_off,
        )

    by_tenant = _grouped(judged, lambda each: (each.sample.tenant, b""))
    by_scope = _grouped(judged, lambda each: (each.sample.tenant, each.sample.scope))
    return wire.ShownSemantic(
        promised=promised,
        wrong=_shown(rate(judged, errors)),
        needed=needed(judged, errors, promised),
        tenants=[hits(place, of) for place, of in _largest(by_tenant)],
        scopes=[hits(place, of) for place, of in _largest(by_scope)],
    )


def _checks(judged: Sequence[Judged], errors: JudgeErrors, never_off: Collection[str]) -> list[wire.ShownCheck]:
    took_back = _grouped((each for each in judged if each.sample.lever is Lever.CHECK), lambda each: each.sample.detail)
    known = separations(judged)
    off: dict[str, list[str]] = {}
    by_tenant = _grouped(judged, lambda each: (each.sample.tenant, b""))
    for (tenant, _), of in _largest(by_tenant):
        for name, each in separations(of).items():
            if each.is_bad and name not in never_off:
                off.setdefault(name, []).append(tenant)
    return [
        wire.ShownCheck(
            check=name,
            catch=_shown(known[name].catch if name in known else NOTHING),
            false_alarms=_shown(known[name].false_alarms if name in known else NOTHING),
            needless=_same(rate(took_back.get(name, []), errors)),
            off=off.get(name, []),
        )
        for name in sorted({*known, *took_back})
    ]


def _judges(judged: Sequence[Judged]) -> list[wire.ShownJudge]:
    said = Counter(opinion.judge for each in judged for opinion in each.opinions)
    return [
        wire.ShownJudge(
            judge=each.judge,
            said=said[each.judge],
            compared=each.compared,
            misses=each.misses if each.compared else None,
            misses_upper=each.misses_upper if each.compared else None,
            alarms=each.alarms if each.compared else None,
            alarms_upper=each.alarms_upper if each.compared else None,
        )
        for each in errors_of(judged)
    ]


def _change(change: Change) -> wire.ShownChange:
    return wire.ShownChange(
        at=change.at,
        tenant=change.tenant,
        scope=change.scope.hex(),
        strictness=change.steering.strictness,
        off=change.steering.is_off,
        reason=change.reason,
    )


def _shown(found: Rate) -> wire.ShownRate:
    return wire.ShownRate(
        judged=found.judged,
        effective=found.effective,
        estimate=found.estimate,
        lower=found.lower,
        upper=found.upper,
        since=found.since,
    )


def _same(different: Rate) -> wire.ShownRate:
    """Return how often two answers said the same, from how often they did not."""
    shown = _shown(different)
    if different.estimate is not None and different.lower is not None and different.upper is not None:
        shown.estimate, shown.lower, shown.upper = 1 - different.estimate, 1 - different.upper, 1 - different.lower
    return shown


def _grouped(judged: Iterable[Judged], by: Callable[[Judged], K]) -> dict[K, list[Judged]]:
    groups: dict[K, list[Judged]] = {}
    for each in judged:
        groups.setdefault(by(each), []).append(each)
    return groups


def _largest(groups: dict[Place, list[Judged]]) -> list[tuple[Place, list[Judged]]]:
    """Return those of which most was judged, the largest first."""
    return sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))[:LARGEST]
