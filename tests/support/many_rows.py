"""Rows of the ledger of all kinds, as a busy server would have written them, and many more of them at once."""

import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from random import Random

from millrace import levers, pricing
from millrace.pricing import NANODOLLAR
from millrace.types import (
    EMBEDDINGS,
    EVIDENCE_TENANT,
    CacheOutcome,
    Charge,
    Entry,
    Judgement,
    Outcome,
    Price,
    Scores,
    Source,
    Statement,
    Status,
    Story,
    Strategy,
    Tier,
    Usage,
)

SMALL_PRICE = Price(input=Decimal("0.15"), output=Decimal("0.60"), cached_input=Decimal("0.075"))
LARGE_PRICE = Price(input=Decimal("2.50"), output=Decimal("10.00"), cached_input=Decimal("1.25"))
SMALL, LARGE, EMBEDDER = "small-model", "large-model", "embedder"
TAGS = ("", "", "shop", "night", "search")
CHECKS = ("refusal", "format", "repeats")
CODES = ("upstream_timeout", "rate_limit_exceeded", "upstream_error")


def rows(
    count: int, *, seed: int, since: float, until: float, tenants: tuple[str, ...] = ("anonymous",)
) -> Iterator[Entry]:
    """Yield requests that were opened between two times (Unix seconds), in the order of their ends."""
    rng = Random(seed)
    for number in range(count):
        opened_at = round(since + (until - since) * number / count, 3)
        yield _row(rng, f"resp_{seed}_{number:07}", rng.choice(tenants), opened_at)


def multiplied(connection: sqlite3.Connection, copies: int, step_s: float) -> Iterator[int]:
    """Copy all rows that have ended so often, each copy so many seconds earlier; yield how many there are."""
    columns = [row[1] for row in connection.execute("PRAGMA table_info(entries)")]
    changed = {"request_id": "request_id || '_' || ?", "opened_at": "opened_at - ?"}
    chosen = ", ".join(changed.get(name, name) for name in columns)
    ((top,),) = connection.execute("SELECT max(rowid) FROM entries")
    insert = (
        f"INSERT INTO entries ({', '.join(columns)}) SELECT {chosen} FROM entries"  # noqa: S608 - names of our own
        " WHERE rowid <= ? AND status != 'open' ORDER BY rowid"
    )
    for copy in range(1, copies + 1):
        with connection:
            connection.execute(insert, (copy, copy * step_s, top))
        yield copy


def _row(rng: Random, request_id: str, tenant: str, opened_at: float) -> Entry:
    usage = Usage(input_tokens=rng.randint(5, 4000), output_tokens=rng.randint(1, 900))
    if rng.random() < 0.3:
        usage = Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_input_tokens=rng.randint(0, usage.input_tokens),
            reasoning_tokens=rng.randint(0, usage.output_tokens),
        )
    kind, trimmed = rng.random(), rng.choice((0, 0, 0, 250))
    if kind < 0.25:
        return _hit(rng, request_id, tenant, opened_at, usage, trimmed)
    if kind < 0.30:
        charge = _charge(EMBEDDER, EMBEDDINGS, Usage(input_tokens=usage.input_tokens), Outcome.ANSWERED)
        return _entry(rng, request_id, tenant, opened_at, charges=(charge,), strategy=EMBEDDINGS, usage=charge.usage)
    if kind < 0.33:
        charge = _charge(LARGE, Tier.LARGE, usage, Outcome.ANSWERED)
        return _entry(rng, request_id, EVIDENCE_TENANT, opened_at, charges=(charge,), usage=usage, source=Source.LARGE)
    if kind < 0.40:
        return _failed(rng, request_id, tenant, opened_at, usage)
    return _answered(rng, request_id, tenant, opened_at, usage, trimmed)


def _hit(rng: Random, request_id: str, tenant: str, opened_at: float, usage: Usage, trimmed: int) -> Entry:
    cache = rng.choice((CacheOutcome.EXACT, CacheOutcome.EXACT, CacheOutcome.SEMANTIC, CacheOutcome.JOINED))
    source = Source.SMALL if cache is CacheOutcome.JOINED else Source.CACHE
    return _entry(
        rng, request_id, tenant, opened_at, usage=usage, trimmed=trimmed, cache=cache, source=source, fast=True
    )


def _failed(rng: Random, request_id: str, tenant: str, opened_at: float, usage: Usage) -> Entry:
    status = rng.choice((Status.FAILED, Status.FAILED, Status.CANCELLED, Status.KILLED, Status.INCOMPLETE))
    code = {Status.FAILED: rng.choice(CODES), Status.INCOMPLETE: "deadline"}.get(status)
    outcome = Outcome.FAILED if status is Status.FAILED else Outcome.CANCELLED
    calls = [_charge(SMALL, Tier.SMALL, usage, outcome)]
    if rng.random() < 0.5:
        calls.append(_charge(LARGE, Tier.LARGE, usage, outcome))
    if rng.random() < 0.3:
        calls = []  # refused before a model was asked
    story = Story(route="small first", failed=((SMALL, rng.choice(CODES)),) if status is Status.FAILED else ())
    return _entry(
        rng, request_id, tenant, opened_at, status=status, code=code, charges=tuple(calls), story=story, usage=Usage()
    )


