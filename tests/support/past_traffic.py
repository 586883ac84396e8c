"""Traffic that might have been: rows of a ledger with every way a request can be answered, escalate, race and fail."""

import math
import random
from collections.abc import Iterable, Iterator
from decimal import Decimal

from msgspec.structs import replace

from millrace import levers, pricing
from millrace.stores.database import SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from millrace.types import (
    CacheOutcome,
    Charge,
    Entry,
    Judgement,
    Near,
    Outcome,
    Scores,
    Source,
    Statement,
    Status,
    Story,
    Strategy,
    Tier,
    Usage,
)
from tests.support.many_rows import LARGE_PRICE, SMALL_PRICE

SMALL_MODEL, LARGE_MODEL = "small-model", "large-model"
PRICES = {Tier.SMALL: SMALL_PRICE, Tier.LARGE: LARGE_PRICE}
KINDS = {
    "exact": 27,
    "semantic": 9,
    "joined": 4,
    "small": 38,
    "escalated": 6,
    "large": 10,
    "race": 3,
    "failed": 1,
    "cut": 1,
    "cancelled": 1,
}
TAGS = ("shop", "shop", "shop", "support", "support", "docs", "")
USERS = ("ann", "ben", "eva", "")
CHECKS = ("unsure", "unsure", "unsure", "form", "form", "arithmetic", "loop")
DAY_S = 86_400


def over_days(now: float, days: float, count: int, tenant: str = "acme", seed: int = 5) -> Iterator[Entry]:
    """Yield requests in the order of their ends, more of them by day than by night."""
    rng = random.Random(seed)
    start = now - days * DAY_S
    for number in range(count):
        part = (number + rng.random()) / count * days
        swing = 0.6 * (1 - math.cos(part * 2 * math.pi)) / 2 / math.pi / 2
        at = start + (part + swing) * (now - start - 30) / days
        yield request(rng, f"resp_{seed:02x}{number:010x}", min(at, now - 30), tenant)


def request(rng: random.Random, request_id: str, at: float, tenant: str = "acme") -> Entry:
    """Return a request that was opened then (Unix seconds)."""
    kind = rng.choices([*KINDS], [*KINDS.values()])[0]
    usage = Usage(
        input_tokens=(length := int(rng.lognormvariate(5.6, 0.9)) + 12),
        output_tokens=int(rng.lognormvariate(4.9, 0.7)) + 4,
        cached_input_tokens=length // 2 if length > 1000 else 0,
    )
    made = _Made(rng, usage)
    status = Status.COMPLETED
    source: Source | None = Source.LARGE
    code: str | None = None
    check: str | None = None
    match kind:
        case "exact" | "semantic":
            source = Source.CACHE
        case "joined" | "small":
            source = Source.SMALL
            if kind == "small":
                made.call(Tier.SMALL)
        case "escalated":
            check = rng.choice(CHECKS)
            made.call(Tier.SMALL, Outcome.REVISED)
            made.call(Tier.LARGE)
        case "large":
            made.call(Tier.LARGE)
        case "race":
            source = Source.SMALL if rng.random() < 0.7 else Source.LARGE
            made.race(Tier(source.value))
        case "failed":
            status, code, source = (
                Status.FAILED,
                rng.choice(("upstream_error", "upstream_error", "upstream_timeout")),
                None,
            )
            made.call(Tier.LARGE, Outcome.FAILED)
        case "cut":
            status, code, source = Status.INCOMPLETE, "max_output_tokens", Source.SMALL
            made.call(Tier.SMALL)
        case _:
            status, code, source = Status.CANCELLED, None, Source.SMALL
            made.call(Tier.SMALL, Outcome.CANCELLED)
    cache = CacheOutcome(kind) if kind in ("exact", "semantic", "joined") else CacheOutcome.MISS
    stored_ms = rng.lognormvariate(5.2, 0.5) if kind == "joined" else rng.uniform(1, 9)
    latency_ms = made.ended_ms or stored_ms
    trimmed = rng.randint(200, 1500) if usage.input_tokens > 900 and rng.random() < 0.5 else 0
    statement = Statement(
        usage=usage if status is not Status.FAILED else Usage(),
        cost=sum((charge.cost for charge in made.charges), Decimal(0)),
        saved=Decimal(0),
        charges=tuple(made.charges),
        trimmed_tokens=trimmed,
    )
    entry = Entry(
        request_id=request_id,
        tenant=tenant,
        opened_at=at,
        status=status,
        source=source,
        cache=cache,
        strategy=Strategy.RACE if kind == "race" else Strategy.AUTO,
        check=check,
        code=code,
        statement=statement,
        ttft_ms=None if status is Status.FAILED else (made.first_ms or latency_ms * 0.6),
        latency_ms=latency_ms,
        trimmed_tokens=trimmed,
        session=request_id,
        user=rng.choice(USERS),
        tag=rng.choice(TAGS),
        baseline=PRICES[Tier.LARGE],
        story=_story(rng, kind, check),
        began_at=0.0,
    )
    return replace(entry, statement=replace(statement, saved=_saved(entry)))


