"""The JSON documents of `GET /v1/dashboard/...`, and the frames of its WebSocket. `docs/dashboard.md` explains them.

Dollars are exact decimals, as strings; times are Unix seconds, lengths of time milliseconds. What is not known is null.
Percentiles are by nearest rank, to within 1 %.
"""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from millrace.wire.documents import Hedges, ModelHealth
from millrace.wire.evidence import ShownCheck, ShownCost, ShownRate
from millrace.wire.ledger import LedgerEntry

SUBPROTOCOL = "millrace.dashboard.v1"
SPANS = ("minute", "hour", "day")
SINCE = "24h"  # the window, unless one is asked for
MAX_LINES = 200
TICK_MS, FIGURES_MS = 1000, 10_000
MAX_ENTRIES = 20  # of one tick


class Percentiles(Struct, kw_only=True):
    """Milliseconds of so many requests."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None


class DollarPercentiles(Struct, kw_only=True):
    """Dollars of so many requests."""

    count: int
    p50: Decimal | None
    p95: Decimal | None
    p99: Decimal | None


class ErrorCount(Struct):
    """How many requests ended with a code."""

    code: str
    requests: int


class ReasonCount(Struct):
    """How many requests went to the large model for a reason: the check that failed, or the error."""

    reason: str
    requests: int


class CheckCount(Struct):
    """How many answers a check has failed."""

    check: str
    failed: int


class StrategyCount(Struct):
    """How many requests had a strategy."""

    strategy: str
    requests: int


class OfSource(Struct, kw_only=True):
    """The requests that a cache or a model has answered; `none`: nobody has, or it was for embeddings."""

    source: str
    requests: int
    cost_usd: Decimal
    ttft_ms: Percentiles
    total_ms: Percentiles


class Tokens(Struct, kw_only=True):
    """Tokens of the answers, and those that trimming has cut away."""

    input: int
    cached_input: int
    output: int
    reasoning: int
    trimmed: int


class LeverSaving(Struct, kw_only=True):
    """What one lever took off the bill; see `GET /v1/levers`. What is `estimated` is not in the sum."""

    lever: str
    requests: int
    saved_usd: Decimal
    saved_ms: float | None
    estimated: bool


class LeverWaste(Struct, kw_only=True):
    """What was paid for nothing, or beside the answers."""

    kind: str
    requests: int
    cost_usd: Decimal


class Bill(Struct, kw_only=True):
    """The bill as a waterfall: the baseline less all savings and plus all waste is the cost.

    `unknown` counts requests of an earlier version: they are compared with today's price, if it is known.
    """

    baseline_usd: Decimal
    cost_usd: Decimal
    unknown: int
    savings: list[LeverSaving]
    waste: list[LeverWaste]


class Hits(Struct, kw_only=True):
    """What the caches have answered, of the requests that `asked` for an answer, not for embeddings."""

    asked: int
    exact: int
    semantic: int
    joined: int
    hit_rate: float | None
    exact_rate: float | None
    semantic_rate: float | None
    joined_rate: float | None


class Split(Struct, kw_only=True):
    """Which model has answered, and which one was asked first."""

    small: int
    large: int
    large_share: float | None
    small_first: int
    large_first: int
    large_first_share: float | None


class Escalations(Struct, kw_only=True):
    """Requests that went on from the small model to the large one; `share` of those that began with the small one."""

    count: int
    share: float | None
    reasons: list[ReasonCount]


class Races(Struct, kw_only=True):
    """Requests for which a call was closed because another one was faster, who won, and what the losers cost."""

    races: int
    hedges: int
    won_by_small: int
    won_by_large: int
    lost_calls: int
    waste_usd: Decimal


class Statuses(Struct, kw_only=True):
    """How requests have ended."""

    completed: int
    incomplete: int
    cancelled: int
    failed: int
    killed: int


class Figures(Struct, kw_only=True):
    """All that is known of the requests of a window. Cost per day and per second are over the part that has passed."""

    requests: int
    per_second: float
    answered: int
    status: Statuses
    errors: list[ErrorCount]
    incomplete: list[ErrorCount]
    ttft_ms: Percentiles
    total_ms: Percentiles
    by_source: list[OfSource]
    cost_usd: Decimal
    would_have_cost_usd: Decimal
    saved_usd: Decimal
    saved_share: float | None
    cost_per_request_usd: Decimal | None
    cost_per_day_usd: Decimal
    request_cost_usd: DollarPercentiles
    tokens: Tokens
    waterfall: Bill
    cache: Hits
    split: Split
    escalations: Escalations
    checks: list[CheckCount]
    checked: int
    races: Races
    strategies: list[StrategyCount]


class Series(Struct, kw_only=True):
    """The same over time: arrays of one length, one item for each part of the window, which begins `at`.

    `slowest_id`, `dearest_id` and `failed_id` are requests to look at.
    """

    at: list[int] = []
    requests: list[int] = []
    per_second: list[float] = []
    errors: list[int] = []
    in_cache: list[int] = []
    by_small: list[int] = []
    by_large: list[int] = []
    hit_rate: list[float | None] = []
    escalated: list[int] = []
    ttft_p50_ms: list[float | None] = []
    ttft_p95_ms: list[float | None] = []
    ttft_p99_ms: list[float | None] = []
    total_p50_ms: list[float | None] = []
    total_p95_ms: list[float | None] = []
    total_p99_ms: list[float | None] = []
    cost_usd: list[Decimal] = []
    would_have_cost_usd: list[Decimal] = []
    saved_usd: list[Decimal] = []
    cost_per_request_usd: list[Decimal | None] = []
    slowest_id: list[str | None] = []
    dearest_id: list[str | None] = []
    failed_id: list[str | None] = []


class OfDay(Struct, kw_only=True):
    """One UTC day, as a whole."""

    day: str
    requests: int
    cost_usd: Decimal
    would_have_cost_usd: Decimal
    saved_usd: Decimal


class OfPart(Struct, kw_only=True):
    """What one model, tag or tenant has of the window. Times are those of models alone."""

    name: str
    requests: int
    errors: int
    cost_usd: Decimal
    saved_usd: Decimal
    ttft_p50_ms: float | None = None
    ttft_p95_ms: float | None = None
    total_p50_ms: float | None = None
    total_p95_ms: float | None = None


class RollupState(Struct, kw_only=True):
    """How many rows of the ledger, about, are not in the figures yet."""

    behind: int
    of: int


class FiguresReport(Struct, kw_only=True):
    """The figures of a window. `models`, `tags` and `tenants` heed the other filters; the most requests come first."""

    object: Literal["dashboard.figures"] = "dashboard.figures"
    now: float
    since: int
    until: int
    step: str
    step_s: int
    tenant: str | None
    model: str | None
    tag: str | None
    rollup: RollupState
    total: Figures
    series: Series
    days: list[OfDay]
    models: list[OfPart]
    tags: list[OfPart]
    tenants: list[OfPart]


class ShownBudget(Struct, kw_only=True):
    """One budget in dollars; `share` of it is spent. `step` is what is done for that, if anything."""

    kind: str
    tenant: str
    name: str
    period: str
    limit_usd: Decimal
    spent_usd: Decimal
    reserved_usd: Decimal
    left_usd: Decimal
    share: float
    step: str | None


class Now(Struct, kw_only=True):
    """What holds at this moment. `budgets` are null until they were read; the scarcest come first."""

    object: Literal["dashboard.now"] = "dashboard.now"
    at: float
    epoch: str
    version: str
    status: Literal["ready", "draining"]
    in_flight: int
    queued_writes: int
    connections: int
    models: list[ModelHealth]
    hedges: Hedges
    budgets: list[ShownBudget] | None


Holds = Literal["yes", "no", "unknown"]


class Promise(Struct, kw_only=True):
    """One promise, and whether it holds. `is_upper`: it holds below what is `promised`, else above.

    `estimate`, `lower` and `upper` are shares, of `judged` requests; of money they are dollars.
    """

    kind: Literal["wrong_hits", "quality", "large_share", "spend"]
    name: str
    promised: float | Decimal
    is_upper: bool
    estimate: float | Decimal | None
    lower: float | None
    upper: float | None
    judged: int
    needed: int | None
    holds: Holds
    because: str


class PromisesReport(Struct, kw_only=True):
    """What is promised, and whether it holds, as far as answers were judged; see `GET /v1/evidence`."""

    object: Literal["dashboard.promises"] = "dashboard.promises"
    since: float
    tenant: str | None
    judges_now: bool
    promises: list[Promise]
    checks: list[ShownCheck]
    small: ShownRate
    large: ShownRate
    near_misses: ShownRate
    evidence_cost: ShownCost | None


class Line(Struct, kw_only=True):
    """One request that has ended, in short."""

    id: str
    tenant: str
    opened_at: float
    status: str
    code: str | None
    source: str | None
    cache: str
    model: str
    strategy: str
    tag: str
    user: str
    reason: str
    failed_check: str | None
    escalated: bool
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    saved_usd: Decimal
    ttft_ms: float | None
    latency_ms: float | None


class Lines(Struct, kw_only=True):
    """Some requests, the latest end first. `after` goes on from `last_id`, which is a request's or names a place."""

    object: Literal["list"] = "list"
    data: list[Line]
    first_id: str | None
    last_id: str | None
    has_more: bool


