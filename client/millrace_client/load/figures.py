"""Totals and percentiles of a load test. Times are in seconds, of answered requests, from the intended start."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

from millrace_client.load.histogram import Histogram, Spread, merged
from millrace_client.load.sample import ANSWERED, Sample
from millrace_client.load.series import Series
from millrace_client.load.slo import Slo

LOOP_LAG_S, LAG_S, CPU_SHARE = 0.020, 0.005, 0.9  # p99, p99, of one core; above them the script is the bottleneck
_COMPARED = ("ttft", "ttft_service", "itl", "tpot", "e2e", "e2e_service")
_PERCENTILES = ("mean", "p50", "p90", "p95", "p99", "p999")


def _histograms() -> defaultdict[str, Histogram]:
    return defaultdict(Histogram)


class Tally:
    """Adds up samples. Keeps counts, sums and histograms only, so its memory does not grow with their number."""

    def __init__(self, slo: Slo | None = None) -> None:
        self.statuses: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.scripted: Counter[str] = Counter()  # failures that their row expects
        self.routes: Counter[str] = Counter()  # of answered requests
        self.caches: Counter[str] = Counter()  # of answered requests
        self.ttft = _histograms()  # by route
        self.e2e = _histograms()  # by route
        self.standing = Histogram()
        self.ttft_service = Histogram()
        self.e2e_service = Histogram()
        self.wait = Histogram()
        self.itl = Histogram()
        self.tpot = Histogram()
        self.series = Series()
        self.revised = self.escalated = self.good = 0
        self.tokens = self.cached_tokens = 0
        self.cost = self.saved = Decimal(0)
        self.is_billed = False  # the server says what requests cost
        self.cut = self.unbilled = 0
        self._slo = slo or Slo()

    def add(self, sample: Sample, offset_s: float, *, cut: bool = False) -> None:
        """Count a request that was due `offset_s` after the start. `cut`: this script cancelled it at the end."""
        self.statuses[sample.status] += 1
        self.escalated += sample.timeline.escalated
        self.revised += sample.timeline.revised
        interval = self.series.at(offset_s)
        interval.due += 1
        self.series.at(offset_s + sample.total).ended += 1
        if cut and sample.error is not None:
            self.cut += 1
        elif sample.error is not None:
            self.errors[sample.error] += 1
            self.series.at(offset_s).errors += 1
        elif sample.status not in ANSWERED:
            self.scripted[sample.code or sample.status] += 1
        self.good += self._slo.is_met_by(sample)
        if sample.timeline.sent is not None:
            self.wait.add(sample.timeline.sent)
        self._add_cost(sample)
        if sample.status in ANSWERED:
            self._add_answer(sample, offset_s)

    def abandon(self) -> None:
        """Count a request that had no terminal even after its cancel."""
        self.statuses["abandoned"] += 1
        self.cut += 1
        self.unbilled += 1

    def _add_cost(self, sample: Sample) -> None:
        answer = sample.answer
        if answer is not None and answer.cost is not None:
            self.is_billed = True
            self.cost += answer.cost
            self.saved += answer.saved
        elif sample.code == "connection_lost":
            self.unbilled += 1

    def _add_answer(self, sample: Sample, offset_s: float) -> None:
        answer, timeline = sample.answer, sample.timeline
        assert answer is not None, "an answered request has an answer"
        self.routes[answer.route] += 1
        if answer.cache:
            self.caches[answer.cache] += 1
        self.tokens += answer.tokens
        self.cached_tokens += answer.tokens if answer.route == "cache" else 0
        interval, sent = self.series.at(offset_s), timeline.sent or 0.0
        self.e2e[answer.route].add(sample.total)
        self.e2e_service.add(sample.service)
        interval.e2e.add(sample.total)
        for gap in timeline.gaps:
            self.itl.add(gap)
        if timeline.first is not None:
            self.ttft[answer.route].add(timeline.first)
            self.ttft_service.add(timeline.first - sent)
            interval.ttft.add(timeline.first)
        if timeline.standing is not None:
            self.standing.add(timeline.standing)
        if (tpot := sample.tpot) is not None:
            self.tpot.add(tpot)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The facts of a run that are not about its requests."""

    connections: int
    lanes: int  # requests at once, at most
    rate: float | None  # requests per second, as requested; None: closed loop
    poisson: bool
    seed: int
    offered: int  # requests that were due
    unsent: int  # of those, never sent
    waited: int  # of those, found no lane free
    warmup_s: float  # requests that were due in it are in no figure
    warmup: int  # their number
    warmup_errors: int
    warmup_cost_usd: Decimal
    starting_s: float  # until the last request was due
    elapsed_s: float  # until the last request ended
    in_flight_max: int
    connections_lost: int
    interrupted: bool
    cpu_share: float  # of one core, used by this script
    loop_lag: Spread | None
    schedule_lag: Spread | None  # from when a request was due to its start, where a lane was free: this script's fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The results of one server: printed by report.py, drawn by page.py, and written as JSON."""

    name: str
    course: Course
    ended: int
    offered_rps: float
    achieved_rps: float
    statuses: dict[str, int]
    errors: dict[str, int]
    scripted: dict[str, int]
    cut: int
    slo: Slo
    goodput: float | None  # share of the requests that met the objective; None without one
    goodput_rps: float | None
    ttft: Spread | None
    ttft_by_route: dict[str, Spread | None]
    ttft_standing: Spread | None
    ttft_service: Spread | None  # from when the request was sent
    itl: Spread | None
    tpot: Spread | None
    e2e: Spread | None
    e2e_by_route: dict[str, Spread | None]
    e2e_service: Spread | None
    wait: Spread | None  # from when a request was due until it was sent
    tokens_per_s: float
    cached_tokens_per_s: float
    answered: int
    routes: dict[str, int]
    caches: dict[str, int]
    revised: int
    escalated: int
    cost_usd: Decimal | None  # None: the server does not say
    saved_usd: Decimal
    unbilled: int

    @property
    def failed(self) -> bool:
        """Whether there was an error that no row expects."""
        return bool(self.errors) or (not self.course.interrupted and bool(self.cut or self.course.unsent))

    @property
    def hit_rate(self) -> float | None:
        """The share of answers that came from a cache or from another request's call."""
        hits = sum(count for name, count in self.caches.items() if name in {"exact", "semantic", "joined"})
        return hits / self.answered if self.answered else None

    @property
    def cost_each_usd(self) -> Decimal | None:
        """The mean cost of a request; None if the server does not say."""
        return self.cost_usd / self.ended if self.cost_usd is not None and self.ended else None

    @property
    def error_rate(self) -> float | None:
        """The share of requests that ended with an error, or not at all."""
        bad = sum(self.errors.values()) + self.cut + self.course.unsent
        return bad / self.course.offered if self.course.offered else None


