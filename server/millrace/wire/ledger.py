"""A row of the ledger as JSON: `GET /v1/ledger`, `millrace ledger ... --json` and `millrace ledger export`.

Dollars are exact decimals, as strings; times are Unix seconds, and lengths of time milliseconds. What is not known is
null.
"""

import math
from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct, convert

from millrace.types import Charge, Entry, Outcome, Price, Status, Story

MAX_LIMIT = 1000  # rows of one answer


class ShownPrice(Struct, kw_only=True, omit_defaults=True):
    """Dollars per million tokens; what is left out costs as much as other input. `steps` are prices of longer input."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    above_tokens: int = 0
    steps: "list[ShownPrice]" = []


class ShownCall(Struct, kw_only=True):
    """One call of a model. `started_ms` counts from the start of the request, the other two from that of the call.

    `outcome`: answered, revised (taken back), lost (a race), failed, cancelled, or running while no end of it is known.
    `standard` is the model's usual price, where `price`, that it was charged at, is another one.
    """

    model: str
    tier: str
    deployment: str
    outcome: str
    started_ms: float | None
    ttft_ms: float | None
    lasted_ms: float | None
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    output_tokens: int
    reasoning_tokens: int
    estimated: bool
    cost_usd: Decimal
    price: ShownPrice | None
    standard: ShownPrice | None
    service_tier: str
    finish_reason: str


class ShownNear(Struct, kw_only=True):
    """A stored question near to the one asked: its entry, and how likely its answer was to do."""

    entry_id: str
    cosine: float
    probability: float
    scope_off: bool


class ShownScores(Struct, kw_only=True):
    """What the router made of the prompt: the large model was asked first if `score` reached `threshold`.

    `score` is `large - small`: how likely either model's answer is right, as far as was learned. Without a threshold no
    score was enough (`tier` is small), or any.
    """

    tier: str
    score: float
    small: float | None
    large: float | None
    threshold: float | None
    labels: int
    reason: str


class ShownVerdict(Struct, kw_only=True):
    """What the checks said of one whole answer; `check` is the one that it failed."""

    tier: str
    check: str | None
    reason: str


class ShownFailure(Struct, kw_only=True):
    """A model that did not answer."""

    model: str
    code: str


class ShownStory(Struct, kw_only=True):
    """What each stage decided, without a word of the request or its answer.

    `needed` is how likely a stored answer had to do to be served; `age_s` how old the one was that was.
    """

    near: list[ShownNear]
    needed: float | None
    hit: str
    age_s: float | None
    missed: str
    scores: ShownScores | None
    verdicts: list[ShownVerdict]
    failed: list[ShownFailure]


class LedgerEntry(Struct, kw_only=True):
    """What one request has used and cost, and why. `docs/ledger.md` describes each field."""

    object: Literal["ledger.entry"] = "ledger.entry"
    id: str
    tenant: str
    key_id: str
    user: str
    tag: str
    session: str
    batch: str
    opened_at: float
    ended_at: float | None
    status: str
    code: str | None
    source: str | None
    model: str
    cache: str
    strategy: str
    reason: str
    failed_check: str | None
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    estimated: bool
    trimmed_tokens: int
    cost_usd: Decimal
    saved_usd: Decimal
    ttft_ms: float | None
    latency_ms: float | None
    entry_id: str
    stored_id: str
    baseline: ShownPrice | None
    calls: list[ShownCall]
    story: ShownStory
    shape: dict[str, Any] | None


class LedgerEntries(Struct, kw_only=True):
    """Some rows. `has_more`: there are others beyond the last of them."""

    object: Literal["list"] = "list"
    data: list[LedgerEntry]
    first_id: str | None
    last_id: str | None
    has_more: bool


def entry(row: Entry) -> LedgerEntry:
    """Return a row as it is shown."""
    statement, usage = row.statement, row.statement.usage
    is_ended = row.status not in (Status.OPEN, Status.KILLED)
    return LedgerEntry(
        id=row.request_id,
        tenant=row.tenant,
        key_id=row.key_id,
        user=row.user,
        tag=row.tag,
        session=row.session,
        batch=row.batch,
        opened_at=row.opened_at,
        ended_at=round(row.opened_at + row.latency_ms / 1000, 3) if is_ended else None,
        status=row.status.value,
        code=row.code,
        source=None if row.source is None else row.source.value,
        model=_model(statement.charges),
        cache=row.cache.value,
        strategy=str(row.strategy),
        reason=row.story.route,
        failed_check=row.check,
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        estimated=usage.estimated,
        trimmed_tokens=row.trimmed_tokens,
        cost_usd=_dollars(statement.cost),
        saved_usd=_dollars(statement.saved),
        ttft_ms=_rounded(row.ttft_ms),
        latency_ms=_rounded(row.latency_ms) if is_ended else None,
        entry_id=row.entry_id,
        stored_id=row.stored_id,
        baseline=_price(row.baseline),
        calls=[_call(charge) for charge in statement.charges],
        story=_story(row.story),
        shape=None if row.shape is None else row.shape.given,
    )


def _model(charges: tuple[Charge, ...]) -> str:
    """Return the model that answered, else the last one that was asked; empty if none was."""
    answered = [charge.model for charge in charges if charge.outcome is Outcome.ANSWERED]
    return answered[0] if answered else charges[-1].model if charges else ""


def _call(charge: Charge) -> ShownCall:
    usage = charge.usage
    return ShownCall(
        model=charge.model,
        tier=str(charge.tier),
        deployment=charge.deployment,
        outcome=charge.outcome.value,
        started_ms=_since(0.0, charge.began_at),
        ttft_ms=_since(charge.began_at, charge.spoke_at),
        lasted_ms=_since(charge.began_at, charge.ended_at),
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        estimated=usage.estimated,
        cost_usd=_dollars(charge.cost),
        price=_price(charge.price),
        standard=_price(charge.standard),
        service_tier=charge.service_tier,
        finish_reason=charge.finish_word,
    )


def _story(story: Story) -> ShownStory:
    scores = story.scores
    return ShownStory(
        near=[
            ShownNear(
                entry_id=near.entry_id,
                cosine=round(near.similarity, 4),
                probability=round(_logistic(near.log_odds), 4),
                scope_off=near.is_off,
            )
            for near in story.near
        ],
        needed=None if story.needed is None else round(_logistic(story.needed), 4),
        hit=story.hit,
        age_s=_rounded(story.age_s),
        missed=story.missed,
        scores=None
        if scores is None
        else ShownScores(
            tier=scores.tier.value,
            score=scores.score,
            small=scores.small,
            large=scores.large,
            threshold=scores.threshold,
            labels=scores.labels,
            reason=scores.reason,
        ),
        verdicts=[
            ShownVerdict(tier=each.tier.value, check=each.check, reason=each.reason) for each in story.judgements
        ],
        failed=[ShownFailure(model=model, code=code) for model, code in story.failed],
    )


def _price(price: Price | None) -> ShownPrice | None:
    return None if price is None else convert(price, ShownPrice, from_attributes=True)


def _dollars(dollars: Decimal) -> Decimal:
    return dollars or Decimal(0)  # not 0E-9


def _since(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round((end - start) * 1000, 1)


def _rounded(length: float | None) -> float | None:
    return None if length is None else round(length, 1)


def _logistic(log_odds: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, log_odds))))
