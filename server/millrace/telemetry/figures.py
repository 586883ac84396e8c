"""What requests have come to since the start, by tenant: counted from their rows as they end, nothing per token."""

from collections.abc import Callable, Mapping

from millrace import levers
from millrace.errors import RULES
from millrace.telemetry import families as the
from millrace.telemetry.numbers import OTHER, Numbers, total
from millrace.types import (
    EMBEDDINGS,
    EVIDENCE_TENANT,
    CacheMode,
    CacheOutcome,
    Charge,
    Entry,
    Outcome,
    Source,
    Status,
    Tier,
    Usage,
)

NONE = "none"  # the label of what there is none of
OWN_NAME = "millrace"  # as a provider, to its clients
# Why a request may end early, beside the codes of errors.
REASONS = frozenset({*RULES, "max_output_tokens", "content_filter", "deadline"})

Providers = Callable[[], Mapping[str, str]]  # models' ids -> who serves them, in the words of OpenTelemetry


class Figures:
    """Counts for `GET /metrics`."""

    def __init__(self, providers: Providers = dict) -> None:
        self.process = Numbers()  # of no tenant
        self._providers = providers
        self._tenants: dict[str, Numbers] = {}

    def settled(self, entry: Entry) -> None:
        """Count a request that has ended. What evidence asks is counted by its calls alone."""
        numbers = self._tenants.get(entry.tenant)
        if numbers is None:
            numbers = self._tenants[entry.tenant] = Numbers()
        operation = EMBEDDINGS if entry.strategy == EMBEDDINGS else "chat"
        if entry.tenant != EVIDENCE_TENANT:
            _count_request(numbers, entry, operation)
            _count_stages(numbers, entry)
        providers = self._providers() if entry.statement.charges else {}
        for charge in entry.statement.charges:
            _count_call(numbers, charge, operation, providers.get(charge.model, OTHER))
        _count_dollars(numbers, entry)

    def refused(self, code: str) -> None:
        """Count what was refused before it ran."""
        self.process.count(the.REFUSED, (reason_of(code),))

    def late(self, seconds: float) -> None:
        """Count how late the event loop was."""
        self.process.observe(the.LAG, (), seconds)

    def of(self, tenant: str | None) -> Numbers:
        """Return what was counted of a tenant's requests, or of all, with what evidence has asked, for None."""
        chosen = self._tenants.values() if tenant is None else [self._tenants.get(tenant, Numbers())]
        return total([*chosen, self.process])


def reason_of(code: str) -> str:
    """Return a code as a label: one that is not Millrace's own is a provider's, and could be anything."""
    return code if code in REASONS else OTHER


def answered_by(entry: Entry) -> str:
    """Return who gave the answer: small, large, or the cache that did."""
    if entry.cache is not CacheOutcome.MISS:
        return entry.cache.value
    return NONE if entry.source is None else entry.source.value


def answering_call(entry: Entry) -> Charge | None:
    """Return the call whose text is the answer, or was last to be shown."""
    charges = entry.statement.charges
    answered = next((charge for charge in reversed(charges) if charge.outcome is Outcome.ANSWERED), None)
    return answered or (charges[-1] if charges else None)


def _count_request(numbers: Numbers, entry: Entry, operation: str) -> None:
    call, who, usage = answering_call(entry), answered_by(entry), entry.statement.usage
    model = NONE if call is None else call.model
    source = NONE if entry.source is None else entry.source.value
    numbers.count(
        the.REQUESTS, (entry.status.value, source, entry.cache.value, str(entry.strategy), entry.dialect or NONE, model)
    )
    labels = (operation, OWN_NAME, model if entry.shape is None else entry.shape.model, model, who)
    error = "" if entry.code is None else reason_of(entry.code)
    numbers.observe(
        the.REQUEST_SECONDS, (*labels, error if entry.status is Status.FAILED else ""), entry.latency_ms / 1e3
    )
    if error:
        numbers.count(the.ERRORS, (error,))
    if entry.ttft_ms is not None:
        numbers.observe(the.FIRST_TOKEN_SECONDS, labels, entry.ttft_ms / 1e3)
        gaps = usage.output_tokens - 1
        if gaps > 0 and entry.latency_ms > entry.ttft_ms and who in (Source.SMALL, Source.LARGE):
            numbers.observe(the.TOKEN_GAP_SECONDS, labels, (entry.latency_ms - entry.ttft_ms) / 1e3 / gaps)
    for kind, tokens in _kinds(usage):
        numbers.count(the.ANSWER_TOKENS, (kind,), tokens)
    if entry.trimmed_tokens:
        numbers.count(the.TRIMMED_TOKENS, (), entry.trimmed_tokens)