@dataclass(frozen=True, slots=True)
class Trace:
    """What the plots of one server are drawn from."""

    name: str
    is_compared: bool  # there are two servers
    series: Series
    histograms: dict[str, Histogram]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The results of a run, of one server or of two under the same load."""

    millrace: Figures
    bare: Figures | None = None
    ratios: dict[str, dict[str, float]] = field(default_factory=dict)  # Millrace's times by those of the bare server
    traces: tuple[Trace, ...] = ()


def figures(name: str, tally: Tally, slo: Slo, course: Course) -> Figures:
    """Return the results of one server."""
    ended, elapsed = tally.statuses.total(), max(course.elapsed_s - course.warmup_s, 1e-9)
    held = course.offered - tally.scripted.total()  # requests that should have been answered
    if course.interrupted:
        held -= tally.cut + course.unsent
    return Figures(
        name=name,
        course=course,
        ended=ended,
        offered_rps=course.offered / max(course.starting_s - course.warmup_s, 1e-9),
        achieved_rps=ended / elapsed,
        statuses=_most_common(tally.statuses),
        errors=_most_common(tally.errors),
        scripted=_most_common(tally.scripted),
        cut=tally.cut,
        slo=slo,
        goodput=tally.good / held if slo and held > 0 else None,
        goodput_rps=tally.good / elapsed if slo else None,
        ttft=merged(tally.ttft.values()).spread(),
        ttft_by_route=_by_route(tally.ttft),
        ttft_standing=tally.standing.spread(),
        ttft_service=tally.ttft_service.spread(),
        itl=tally.itl.spread(),
        tpot=tally.tpot.spread(),
        e2e=merged(tally.e2e.values()).spread(),
        e2e_by_route=_by_route(tally.e2e),
        e2e_service=tally.e2e_service.spread(),
        wait=tally.wait.spread(),
        tokens_per_s=tally.tokens / elapsed,
        cached_tokens_per_s=tally.cached_tokens / elapsed,
        answered=tally.routes.total(),
        routes=_most_common(tally.routes),
        caches=_most_common(tally.caches),
        revised=tally.revised,
        escalated=tally.escalated,
        cost_usd=tally.cost if tally.is_billed else None,
        saved_usd=tally.saved,
        unbilled=tally.unbilled,
    )


def trace(name: str, tally: Tally, *, is_compared: bool) -> Trace:
    """Return what the plots of one server are drawn from."""
    ttft, e2e = merged(tally.ttft.values()), merged(tally.e2e.values())
    return Trace(name, is_compared, tally.series, {"TTFT": ttft, "E2E": e2e, "ITL": tally.itl, "TPOT": tally.tpot})


def ratios(millrace: Figures, bare: Figures) -> dict[str, dict[str, float]]:
    """Return Millrace's times by those of the bare server, where both have enough samples."""
    found: dict[str, dict[str, float]] = {}
    for name in _COMPARED:
        ours, theirs = getattr(millrace, name), getattr(bare, name)
        pairs = {each: (getattr(ours, each, None), getattr(theirs, each, None)) for each in _PERCENTILES}
        both = {each: mine / other for each, (mine, other) in pairs.items() if mine is not None and other}
        if both:
            found[name] = both
    return found


def _most_common(counter: Counter[str]) -> dict[str, int]:
    return dict(counter.most_common())


def _by_route(histograms: dict[str, Histogram]) -> dict[str, Spread | None]:
    return {route: histogram.spread() for route, histogram in sorted(histograms.items())}
