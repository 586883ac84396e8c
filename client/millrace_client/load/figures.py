"""Totals and percentiles of a load test. Times are in seconds, of answered requests, from the intended start."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from millrace_client.load.sample import ANSWERED, Sample

NANODOLLAR = Decimal("1e-9")
LOOP_LAG_S, LATENESS_S, CPU_SHARE = 0.020, 0.005, 0.9  # p99, p99, of one core; above them the script is the bottleneck


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the nearest-rank percentile: the smallest value that `percent` of all values do not exceed."""
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


@dataclass(frozen=True, slots=True)
class Spread:
    """The count, percentiles and maximum of many measurements."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float


def spread(values: Iterable[float]) -> Spread | None:
    """Return the spread of values; None if there are none."""
    ordered = sorted(values)
    if not ordered:
        return None
    p50, p95, p99 = (percentile(ordered, percent) for percent in (50, 95, 99))
    return Spread(len(ordered), p50, p95, p99, ordered[-1])


def dollars(number: float) -> Decimal:
    """Return a JSON number of the wire as dollars, exact to 1e-9."""
    return Decimal(repr(number)).quantize(NANODOLLAR)


def _measurements() -> defaultdict[str, array[float]]:
    return defaultdict(lambda: array("d"))


class Tally:
    """Adds up samples; keeps only the numbers that the report needs."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.scripted: Counter[str] = Counter()  # failures that their row expects
        self.routes: Counter[str] = Counter()  # of answered requests
        self.caches: Counter[str] = Counter()  # of answered requests
        self.ttft = _measurements()  # by route
        self.total = _measurements()
        self.standing = array("d")
        self.gaps = array("d")
        self.revised = self.escalated = 0
        self.tokens = self.cached_tokens = 0
        self.cost = self.saved = Decimal(0)
        self.cut = self.unbilled = 0

    def add(self, sample: Sample, *, cut: bool = False) -> None:
        """Count one request. `cut`: this script cancelled it at the end of the run."""
        self.statuses[sample.status] += 1
        self.escalated += sample.timeline.escalated
        self.revised += sample.timeline.revised
        if cut and sample.error is not None:
            self.cut += 1
        elif sample.error is not None:
            self.errors[sample.error] += 1
        elif sample.status not in ANSWERED:
            self.scripted[sample.code or sample.status] += 1
        self._add_cost(sample)
        if sample.status in ANSWERED:
            self._add_answer(sample)

    def abandon(self) -> None:
        """Count a request that had no terminal even after its cancel."""
        self.statuses["abandoned"] += 1
        self.cut += 1
        self.unbilled += 1

    def _add_cost(self, sample: Sample) -> None:
        usage = sample.response.usage if sample.response else None
        if usage is not None:
            self.cost += dollars(usage.cost_usd)
            self.saved += dollars(usage.saved_usd)
        elif sample.code == "connection_lost":
            self.unbilled += 1

    def _add_answer(self, sample: Sample) -> None:
        assert sample.response is not None, "an answer has a terminal"
        usage, metadata, timeline = sample.response.usage, sample.response.metadata, sample.timeline
        route = metadata.get("millrace.route", "?")
        self.routes[route] += 1
        self.caches[metadata.get("millrace.cache", "?")] += 1
        output = usage.output_tokens if usage else 0
        self.tokens += output
        self.cached_tokens += output if route == "cache" else 0
        self.total[route].append(sample.total)
        self.gaps.extend(timeline.gaps)
        if timeline.first is not None:
            self.ttft[route].append(timeline.first)
        if timeline.standing is not None:
            self.standing.append(timeline.standing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The facts of a run that are not about its requests."""

    connections: int
    lanes: int  # of each connection
    rate: float | None  # requests per second, as requested; None: closed loop
    poisson: bool
    seed: int
    offered: int  # requests that were due
    unsent: int  # of those, never sent
    waited: int  # of those, found no lane free
    starting_s: float  # until the last request was due
    elapsed_s: float  # until the last request ended
    in_flight_max: int
    connections_lost: int
    interrupted: bool
    cpu_share: float  # of one core, used by this script
    loop_lag: Spread | None
    lateness: Spread | None  # of starts that found a lane free


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The results of a run: printed by report.py, and written as JSON."""

    course: Course
    ended: int
    offered_rps: float
    achieved_rps: float
    statuses: dict[str, int]
    errors: dict[str, int]
    scripted: dict[str, int]
    cut: int
    ttft: Spread | None
    ttft_by_route: dict[str, Spread | None]
    ttft_standing: Spread | None
    itl: Spread | None
    total: Spread | None
    total_by_route: dict[str, Spread | None]
    tokens_per_s: float
    cached_tokens_per_s: float
    answered: int
    routes: dict[str, int]
    caches: dict[str, int]
    revised: int
    escalated: int
    cost_usd: Decimal
    saved_usd: Decimal
    unbilled: int

    @property
    def failed(self) -> bool:
        """Whether there was an error that no row expects."""
        return bool(self.errors) or (not self.course.interrupted and bool(self.cut or self.course.unsent))


def figures(tally: Tally, course: Course) -> Figures:
    """Return the results of a run."""
    ended, elapsed = tally.statuses.total(), max(course.elapsed_s, 1e-9)
    return Figures(
        course=course,
        ended=ended,
        offered_rps=course.offered / max(course.starting_s, 1e-9),
        achieved_rps=ended / elapsed,
        statuses=_most_common(tally.statuses),
        errors=_most_common(tally.errors),
        scripted=_most_common(tally.scripted),
        cut=tally.cut,
        ttft=_spread_of_all(tally.ttft),
        ttft_by_route=_spread_by_route(tally.ttft),
        ttft_standing=spread(tally.standing),
        itl=spread(tally.gaps),
        total=_spread_of_all(tally.total),
        total_by_route=_spread_by_route(tally.total),
        tokens_per_s=tally.tokens / elapsed,
        cached_tokens_per_s=tally.cached_tokens / elapsed,
        answered=tally.routes.total(),
        routes=_most_common(tally.routes),
        caches=_most_common(tally.caches),
        revised=tally.revised,
        escalated=tally.escalated,
        cost_usd=tally.cost,
        saved_usd=tally.saved,
        unbilled=tally.unbilled,
    )


def _most_common(counter: Counter[str]) -> dict[str, int]:
    return dict(counter.most_common())


def _spread_of_all(by_route: dict[str, array[float]]) -> Spread | None:
    return spread(value for values in by_route.values() for value in values)


def _spread_by_route(by_route: dict[str, array[float]]) -> dict[str, Spread | None]:
    return {route: spread(values) for route, values in sorted(by_route.items())}
