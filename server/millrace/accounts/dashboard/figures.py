"""Sums as the figures of the dashboard: shares, percentiles and dollars."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

from millrace.accounts.dashboard.buckets import Histogram, percentiles
from millrace.accounts.dashboard.sums import Sums
from millrace.accounts.durations import Durations
from millrace.levers import Saving, Waste
from millrace.types import CacheOutcome, Outcome, Source, Status, Tier
from millrace.types.rollup import Part, Span
from millrace.wire import dashboard as wire

SHARES = (0.5, 0.95, 0.99)
MICROSECONDS = 1000  # of a millisecond
NONE = "none"  # who has answered
NO_TAG = "(none)"
SOURCES = (*(source.value for source in Source), NONE)
MOST = 100  # of a list

Struct = TypeVar("Struct")


def dollars(nanodollars: int) -> Decimal:
    """Return an amount, exactly."""
    return Decimal(nanodollars).scaleb(-9) if nanodollars else Decimal(0)


def share(part: int, whole: int) -> float | None:
    """Return a share; None of nothing."""
    return part / whole if whole else None


def figures(sums: Sums, passed_s: float) -> wire.Figures:
    """Return all that is known of requests, over so many seconds."""
    requests, cost, baseline = sums.get("requests"), sums.get("cost"), sums.get("baseline")
    by_code = sums.named("error"), sums.named("incomplete")
    return wire.Figures(
        requests=requests,
        per_second=requests / passed_s if passed_s > 0 else 0.0,
        answered=sums.get("answered"),
        status=wire.Statuses(**{s.value: sums.get(f"status:{s.value}") for s in Status if s is not Status.OPEN}),
        errors=_counts(wire.ErrorCount, by_code[0]),
        incomplete=_counts(wire.ErrorCount, by_code[1]),
        ttft_ms=_percentiles(of_all(sums, "ttft")),
        total_ms=_percentiles(of_all(sums, "total")),
        by_source=[_of_source(sums, source) for source in SOURCES],
        cost_usd=dollars(cost),
        would_have_cost_usd=dollars(baseline),
        saved_usd=dollars(baseline - cost),
        saved_share=share(baseline - cost, baseline),
        cost_per_request_usd=per_request(cost, requests),
        cost_per_day_usd=_rounded(cost * Span.DAY / passed_s) if passed_s > 0 else Decimal(0),
        request_cost_usd=_dollar_percentiles(sums.histograms.get("cost", {})),
        tokens=wire.Tokens(**{name: sums.get(name) for name in wire.Tokens.__struct_fields__}),
        waterfall=bill(sums),
        cache=_hits(sums),
        split=_split(sums),
        escalations=_escalations(sums),
        checks=_counts(wire.CheckCount, sums.named("check")),
        checked=sums.get("checked"),
        races=_races(sums),
        strategies=_counts(wire.StrategyCount, sums.named("strategy")),
    )


def bill(sums: Sums) -> wire.Bill:
    """Return the waterfall."""
    durations = _durations(sums)
    savings = [
        wire.LeverSaving(
            lever=saving.value,
            requests=sums.get("capped") if saving is Saving.CAP else sums.get(f"saving_requests:{saving.value}"),
            saved_usd=dollars(sums.get(f"saving:{saving.value}")),
            saved_ms=durations.saved_ms(saving, durations),
            estimated=saving is Saving.CAP,
        )
        for saving in Saving
    ]
    waste = [
        wire.LeverWaste(
            kind=kind.value,
            requests=sums.get(f"waste_requests:{kind.value}"),
            cost_usd=dollars(sums.get(f"waste:{kind.value}")),
        )
        for kind in Waste
    ]
    return wire.Bill(
        baseline_usd=dollars(sums.get("baseline")),
        cost_usd=dollars(sums.get("cost")),
        unknown=sums.get("unknown"),
        savings=savings,
        waste=waste,
    )


def series(by_time: Mapping[int, Sums], since: int, until: int, span: int) -> wire.Series:
    """Return what happened in each part of a window."""
    shown, nothing = wire.Series(), Sums()
    for at in range(since, until, span):
        for name, value in _point(at, by_time.get(at, nothing), span).items():
            getattr(shown, name).append(value)
    return shown


def days(by_day: Mapping[int, Sums]) -> list[wire.OfDay]:
    """Return what each day has cost."""
    return [
        wire.OfDay(
            day=f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}",
            requests=sums.get("requests"),
            cost_usd=dollars(sums.get("cost")),
            would_have_cost_usd=dollars(sums.get("baseline")),
            saved_usd=dollars(sums.get("baseline") - sums.get("cost")),
        )
        for at, sums in sorted(by_day.items())
    ]


def models(by_model: Mapping[str, Sums]) -> list[wire.OfPart]:
    """Return what each model has."""
    shown = []
    for name, sums in sorted(by_model.items(), key=lambda each: (-each[1].get("requests"), each[0]))[:MOST]:
        ttft, whole = _percentiles(of_all(sums, "ttft")), _percentiles(of_all(sums, "total"))
        part = Part(name, sums.get("requests"), sums.errors, sums.get("cost"), sums.get("baseline"))
        one = parts([part])[0]
        one.ttft_p50_ms, one.ttft_p95_ms = ttft.p50, ttft.p95
        one.total_p50_ms, one.total_p95_ms = whole.p50, whole.p95
        shown.append(one)
    return shown


def parts(found: Iterable[Part], unnamed: str = NO_TAG) -> list[wire.OfPart]:
    """Return what each tag or tenant has. `unnamed` is the name of the one without."""
    return [
        wire.OfPart(
            name=part.name or unnamed,
            requests=part.requests,
            errors=part.errors,
            cost_usd=dollars(part.cost),
            saved_usd=dollars(part.baseline - part.cost),
        )
        for part in found
    ]


def rates(sums: Sums, span_s: float) -> wire.Rates:
    """Return what has ended in so many seconds."""
    ttft, whole = _percentiles(of_all(sums, "ttft")), _percentiles(of_all(sums, "total"))
    requests, cost = sums.get("requests"), sums.get("cost")
    return wire.Rates(
        requests=requests,
        per_second=requests / span_s if span_s > 0 else 0.0,
        errors=sums.errors,
        in_cache=sums.get(f"source:{Source.CACHE.value}"),
        by_small=sums.get(f"source:{Source.SMALL.value}"),
        by_large=sums.get(f"source:{Source.LARGE.value}"),
        escalated=sum(sums.named("escalated").values()),
        cost_usd=dollars(cost),
        saved_usd=dollars(sums.get("baseline") - cost),
        ttft_p50_ms=ttft.p50,
        ttft_p95_ms=ttft.p95,
        ttft_p99_ms=ttft.p99,
        total_p50_ms=whole.p50,
        total_p95_ms=whole.p95,
        total_p99_ms=whole.p99,
    )


def of_all(sums: Sums, kind: str) -> Histogram:
    """Return the histogram of all sources together."""
    found: dict[int, int] = {}
    for name, histogram in sums.histograms.items():
        if name.startswith(f"{kind}:"):
            for at, count in histogram.items():
                found[at] = found.get(at, 0) + count
    return found


def per_request(cost: int, requests: int) -> Decimal | None:
    """Return dollars, to 1e-12; None of nothing."""
    return _rounded(cost / requests) if requests else None


def _rounded(nanodollars: float) -> Decimal:
    return (Decimal(round(nanodollars * 1000)).scaleb(-12)) if nanodollars else Decimal(0)


def _point(at: int, sums: Sums, span: int) -> dict[str, object]:
    seen, requests = rates(sums, span), sums.get("requests")
    hits = _hits(sums)
    found = {
        name: getattr(seen, name) for name in wire.Series.__struct_fields__ if name in wire.Rates.__struct_fields__
    }
    marks = {f"{name}_id": sums.marks[name][1] if name in sums.marks else None for name in _MARKS}
    return (
        found
        | marks
        | {
            "at": at,
            "hit_rate": hits.hit_rate,
            "would_have_cost_usd": dollars(sums.get("baseline")),
            "cost_per_request_usd": per_request(sums.get("cost"), requests),
        }
    )


_MARKS = ("slowest", "dearest", "failed")


def _counts(shape: Callable[[str, int], Struct], counts: Mapping[str, int]) -> list[Struct]:
    """Return counts, the highest first."""
    return [shape(name, count) for name, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:MOST]]


def _percentiles(histogram: Histogram) -> wire.Percentiles:
    shown = [None if each is None else round(each / MICROSECONDS, 4) for each in percentiles(histogram, *SHARES)]
    return wire.Percentiles(count=sum(histogram.values()), p50=shown[0], p95=shown[1], p99=shown[2])


def _dollar_percentiles(histogram: Histogram) -> wire.DollarPercentiles:
    shown = [None if each is None else dollars(round(each)) for each in percentiles(histogram, *SHARES)]
    return wire.DollarPercentiles(count=sum(histogram.values()), p50=shown[0], p95=shown[1], p99=shown[2])


def _of_source(sums: Sums, source: str) -> wire.OfSource:
    return wire.OfSource(
        source=source,
        requests=sums.get(f"source:{source}"),
        cost_usd=dollars(sums.get(f"source_cost:{source}")),
        ttft_ms=_percentiles(sums.histograms.get(f"ttft:{source}", {})),
        total_ms=_percentiles(sums.histograms.get(f"total:{source}", {})),
    )


def _hits(sums: Sums) -> wire.Hits:
    asked = sums.get("asked")
    exact, semantic, joined = (
        sums.get(f"cache:{each.value}") for each in (CacheOutcome.EXACT, CacheOutcome.SEMANTIC, CacheOutcome.JOINED)
    )
    return wire.Hits(
        asked=asked,
        exact=exact,
        semantic=semantic,
        joined=joined,
        hit_rate=share(exact + semantic + joined, asked),
        exact_rate=share(exact, asked),
        semantic_rate=share(semantic, asked),
        joined_rate=share(joined, asked),
    )


def _split(sums: Sums) -> wire.Split:
    small, large = (sums.get(f"source:{each.value}") for each in (Source.SMALL, Source.LARGE))
    small_first, large_first = (sums.get(f"first:{tier.value}") for tier in (Tier.SMALL, Tier.LARGE))
    return wire.Split(
        small=small,
        large=large,
        large_share=share(large, small + large),
        small_first=small_first,
        large_first=large_first,
        large_first_share=share(large_first, small_first + large_first),
    )


def _escalations(sums: Sums) -> wire.Escalations:
    reasons = sums.named("escalated")
    count = sum(reasons.values())
    small_first = sums.get(f"first:{Tier.SMALL.value}")
    return wire.Escalations(count=count, share=share(count, small_first), reasons=_counts(wire.ReasonCount, reasons))


def _races(sums: Sums) -> wire.Races:
    return wire.Races(
        races=sums.get("races"),
        hedges=sums.get("hedges"),
        won_by_small=sums.get(f"won:{Tier.SMALL.value}"),
        won_by_large=sums.get(f"won:{Tier.LARGE.value}"),
        lost_calls=sums.get("lost_calls"),
        waste_usd=dollars(sums.get(f"waste:{Outcome.LOST.value}")),
    )


def _durations(sums: Sums) -> Durations:
    """Return how long models took, and the answers for which none was asked."""
    models = {
        int(size): histogram
        for name, histogram in sums.histograms.items()
        if (size := name.removeprefix("took:")) != name
    }
    spared = {}
    for name, count in sums.named("spared").items():
        lever, _, size = name.partition(":")
        spared[Saving(lever), int(size)] = count
    return Durations.of(models, spared, {Saving(lever): count for lever, count in sums.named("took").items()})
