"""Bill (open) -> Entry (settled): one line per upstream call, settled exactly once on every way out."""

from decimal import Decimal

from millrace import pricing, tokens
from millrace.ports import Attempt, Ledger
from millrace.types import (
    CacheOutcome,
    Call,
    Charge,
    Entry,
    Outcome,
    Price,
    Request,
    Source,
    Statement,
    Status,
    Usage,
)


class Line:
    """One upstream call on an open bill: what it has used until now, and what became of it."""

    def __init__(self, call: Call, attempt: Attempt, input_estimate: int) -> None:
        self.model = call.model
        self.attempt = attempt
        self.outcome = Outcome.RUNNING
        self.billable = True
        self._input_estimate = input_estimate

    @property
    def usage(self) -> Usage:
        """As the provider reported it, else estimated from the bytes that went out and came in."""
        if self.attempt.usage is not None:
            return self.attempt.usage
        if not (self.billable and self.attempt.sent):
            return Usage()
        return Usage(
            input_tokens=self._input_estimate,
            output_tokens=tokens.estimate(sum(len(part.encode()) for part in self.attempt.parts)),
            estimated=True,
        )

    @property
    def charge(self) -> Charge:
        """What the call costs until now."""
        usage = self.usage
        return Charge(
            model=self.model.id,
            tier=self.model.tier,
            usage=usage,
            cost=pricing.cost(usage, self.model.price),
            outcome=self.outcome,
        )


class Bill:
    """What one request has used and cost; `baseline` is what the large model alone would have charged a token."""

    def __init__(self, request: Request, baseline: Price, ledger: Ledger, opened_at: float) -> None:
        self._request = request
        self._baseline = baseline
        self._ledger = ledger
        self._opened_at = opened_at
        self._input_estimate = tokens.estimate_prompt(request.prompt)
        self._lines: list[Line] = []
        self._settled = False

    def open(self, call: Call, attempt: Attempt) -> Line:
        """Add a call. The first one is noted in the ledger before a byte of it can have been sent."""
        if not self._lines:
            self._ledger.opened(self._entry(Status.OPEN, self._worst_case(call), latency_ms=0))
        line = Line(call, attempt, self._input_estimate)
        self._lines.append(line)
        return line

    def statement(self, shown: Usage | None = None, *, answered: bool = True) -> Statement:
        """Return what it has come to; `shown` is the usage of the answer shown, else the latest call's."""
        charges = tuple(line.charge for line in self._lines)
        usage = shown or (charges[-1].usage if charges else Usage())
        cost = sum((charge.cost for charge in charges), pricing.ZERO)
        saved = pricing.cost(usage, self._baseline) - cost if answered else pricing.ZERO
        return Statement(usage=usage, cost=cost, saved=saved, charges=charges)

    def settle(
        self,
        statement: Statement,
        *,
        status: Status,
        source: Source | None,
        cache: CacheOutcome,
        check: str | None,
        code: str | None,
        ttft_ms: float | None,
        latency_ms: float,
    ) -> Entry:
        """Close the bill."""
        assert not self._settled, "a bill is settled once"
        self._settled = True
        entry = self._entry(
            status,
            statement,
            source=source,
            cache=cache,
            check=check,
            code=code,
            ttft_ms=ttft_ms,
            latency_ms=latency_ms,
        )
        self._ledger.settled(entry)
        return entry

    def _worst_case(self, call: Call) -> Statement:
        """Return what the call costs if it runs to its cap: an upper bound, should the process die."""
        usage = Usage(input_tokens=self._input_estimate, output_tokens=call.max_output_tokens, estimated=True)
        charge = Charge(
            model=call.model.id,
            tier=call.model.tier,
            usage=usage,
            cost=pricing.cost(usage, call.model.price),
            outcome=Outcome.RUNNING,
        )
        return Statement(usage=usage, cost=charge.cost, saved=Decimal(0), charges=(charge,))

    def _entry(
        self,
        status: Status,
        statement: Statement,
        *,
        latency_ms: float,
        source: Source | None = None,
        cache: CacheOutcome = CacheOutcome.MISS,
        check: str | None = None,
        code: str | None = None,
        ttft_ms: float | None = None,
    ) -> Entry:
        return Entry(
            request_id=self._request.id,
            tenant=self._request.tenant,
            opened_at=self._opened_at,
            status=status,
            source=source,
            cache=cache,
            strategy=self._request.strategy,
            check=check,
            code=code,
            statement=statement,
            ttft_ms=ttft_ms,
            latency_ms=latency_ms,
        )


def milliseconds(start: float | None, end: float | None) -> float | None:
    """Return the time between two readings of a clock, if both were taken."""
    return None if start is None or end is None else (end - start) * 1000