State = Literal["skipped", "passed", "missed", "answered", "revised", "failed", "lost", "cancelled"]


class Stage(Struct, kw_only=True):
    """What one stage of the funnel did, when it began and how long it took, as far as that is known."""

    stage: str
    state: State
    at_ms: float | None
    took_ms: float | None
    cost_usd: Decimal
    says: str


class Fact(Struct):
    """One thing that is known of a request, in words."""

    name: str
    value: str


class StoryReport(Struct, kw_only=True):
    """The whole story of one request, without a word of its text."""

    object: Literal["dashboard.story"] = "dashboard.story"
    line: Line
    stages: list[Stage]
    facts: list[Fact]
    waterfall: Bill
    entry: LedgerEntry


class Rates(Struct, kw_only=True):
    """What has ended in some seconds."""

    requests: int
    per_second: float
    errors: int
    in_cache: int
    by_small: int
    by_large: int
    escalated: int
    cost_usd: Decimal
    saved_usd: Decimal
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    ttft_p99_ms: float | None
    total_p50_ms: float | None
    total_p95_ms: float | None
    total_p99_ms: float | None


class Hello(Struct, kw_only=True, tag="dashboard.hello"):
    """The first frame."""

    epoch: str
    version: str
    now: float
    tenant: str
    sees_all: bool
    tick_ms: int = TICK_MS
    figures_ms: int = FIGURES_MS


class FiguresFrame(Struct, kw_only=True, tag="dashboard.figures"):
    """The figures, as `GET /v1/dashboard/figures` has them."""

    figures: FiguresReport


class Tick(Struct, kw_only=True, tag="dashboard.tick"):
    """What has ended since the last tick, and in the last minute. `left_out` more have ended than are in `entries`.

    `dropped` counts the frames that were left out so far, because the connection was too slow.
    """

    at: float
    span_s: float
    dropped: int
    ended: Rates
    minute: Rates
    entries: list[Line]
    left_out: int
    now: Now | None


class Watch(Struct, kw_only=True, tag="dashboard.watch"):
    """Other filters, in place of all there were."""

    since: str | float | None = None
    until: str | float | None = None
    step: str | None = None
    model: str | None = None
    tag: str | None = None
    tenant: str | None = None
