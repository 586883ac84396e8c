"""What requests have come to since the start, by tenant: counted from their rows as they end, nothing per token.

Requests that are alike in all that is told apart share a record, so that one more of them costs some microseconds. What
Prometheus reads is made of the records at a scrape.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping

from millrace import levers
from millrace.errors import RULES
from millrace.telemetry import families as the
from millrace.telemetry.numbers import MOST_SERIES, OTHER, Histogram, Labels, Numbers, total
from millrace.types import (
    EMBEDDINGS,
    EVIDENCE_TENANT,
    CacheMode,
    CacheOutcome,
    Charge,
    Entry,
    Outcome,
    Status,
    Usage,
)

NONE = "none"  # the label of what there is none of
OWN_NAME = "millrace"  # as a provider, to its clients
# Why a request may end early, beside the codes of errors.
REASONS = frozenset({*RULES, "max_output_tokens", "content_filter", "deadline"})

Providers = Callable[[], Mapping[str, str]]  # models' ids -> who serves them, in the words of OpenTelemetry
Key = tuple[str | None, ...]


class Figures:
    """Counts for `GET /metrics`."""

    def __init__(self, providers: Providers = dict) -> None:
        self.process = Numbers()  # of no tenant
        self._providers = providers
        self._tenants: dict[str, _Tenant] = {}

    def settled(self, entry: Entry) -> None:
        """Count a request that has ended. What evidence asks is counted by its calls alone."""
        tenant = self._tenants.get(entry.tenant)
        if tenant is None:
            tenant = self._tenants[entry.tenant] = _Tenant()
        tenant.settled(entry)

    def refused(self, code: str) -> None:
        """Count what was refused before it ran."""
        self.process.count(the.REFUSED, (reason_of(code),))

    def late(self, seconds: float) -> None:
        """Count how late the event loop was."""
        self.process.observe(the.LAG, (), seconds)

    def of(self, tenant: str | None) -> Numbers:
        """Return what was counted of a tenant's requests, or of all, with what evidence has asked, for None.

        May be called on another thread: what may grow meanwhile is copied first.
        """
        together = _Tenant()
        for name, each in self._tenants.copy().items():
            if tenant in (None, name):
                together.add(each)
        return total([together.numbers(self._providers()), self.process])


class _Tokens:
    """Tokens by kind."""

    __slots__ = ("cached", "input", "output", "reasoning", "written")

    def __init__(self) -> None:
        self.input = self.cached = self.written = self.output = self.reasoning = 0

    def add(self, usage: Usage) -> None:
        self.input += usage.input_tokens
        self.output += usage.output_tokens
        self.cached += usage.cached_input_tokens
        self.written += usage.cache_write_tokens
        self.reasoning += usage.reasoning_tokens

    def join(self, other: "_Tokens") -> None:
        self.input += other.input
        self.output += other.output
        self.cached += other.cached
        self.written += other.written
        self.reasoning += other.reasoning

    def kinds(self) -> list[tuple[str, int]]:
        """Return those of which there are some."""
        kinds = [
            ("input", self.input),
            ("cached_input", self.cached),
            ("cache_write", self.written),
            ("output", self.output),
            ("reasoning", self.reasoning),
        ]
        return [kind for kind in kinds if kind[1]]


class _Times:
    """How long requests took that are alike in what times are told apart by."""

    __slots__ = ("first_tokens", "gaps", "seconds")

    def __init__(self) -> None:
        self.seconds = Histogram(len(the.DURATIONS))
        self.first_tokens, self.gaps = Histogram(len(the.FIRST_TOKENS)), Histogram(len(the.GAPS))

    def add(self, other: "_Times") -> None:
        self.seconds.add(other.seconds)
        self.first_tokens.add(other.first_tokens)
        self.gaps.add(other.gaps)


class _Requests:
    """Requests that are alike. Of most kinds there are few, so one holds no more than it must."""

    __slots__ = ("count", "times")

    def __init__(self, times: _Times) -> None:
        self.count = 0
        self.times = times  # also of other kinds


class _Calls:
    """Calls that are alike."""

    __slots__ = ("count", "first_chunks", "inputs", "nanodollars", "outputs", "seconds", "tokens")

    def __init__(self) -> None:
        self.count = self.nanodollars = 0
        self.tokens = _Tokens()
        self.inputs, self.outputs = Histogram(len(the.TOKENS)), Histogram(len(the.TOKENS))
        self.seconds, self.first_chunks = Histogram(len(the.DURATIONS)), Histogram(len(the.FIRST_TOKENS))

    def add(self, other: "_Calls") -> None:
        self.count += other.count
        self.nanodollars += other.nanodollars
        self.tokens.join(other.tokens)
        for mine, its in ((self.inputs, other.inputs), (self.outputs, other.outputs), (self.seconds, other.seconds)):
            mine.add(its)
        self.first_chunks.add(other.first_chunks)


class _Tenant:
    """What the requests of one tenant have come to."""

    def __init__(self) -> None:
        self._requests: dict[Key, _Requests] = {}
        self._times: dict[Labels, _Times] = {}
        self._tokens = _Tokens()  # of answers
        self._trimmed = 0  # tokens
        self._calls: dict[Key, _Calls] = {}
        self._judged: Counter[tuple[str, str]] = Counter()
        self._baseline = 0
        self._saved: Counter[levers.Saving] = Counter()
        self._lost: Counter[levers.Saving] = Counter()
        self._wasted: Counter[levers.Waste] = Counter()

    def settled(self, entry: Entry) -> None:
        """Count a request that has ended."""
        if entry.tenant != EVIDENCE_TENANT:
            self._count_request(entry)
            for judgement in entry.story.judgements:
                self._judged[judgement.tier, judgement.check or "passed"] += 1
        for charge in entry.statement.charges:
            self._count_call(charge)
        found = levers.levers_of(levers.past_of(entry))
        self._baseline += found.baseline
        for lever, saved in found.savings.items():
            if saved >= 0:
                self._saved[lever] += saved
            else:
                self._lost[lever] -= saved
        for kind, wasted in found.waste.items():
            self._wasted[kind] += wasted

    def _count_request(self, entry: Entry) -> None:
        charges, story, usage = entry.statement.charges, entry.story, entry.statement.usage
        call = charges[0] if len(charges) == 1 else answering_call(entry)
        looked_up = story.looked_up
        key: Key = (
            entry.status,
            entry.source,
            entry.cache,
            entry.strategy,
            entry.dialect,
            None if call is None else call.model,
            None if entry.shape is None else entry.shape.model,
            None if entry.code is None else reason_of(entry.code),
            None if looked_up is None else looked_up.mode,
            story.missed,
            charges[0].tier if charges else None,
            None if len(charges) < 2 else detour_of(entry),  # noqa: PLR2004 - one is none
        )
        record = self._requests.get(key)
        if record is None:
            if len(self._requests) >= MOST_SERIES:  # should a label have more values than are known of
                key = (*key[:5], *(None,) * 7)
            record = self._alike(key)
        record.count += 1
        times, seconds, ttft_ms = record.times, entry.latency_ms / 1e3, entry.ttft_ms
        times.seconds.add_one(bisect_left(the.DURATIONS, seconds), seconds)
        if ttft_ms is not None:
            first = ttft_ms / 1e3
            times.first_tokens.add_one(bisect_left(the.FIRST_TOKENS, first), first)
            gaps = usage.output_tokens - 1
            if gaps > 0 and seconds > first and call is not None:
                gap = (seconds - first) / gaps
                times.gaps.add_one(bisect_left(the.GAPS, gap), gap)
        self._tokens.add(usage)
        self._trimmed += entry.trimmed_tokens

    def _alike(self, key: Key) -> _Requests:
        """Return the record of requests of this kind; a new one is empty."""
        record = self._requests.get(key)
        if record is None:
            times = self._times.setdefault(_labels_of(key), _Times())
            record = self._requests[key] = _Requests(times)
        return record

    def _count_call(self, charge: Charge) -> None:
        usage, began_at = charge.usage, charge.began_at
        key: Key = (charge.model, charge.tier, charge.deployment, charge.outcome)
        record = self._calls.get(key)
        if record is None:
            if len(self._calls) >= MOST_SERIES:
                key = (OTHER, charge.tier, "", charge.outcome)
            record = self._calls.setdefault(key, _Calls())
        record.count += 1
        record.nanodollars += levers.nanodollars(charge.cost)
        record.tokens.add(usage)
        if usage.input_tokens:
            record.inputs.add_one(bisect_left(the.TOKENS, usage.input_tokens), usage.input_tokens)
        if usage.output_tokens:
            record.outputs.add_one(bisect_left(the.TOKENS, usage.output_tokens), usage.output_tokens)
        if began_at is not None:
            if charge.ended_at is not None:
                seconds = charge.ended_at - began_at
                record.seconds.add_one(bisect_left(the.DURATIONS, seconds), seconds)
            if charge.spoke_at is not None:
                seconds = charge.spoke_at - began_at
                record.first_chunks.add_one(bisect_left(the.FIRST_TOKENS, seconds), seconds)

    def add(self, other: "_Tenant") -> None:
        """Add what was counted for another one, which may go on counting meanwhile."""
        for of_requests, requests in other._requests.copy().items():
            self._alike(of_requests).count += requests.count
        for labels, times in other._times.copy().items():
            self._times.setdefault(labels, _Times()).add(times)
        self._tokens.join(other._tokens)
        self._trimmed += other._trimmed
        for of_calls, calls in other._calls.copy().items():
            self._calls.setdefault(of_calls, _Calls()).add(calls)
        self._baseline += other._baseline
        self._judged.update(other._judged.copy())
        self._saved.update(other._saved.copy())
        self._lost.update(other._lost.copy())
        self._wasted.update(other._wasted.copy())

    def numbers(self, providers: Mapping[str, str]) -> Numbers:
        """Return what was counted, as Prometheus has it."""
        numbers = Numbers()
        for of_requests, requests in self._requests.items():
            _show_requests(numbers, of_requests, requests.count)
        for labels, times in self._times.items():
            numbers.join(the.REQUEST_SECONDS, labels, times.seconds)
            numbers.join(the.FIRST_TOKEN_SECONDS, labels[:-1], times.first_tokens)
            numbers.join(the.TOKEN_GAP_SECONDS, labels[:-1], times.gaps)
        for kind, tokens in self._tokens.kinds():
            numbers.count(the.ANSWER_TOKENS, (kind,), tokens)
        if self._trimmed:
            numbers.count(the.TRIMMED_TOKENS, (), self._trimmed)
        for of_calls, calls in self._calls.items():
            _show_calls(numbers, of_calls, calls, providers)
        for labels, count in self._judged.items():
            numbers.count(the.JUDGED, labels, count)
        if self._baseline:
            numbers.count(the.BASELINE, (), self._baseline)
        for family, nanodollars in ((the.SAVED, self._saved), (the.LOST, self._lost), (the.WASTED, self._wasted)):
            for name, amount in nanodollars.items():
                numbers.count(family, (name,), amount)
        return numbers


def _labels_of(key: Key) -> Labels:
    """Return the labels of the times of such requests; the last one is why they failed, which not all metrics have."""
    status, source, cache, strategy, _, model, asked, code, *_ = key
    model, who = model or NONE, source if cache == CacheOutcome.MISS else cache
    operation = EMBEDDINGS if strategy == EMBEDDINGS else "chat"
    error = (code or OTHER) if status == Status.FAILED else ""
    return (operation, OWN_NAME, asked or model, model, who or NONE, error)


def _show_requests(numbers: Numbers, key: Key, count: int) -> None:
    status, source, cache, strategy, dialect, model, _, code, mode, missed, first, detour = key
    source = source or NONE
    labels = (status or "", source, cache or "", strategy or "", dialect or NONE, model or NONE)
    numbers.count(the.REQUESTS, labels, count)
    if code is not None:
        numbers.count(the.ERRORS, (code,), count)
    if cache == CacheOutcome.JOINED:
        numbers.count(the.JOINED, (), count)
    if mode in (CacheMode.ON, CacheMode.ONLY):
        numbers.count(the.LOOKUPS, ("exact", "hit" if cache == CacheOutcome.EXACT else "miss"), count)
    if cache == CacheOutcome.SEMANTIC:
        numbers.count(the.LOOKUPS, ("semantic", "hit"), count)
    elif missed:
        numbers.count(the.LOOKUPS, ("semantic", "miss"), count)
        numbers.count(the.MISSES, (missed,), count)
    if first is not None and strategy != EMBEDDINGS:
        numbers.count(the.ROUTES, (first, source), count)
        if detour == Outcome.LOST:
            numbers.count(the.RACES, (strategy or "", source), count)
        elif detour is not None:
            numbers.count(the.ESCALATIONS, (detour,), count)


def _show_calls(numbers: Numbers, key: Key, record: _Calls, providers: Mapping[str, str]) -> None:
    model, tier, deployment, outcome = (each or "" for each in key)
    operation = EMBEDDINGS if tier == EMBEDDINGS else "chat"
    numbers.count(the.CALLS, (model, tier, deployment, outcome), record.count)
    numbers.count(the.SPENT, (model, tier), record.nanodollars)
    for kind, tokens in record.tokens.kinds():
        numbers.count(the.TOKENS_USED, (model, kind), tokens)
    labels = (operation, providers.get(model, OTHER), model)
    numbers.join(the.CALL_TOKENS, (*labels, "input"), record.inputs)
    numbers.join(the.CALL_TOKENS, (*labels, "output"), record.outputs)
    numbers.join(the.CALL_SECONDS, (*labels, outcome if outcome == Outcome.FAILED else ""), record.seconds)
    numbers.join(the.FIRST_CHUNK_SECONDS, labels, record.first_chunks)


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


def detour_of(entry: Entry) -> str | None:
    """Return why several calls were made: `lost`, if a race was, or why the large model was asked too."""
    if any(charge.outcome is Outcome.LOST for charge in entry.statement.charges):
        return Outcome.LOST
    return escalation_of(entry)


def escalation_of(entry: Entry) -> str | None:
    """Return why a request went from the small model to the large one; None if it did not."""
    reason = levers.escalation(entry.strategy, entry.statement.charges, entry.story, entry.check)
    checks = {entry.check, *(judgement.check for judgement in entry.story.judgements)}
    return reason if reason is None or reason in checks else reason_of(reason)
