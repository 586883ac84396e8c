"""What each lever took off the bill of one request, and what was wasted: from its row in the ledger alone.

The baseline is what the same request would have cost untrimmed on the large model, at its standard price, with nothing
read from a provider's cache. From there each lever takes off what it made the answer cheaper by, in the order of the
funnel, until what is left is what the call cost that gave the answer. What other calls cost is waste. So

    baseline - all savings + all waste = cost

to the nanodollar, for every row. A request that got no answer has no baseline: all that it cost is waste.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from msgspec import Struct, field

from millrace import pricing
from millrace.types import (
    EMBEDDINGS,
    EVIDENCE_TENANT,
    CacheOutcome,
    Entry,
    Outcome,
    Past,
    PastCall,
    Price,
    Status,
    Story,
    Strategy,
    Tier,
    Usage,
)

BY_CACHE, NO_MODEL = "(cache)", "(none)"  # in place of a model's id
UNKNOWN = "unknown"  # a code that there is none of
BATCH = "batch"  # the service tier of a provider's batch endpoint
_HALTED = frozenset({"deadline", "budget_exceeded", "slow_consumer"})  # why an answer is incomplete that was stopped


class Saving(StrEnum):
    """A lever, by what it spares. The order is that of the waterfall."""

    TRIMMING = "trimming"  # context and history were cut
    EXACT = "exact"  # answered before
    SEMANTIC = "semantic"  # answered before, in other words
    JOIN = "join"  # shared the generation of an identical request
    ROUTING = "routing"  # a cheaper model answered
    CAP = "cap"  # output was capped; what it would have been is not known, so nothing of it is in the sum
    BATCH = "batch"  # the price of a provider's batch endpoint
    SERVICE_TIER = "service_tier"  # the price of another service tier
    PREFIX = "prefix"  # input was read from the provider's cache, less what it cost to write it there


class Waste(StrEnum):
    """What was paid for nothing, or beside the answer."""

    LOST = "lost"  # calls that lost a race or a hedge
    REVISED = "revised"  # drafts that a check took back
    REPAIR = "repair"  # turns in which a model was to correct its answer
    FAILED = "failed"  # calls that failed, and were billed all the same
    CANCELLED = "cancelled"  # calls that were cancelled, and all of requests that ended without an answer
    EVIDENCE = "evidence"  # shadows and judges


CACHES = {
    CacheOutcome.EXACT: Saving.EXACT,
    CacheOutcome.SEMANTIC: Saving.SEMANTIC,
    CacheOutcome.JOINED: Saving.JOIN,
}
_WASTES = {Outcome.LOST: Waste.LOST, Outcome.REVISED: Waste.REVISED, Outcome.FAILED: Waste.FAILED}


class Levers(Struct):
    """Nanodollars of one request. What is not named is nothing. A saving is negative where a lever cost more."""

    baseline: int = 0
    savings: dict[Saving, int] = field(default_factory=dict)
    waste: dict[Waste, int] = field(default_factory=dict)
    answer: PastCall | None = None  # the call that gave the answer; None: a cache did, or nothing

    @property
    def cost(self) -> int:
        """What was paid."""
        return self.baseline - self.saved

    @property
    def saved(self) -> int:
        """All savings less all waste: what the same request would have cost, less what was paid."""
        return sum(self.savings.values()) - sum(self.waste.values())


class _Call(Protocol):
    """A charge, of a bill or of a row."""

    @property
    def model(self) -> str: ...
    @property
    def tier(self) -> str: ...
    @property
    def outcome(self) -> Outcome: ...
    @property
    def usage(self) -> Usage: ...


def compared(usage: Usage, trimmed_tokens: int, calls: Iterable[_Call], price: Price) -> Decimal:
    """Return the baseline in dollars of a request that was answered. `usage` is of the answer, `price` the baseline's.

    A turn in which a model corrects its answer has more input than was asked; that is not compared.
    """
    calls = tuple(calls)
    asked = usage.input_tokens if len(calls) < 2 else _asked(usage, calls)  # noqa: PLR2004 - one is no repair
    return pricing.cost(Usage(input_tokens=asked + trimmed_tokens, output_tokens=usage.output_tokens), price)


def is_answered(status: Status, code: str | None, calls: Iterable[_Call]) -> bool:
    """Whether a request got an answer, whole or cut by a cap."""
    if status is Status.COMPLETED:
        return True
    if status is not Status.INCOMPLETE:
        return False
    return code not in _HALTED or any(call.outcome is Outcome.ANSWERED for call in calls)


def model_of(calls: Sequence[_Call], cache: CacheOutcome) -> str:
    """Return the model that answered, else the last one that was asked; what to say instead if none was."""
    for call in calls:
        if call.outcome is Outcome.ANSWERED:
            return call.model
    if calls:
        return calls[-1].model
    return NO_MODEL if cache is CacheOutcome.MISS else BY_CACHE


def escalation(strategy: str, calls: Sequence[_Call], story: Story, check: str | None) -> str | None:
    """Return why the large model was asked after the small one: the check that its answer failed, or its error's code.

    None if it was not, or only raced against it.
    """
    gave_up = (Outcome.REVISED,) if strategy == Strategy.RACE else (Outcome.REVISED, Outcome.FAILED)
    first = next((at for at, call in enumerate(calls) if call.tier == Tier.SMALL and call.outcome in gave_up), None)
    if first is None or not any(call.tier == Tier.LARGE for call in calls[first + 1 :]):
        return None
    failed = next((each.check for each in story.judgements if each.tier is Tier.SMALL and each.check), check)
    if failed is not None:
        return failed
    return story.failed[0][1] if story.failed else UNKNOWN


def is_by_large(row: Past, answer: PastCall) -> bool:
    """Whether the large model has answered, and no other one was asked before it."""
    return len(row.calls) == 1 and answer.tier == Tier.LARGE


def faster(row: Past, found: Levers) -> Saving | None:
    """Return the lever for which the large model was not waited for; None if it was."""
    if row.cache in CACHES and found.baseline:
        return CACHES[row.cache]
    return Saving.ROUTING if Saving.ROUTING in found.savings else None


def past_of(entry: Entry) -> Past:
    """Return a row that is being written as it will be read back, as far as levers need it."""
    statement = entry.statement
    calls = [
        PastCall(
            model=charge.model,
            tier=charge.tier,
            usage=charge.usage,
            cost=nanodollars(charge.cost),
            outcome=charge.outcome,
            price=charge.price,
            standard=charge.standard,
            service_tier=charge.service_tier,
        )
        for charge in statement.charges
    ]
    return Past(
        request_id=entry.request_id,
        tenant=entry.tenant,
        opened_at=entry.opened_at,
        status=entry.status,
        source=entry.source,
        cache=entry.cache,
        strategy=entry.strategy,
        code=entry.code,
        check=entry.check,
        usage=statement.usage,
        cost=nanodollars(statement.cost),
        saved=nanodollars(statement.saved),
        latency_ms=entry.latency_ms,
        trimmed_tokens=entry.trimmed_tokens,
        calls=calls,
        baseline=entry.baseline,
    )


def nanodollars(dollars: Decimal) -> int:
    """Return dollars in whole nanodollars."""
    return int(dollars.scaleb(9))


def levers_of(row: Past, standard: Price | None = None) -> Levers:
    """Return what each lever did for a request.

    `standard` is the large model's price today, for rows of an earlier version, which have none.
    """
    if row.tenant == EVIDENCE_TENANT:
        return Levers(waste={Waste.EVIDENCE: row.cost})
    is_embeddings = row.strategy == EMBEDDINGS
    answered = is_answered(row.status, row.code, row.calls) and (is_embeddings or row.source is not None)
    answer = (
        next((call for call in reversed(row.calls) if call.outcome is Outcome.ANSWERED), None) if answered else None
    )
    found = Levers(answer=answer, waste=_wasted(row.calls, answer) if len(row.calls) > (answer is not None) else {})
    price = row.baseline or standard
    if not answered or (answer is None and row.cache not in CACHES):
        return found
    if is_embeddings or price is None:  # there is nothing to compare it with
        found.baseline = 0 if answer is None else answer.cost
        return found
    asked = row.usage.input_tokens if len(row.calls) < 2 else _asked(row.usage, row.calls)  # noqa: PLR2004
    plain = Usage(input_tokens=asked, output_tokens=row.usage.output_tokens)
    left = _nanodollars(plain, price)
    found.baseline = left
    if row.trimmed_tokens:
        untrimmed = Usage(input_tokens=asked + row.trimmed_tokens, output_tokens=row.usage.output_tokens)
        found.baseline = _nanodollars(untrimmed, price)
        found.savings[Saving.TRIMMING] = found.baseline - left
    if answer is None:
        found.savings[CACHES[row.cache]] = left
    else:
        _by_call(found, row, answer, plain, left)
    return found


def _by_call(found: Levers, row: Past, answer: PastCall, plain: Usage, left: int) -> None:
    """Tell what made the call that answered cheaper than `left`, what `plain` usage costs at the baseline's price."""
    savings = found.savings
    charged = answer.price
    if charged is None:
        savings[Saving.ROUTING] = left - answer.cost
        return
    standard = answer.standard or charged
    costs = _nanodollars(plain, standard)
    if costs != left:
        savings[Saving.ROUTING] = left - costs
    if standard is not charged:
        left, costs = costs, _nanodollars(plain, charged)
        if costs != left:  # they are the same where only the input was longer
            savings[Saving.BATCH if answer.service_tier == BATCH else Saving.SERVICE_TIER] = left - costs
    usage = row.usage
    if added := usage.input_tokens - plain.input_tokens:
        more = Usage(input_tokens=plain.input_tokens + added, output_tokens=plain.output_tokens)
        left, costs = costs, _nanodollars(more, charged)
        found.waste[Waste.REPAIR] = found.waste.get(Waste.REPAIR, 0) + costs - left
    if row.cache is CacheOutcome.JOINED:  # it took a call over in the middle, and paid the rest of it
        left, costs = costs, _nanodollars(usage, charged)
        savings[Saving.JOIN] = costs - answer.cost
        if costs != left:
            savings[Saving.PREFIX] = left - costs
    elif costs != answer.cost:
        savings[Saving.PREFIX] = costs - answer.cost


def _wasted(calls: Sequence[PastCall], answer: PastCall | None) -> dict[Waste, int]:
    waste: dict[Waste, int] = {}
    drafts: set[tuple[str, str]] = set()
    for call in calls:
        if call is answer:
            continue
        kind = _WASTES.get(call.outcome, Waste.CANCELLED)
        if kind is Waste.REVISED:
            if (call.model, call.tier) in drafts:
                kind = Waste.REPAIR
            drafts.add((call.model, call.tier))
        if call.cost:
            waste[kind] = waste.get(kind, 0) + call.cost
    return waste


def _asked(usage: Usage, calls: Sequence[_Call]) -> int:
    """Return the tokens of input without what a repair has added: those of the draft that was to be corrected."""
    answer = next((call for call in reversed(calls) if call.outcome is Outcome.ANSWERED), None)
    if answer is not None:
        for call in calls:
            if call.outcome is Outcome.REVISED and (call.model, call.tier) == (answer.model, answer.tier):
                return min(call.usage.input_tokens, usage.input_tokens)
    return usage.input_tokens


def _nanodollars(usage: Usage, price: Price) -> int:
    return nanodollars(pricing.cost(usage, price))