def _answered(rng: Random, request_id: str, tenant: str, opened_at: float, usage: Usage, trimmed: int) -> Entry:
    strategy = rng.choice((Strategy.AUTO, Strategy.AUTO, Strategy.CASCADE, Strategy.RACE, Strategy.LARGE))
    small = _charge(SMALL, Tier.SMALL, usage, Outcome.ANSWERED)
    large = _charge(LARGE, Tier.LARGE, usage, Outcome.ANSWERED)
    calls: tuple[Charge, ...]
    judged: tuple[Judgement, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    check, source, kind = None, Source.SMALL, rng.random()
    if strategy is Strategy.LARGE:
        calls, source = (large,), Source.LARGE
    elif strategy is Strategy.RACE:
        source = rng.choice((Source.SMALL, Source.LARGE))
        won = source is Source.SMALL
        calls = (_lost(small, rng) if not won else small, _lost(large, rng) if won else large)
    elif kind < 0.12:
        check = rng.choice(CHECKS)
        calls, source = (_charge(SMALL, Tier.SMALL, usage, Outcome.REVISED), large), Source.LARGE
        judged = (Judgement(tier=Tier.SMALL, check=check, reason="it"), Judgement(tier=Tier.LARGE, check=None))
    elif kind < 0.16:
        failed = ((SMALL, rng.choice(CODES)),)
        calls, source = (_charge(SMALL, Tier.SMALL, Usage(), Outcome.FAILED), large), Source.LARGE
    elif kind < 0.20:
        calls = (_lost(small, rng), small)
    elif kind < 0.24:
        check = rng.choice(CHECKS)
        calls = (_charge(SMALL, Tier.SMALL, usage, Outcome.REVISED), small)
        judged = (Judgement(tier=Tier.SMALL, check=check), Judgement(tier=Tier.SMALL, check=None))
    else:
        calls, judged = (small,), (Judgement(tier=Tier.SMALL, check=None),)
    is_cut = rng.random() < 0.04
    scores = Scores(tier=Tier(source.value), score=0.1, threshold=0.3, labels=12, reason="small first")
    return _entry(
        rng,
        request_id,
        tenant,
        opened_at,
        status=Status.INCOMPLETE if is_cut else Status.COMPLETED,
        code="max_output_tokens" if is_cut else None,
        source=source,
        strategy=strategy,
        charges=calls,
        usage=usage,
        trimmed=trimmed,
        check=check,
        story=Story(route="small first", missed="no near question", scores=scores, judgements=judged, failed=failed),
    )


def _lost(charge: Charge, rng: Random) -> Charge:
    return _charge(charge.model, charge.tier, Usage(input_tokens=rng.randint(1, 9)), Outcome.LOST)


def _charge(model: str, tier: Tier | str, usage: Usage, outcome: Outcome) -> Charge:
    price = LARGE_PRICE if tier is Tier.LARGE else SMALL_PRICE
    cost = pricing.cost(usage, price)
    return Charge(model=model, tier=tier, usage=usage, cost=cost, outcome=outcome, price=price)  # type: ignore[arg-type]


def _entry(  # noqa: PLR0913 - of a row
    rng: Random,
    request_id: str,
    tenant: str,
    opened_at: float,
    *,
    usage: Usage,
    status: Status = Status.COMPLETED,
    code: str | None = None,
    source: Source | None = None,
    cache: CacheOutcome = CacheOutcome.MISS,
    strategy: Strategy | str = Strategy.AUTO,
    charges: tuple[Charge, ...] = (),
    trimmed: int = 0,
    check: str | None = None,
    story: Story | None = None,
    fast: bool = False,
) -> Entry:
    cost = sum((charge.cost for charge in charges), Decimal(0))
    is_answered = levers.is_answered(status, code, charges)
    compared = strategy != EMBEDDINGS and tenant != EVIDENCE_TENANT
    baseline = LARGE_PRICE if compared else None
    would = levers.compared(usage, trimmed, charges, LARGE_PRICE) if is_answered and compared else Decimal(0)
    if strategy == EMBEDDINGS:
        would = cost
    latency = rng.lognormvariate(1.0, 0.8) if fast else rng.lognormvariate(7.0, 0.7)
    return Entry(
        request_id=request_id,
        tenant=tenant,
        opened_at=opened_at,
        status=status,
        source=source,
        cache=cache,
        strategy=strategy,  # type: ignore[arg-type]
        check=check,
        code=code,
        statement=Statement(
            usage=usage,
            cost=cost.quantize(NANODOLLAR),
            saved=(would - cost).quantize(NANODOLLAR),
            charges=charges,
            trimmed_tokens=trimmed,
        ),
        ttft_ms=round(latency * rng.uniform(0.1, 0.9), 3) if is_answered and strategy != EMBEDDINGS else None,
        latency_ms=round(latency, 3),
        trimmed_tokens=trimmed,
        user=rng.choice(("", "ann", "bob")),
        tag=rng.choice(TAGS),
        baseline=baseline,
        story=story or Story(route="answered before" if fast else ""),
        session=request_id,
    )
