"""One request in short, and its whole story: what each stage of the funnel did, with its time and its cost."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from millrace.accounts import told
from millrace.accounts.dashboard.figures import bill, dollars
from millrace.accounts.dashboard.sums import Sums
from millrace.levers import escalation, model_of
from millrace.types import CacheMode, Past, Price, Status
from millrace.wire import dashboard as wire
from millrace.wire.dashboard import Stage
from millrace.wire.ledger import LedgerEntry, ShownCall

NOTHING = Decimal(0)
_OUTCOMES: dict[str, wire.State] = {
    "answered": "answered",
    "revised": "revised",
    "lost": "lost",
    "failed": "failed",
    "cancelled": "cancelled",
    "running": "cancelled",
}
_BEST: tuple[wire.State, ...] = (
    "answered",
    "revised",
    "failed",
    "lost",
    "cancelled",
)  # of several calls, the one that tells most


def line(row: Past) -> wire.Line:
    """Return a request in short."""
    return wire.Line(
        id=row.request_id,
        tenant=row.tenant,
        opened_at=row.opened_at,
        status=row.status.value,
        code=row.code,
        source=row.source,
        cache=row.cache.value,
        model=model_of(row.calls, row.cache),
        strategy=row.strategy,
        tag=row.tag,
        user=row.user,
        reason=row.story.route,
        failed_check=row.check,
        escalated=escalation(row.strategy, row.calls, row.story, row.check) is not None,
        input_tokens=row.usage.input_tokens,
        output_tokens=row.usage.output_tokens,
        cost_usd=dollars(row.cost),
        saved_usd=dollars(row.saved),
        ttft_ms=None if row.ttft_ms is None else round(row.ttft_ms, 1),
        latency_ms=None if row.status is Status.KILLED else round(row.latency_ms, 1),
    )


def story(row: Past, entry: LedgerEntry, standard: Price | None) -> wire.StoryReport:
    """Return the whole story; `entry` is the same row. `standard` is the large model's price today."""
    sums = Sums()
    sums.add(row, standard)
    facts = [*told.facts(entry), *told.verdicts(entry), *told.bill(entry)]
    return wire.StoryReport(
        line=line(row),
        stages=[*stages(entry)],
        facts=[wire.Fact(name or "note", value) for name, value in facts if value],
        waterfall=bill(sums),
        entry=entry,
    )


def stages(row: LedgerEntry) -> Iterator[Stage]:
    """Yield all stages in the order of the funnel."""
    asked = row.strategy != "embeddings" and row.status != "open"
    cut = (row.shape or {}).get("cut", ())
    what = f"{row.trimmed_tokens:,} tokens of {' and '.join(cut) or 'the prompt'} cut" if row.trimmed_tokens else ""
    yield _stage("trim", "passed" if asked else "skipped", says=what or "nothing was cut")
    yield from _caches(row, asked=asked)
    scores = row.story.scores
    says = row.reason
    if scores is not None:
        says = f"{says}; {told.against(scores)}"
    is_routed = bool(row.calls) and asked
    yield _stage("route", "passed" if is_routed else "skipped", says=says if is_routed else "")
    for tier in ("small", "large"):
        yield _model(tier, [call for call in row.calls if call.tier == tier])
        if tier == "small":
            yield _check(row)
    code = f": {row.code}" if row.code else ""
    yield _stage("settle", "passed", at_ms=row.latency_ms, cost_usd=row.cost_usd, says=f"{row.status}{code}")


def _caches(row: LedgerEntry, *, asked: bool) -> Iterator[Stage]:
    """Yield the stages that may answer without a model: each looks only if those before it had nothing."""
    answered = {"exact": 0, "joined": 1, "semantic": 2}.get(row.cache, 3)
    looked = asked and (row.cache != "miss" or bool(row.calls) or bool(row.story.missed))
    off = (row.shape or {}).get("cache") in (CacheMode.OFF, CacheMode.REFRESH)
    says = (
        ("exact", "answered before", "nobody has asked exactly this"),
        ("join", "an identical request ran already; who began it pays", "no identical request was running"),
        ("semantic", f"asked before in other words: {row.story.hit}", row.story.missed or "not asked"),
    )
    for at, (stage, hit, miss) in enumerate(says):
        if at == answered:
            yield _stage(stage, "answered", at_ms=0.0, took_ms=row.latency_ms, says=hit)
        elif not looked or at > answered or off or (stage == "semantic" and not row.story.missed):
            yield _stage(stage, "skipped")
        else:
            yield _stage(stage, "missed", says=miss)


def _model(tier: str, calls: Sequence[ShownCall]) -> Stage:
    if not calls:
        return _stage(tier, "skipped")
    states = [_OUTCOMES[call.outcome] for call in calls]
    began = [call.started_ms for call in calls if call.started_ms is not None]
    ends = [
        call.started_ms + call.lasted_ms for call in calls if call.started_ms is not None and call.lasted_ms is not None
    ]
    usage = "; ".join(f"{call.model}: {call.input_tokens:,} tokens in, {call.output_tokens:,} out" for call in calls)
    return _stage(
        tier,
        next(state for state in _BEST if state in states),
        at_ms=min(began, default=None),
        took_ms=round(max(ends) - min(began), 1) if began and ends else None,
        cost_usd=sum((call.cost_usd for call in calls), NOTHING),
        says=usage,
    )


def _check(row: LedgerEntry) -> Stage:
    verdicts = row.story.verdicts
    failed = next((each for each in verdicts if each.check is not None), None)
    if failed is not None:
        return _stage("check", "failed", says=": ".join(filter(None, (failed.check, failed.reason))))
    if row.failed_check is not None:
        return _stage("check", "failed", says=f"{row.failed_check}, before the answer was whole")
    return _stage("check", "passed", says="passed all checks") if verdicts else _stage("check", "skipped")


def _stage(
    stage: str,
    state: wire.State,
    *,
    at_ms: float | None = None,
    took_ms: float | None = None,
    cost_usd: Decimal = NOTHING,
    says: str = "",
) -> Stage:
    return Stage(stage=stage, state=state, at_ms=at_ms, took_ms=took_ms, cost_usd=cost_usd, says=says)