def _count_stages(numbers: Numbers, entry: Entry) -> None:
    """Count what each stage of the funnel did."""
    story, cache = entry.story, entry.cache
    if cache is CacheOutcome.JOINED:
        numbers.count(the.JOINED)
    looked_up = story.looked_up
    if looked_up is not None and looked_up.mode in (CacheMode.ON, CacheMode.ONLY):
        numbers.count(the.LOOKUPS, ("exact", "hit" if cache is CacheOutcome.EXACT else "miss"))
    if cache is CacheOutcome.SEMANTIC:
        numbers.count(the.LOOKUPS, ("semantic", "hit"))
    elif story.missed:
        numbers.count(the.LOOKUPS, ("semantic", "miss"))
        numbers.count(the.MISSES, (story.missed,))
    for judgement in story.judgements:
        numbers.count(the.JUDGED, (judgement.tier.value, judgement.check or "passed"))
    charges = entry.statement.charges
    if charges and entry.strategy != EMBEDDINGS:
        source = NONE if entry.source is None else entry.source.value
        numbers.count(the.ROUTES, (charges[0].tier, source))
        if any(charge.outcome is Outcome.LOST for charge in charges):
            numbers.count(the.RACES, (str(entry.strategy), source))
        elif (reason := escalation_of(entry)) is not None:
            numbers.count(the.ESCALATIONS, (reason,))


def escalation_of(entry: Entry) -> str | None:
    """Return why a request went from the small model to the large one; None if it did not."""
    tiers = [charge.tier for charge in entry.statement.charges]
    if len(tiers) < 2 or tiers[0] != Tier.SMALL or Tier.LARGE not in tiers:  # noqa: PLR2004 - one is none
        return None
    drafts = entry.statement.charges[: tiers.index(Tier.LARGE)]
    if entry.check is not None and any(draft.outcome is Outcome.REVISED for draft in drafts):
        return entry.check
    failed = dict(entry.story.failed)
    return next((reason_of(failed[draft.model]) for draft in drafts if draft.model in failed), OTHER)


def _count_call(numbers: Numbers, charge: Charge, operation: str, provider: str) -> None:
    usage, model = charge.usage, charge.model
    numbers.count(the.CALLS, (model, charge.tier, charge.deployment, charge.outcome.value))
    numbers.count(the.SPENT, (model, charge.tier), levers.nanodollars(charge.cost))
    for kind, tokens in _kinds(usage):
        numbers.count(the.TOKENS_USED, (model, kind), tokens)
    labels = (operation, provider, model)
    if usage.input_tokens:
        numbers.observe(the.CALL_TOKENS, (*labels, "input"), usage.input_tokens)
    if usage.output_tokens:
        numbers.observe(the.CALL_TOKENS, (*labels, "output"), usage.output_tokens)
    if charge.began_at is not None and charge.ended_at is not None:
        error = charge.outcome.value if charge.outcome is Outcome.FAILED else ""
        numbers.observe(the.CALL_SECONDS, (*labels, error), charge.ended_at - charge.began_at)
    if charge.began_at is not None and charge.spoke_at is not None:
        numbers.observe(the.FIRST_CHUNK_SECONDS, labels, charge.spoke_at - charge.began_at)


def _count_dollars(numbers: Numbers, entry: Entry) -> None:
    found = levers.levers_of(levers.past_of(entry))
    if found.baseline:
        numbers.count(the.BASELINE, (), found.baseline)
    for lever, saved in found.savings.items():
        numbers.count(the.SAVED if saved >= 0 else the.LOST, (lever.value,), abs(saved))
    for kind, wasted in found.waste.items():
        numbers.count(the.WASTED, (kind.value,), wasted)


def _kinds(usage: Usage) -> list[tuple[str, int]]:
    """Return the tokens of each kind of which there are some."""
    kinds = [
        ("input", usage.input_tokens),
        ("cached_input", usage.cached_input_tokens),
        ("cache_write", usage.cache_write_tokens),
        ("output", usage.output_tokens),
        ("reasoning", usage.reasoning_tokens),
    ]
    return [kind for kind in kinds if kind[1]]