def fill(data_dir: str, entries: Iterable[Entry]) -> int:
    """Write rows into the ledger of a folder; return how many."""
    database = SqliteDatabase(data_dir, queue_bytes=1 << 40)
    ledger, written = SqliteLedger(database), 0
    for entry in entries:
        ledger.settled(entry)
        written += 1
    database.close(within_s=600)
    return written


class _Made:
    """The calls of one request, one after the other. Seconds are those of the process's clock, from 0 on."""

    def __init__(self, rng: random.Random, usage: Usage) -> None:
        self.charges: list[Charge] = []
        self.ended_ms = 0.0
        self.first_ms = 0.0
        self._rng = rng
        self._usage = usage

    def call(self, tier: Tier, outcome: Outcome = Outcome.ANSWERED, at_ms: float | None = None) -> float:
        """Add a call; return when its first word came, in ms of the request."""
        slow = 1.0 if tier is Tier.SMALL else 2.6
        began_ms = (self.ended_ms or 2.0) if at_ms is None else at_ms
        spoke_ms = began_ms + self._rng.lognormvariate(5.2, 0.35) * slow
        whole = outcome is Outcome.ANSWERED
        tokens = self._usage.output_tokens if whole else min(24, self._usage.output_tokens)
        ended_ms = spoke_ms + tokens * 7 * slow
        failed = outcome is Outcome.FAILED
        usage = Usage() if failed else replace(self._usage, output_tokens=tokens, estimated=not whole)
        price = PRICES[tier]
        self.charges.append(
            Charge(
                model=SMALL_MODEL if tier is Tier.SMALL else LARGE_MODEL,
                tier=tier,
                usage=usage,
                cost=pricing.cost(usage, price),
                outcome=outcome,
                price=price,
                began_at=began_ms / 1000,
                spoke_at=None if failed else spoke_ms / 1000,
                ended_at=ended_ms / 1000,
            )
        )
        self.ended_ms = max(self.ended_ms, ended_ms)
        if whole:
            self.first_ms = spoke_ms
        return spoke_ms

    def race(self, winner: Tier) -> None:
        """Add two calls, of which this model's wins."""
        self.call(Tier.LARGE if winner is Tier.SMALL else Tier.SMALL, Outcome.LOST, 2.0)
        self.ended_ms = 0.0
        self.call(winner, at_ms=2.0)


def _saved(entry: Entry) -> Decimal:
    """Return what a request saved, by the calls that it made: against the same on the large model, untrimmed."""
    statement = entry.statement
    if not levers.is_answered(entry.status, entry.code, statement.charges):
        return -statement.cost
    compared = levers.compared(statement.usage, entry.trimmed_tokens, statement.charges, PRICES[Tier.LARGE])
    return compared - statement.cost


def _story(rng: random.Random, kind: str, check: str | None) -> Story:
    if kind == "exact":
        return Story(age_s=rng.uniform(60, 5000), route="answered before")
    near = tuple(
        Near(entry_id=f"ans_{rng.getrandbits(48):024x}", similarity=rng.uniform(0.86, 0.97), log_odds=odds)
        for odds in sorted((rng.uniform(-3.0, 1.5) for _ in range(rng.randint(0, 3))), reverse=True)
    )
    if kind == "semantic":
        hit = replace(near[0] if near else Near(entry_id="ans_1", similarity=0.97, log_odds=6.1), log_odds=6.1)
        return Story(
            age_s=rng.uniform(60, 5000),
            needed=4.6,
            near=(hit, *near[1:]),
            hit=hit.entry_id,
            route="asked before in other words",
        )
    tier = Tier.LARGE if kind in ("large", "failed") else Tier.SMALL
    score = rng.uniform(0.3, 0.8) if tier is Tier.LARGE else rng.uniform(-0.7, 0.3)
    reason = "large first: it gains enough" if tier is Tier.LARGE else "small first: its answer is checked"
    judgements = [] if kind not in ("small", "escalated") else [Judgement(tier=Tier.SMALL, check=check)]
    if kind == "escalated":
        judgements.append(Judgement(tier=Tier.LARGE, check=None))
    return Story(
        needed=4.6 if near else None,
        near=near,
        missed=rng.choice(("not sure enough", "another number is asked for")) if near else "nothing near is stored",
        scores=Scores(tier=tier, score=score, threshold=0.3, labels=812, reason=reason),
        route=reason,
        judgements=tuple(judgements),
    )
