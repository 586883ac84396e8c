"""Bill (open) -> Entry (settled): one line per upstream call, settled exactly once on every way out."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

from millrace import pricing, tokens
from millrace.ports import Admission, Attempt, Ledger
from millrace.types import (
    CacheOutcome,
    Call,
    Charge,
    Entry,
    Model,
    Outcome,
    Price,
    Request,
    Source,
    Statement,
    Status,
    Usage,
)

NOTHING = Statement(usage=Usage(), cost=Decimal(0), saved=Decimal(0), charges=())
_OUT_OF_VIEW = (Outcome.LOST, Outcome.REVISED, Outcome.FAILED)


class OpenCharge:
    """One upstream call on an open bill: what it has used until now, and what became of it."""

    def __init__(self, call: Call, attempt: Attempt, input_tokens: int) -> None:
        self.call = call
        self.attempt = attempt
        self.outcome = Outcome.RUNNING
        self.billable = True
        self._input_tokens = input_tokens
        self._charged_before = Usage()  # to those who paid before

    @property
    def model(self) -> Model:
        """The model that was called."""
        return self.call.model

    @property
    def usage(self) -> Usage:
        """All the call has used: as the provider reported it, else counted here."""
        if self.attempt.usage is not None:
            return self.attempt.usage
        if not (self.billable and self.attempt.sent):
            return Usage()
        said = min(self._output_tokens, self.call.max_output_tokens)  # no provider bills more than it was allowed
        return Usage(input_tokens=self._input_tokens, output_tokens=said, estimated=True)

    @property
    def so_far(self) -> Charge:
        """What the call costs until now whoever pays now."""
        return self._charge(self.usage.less(self._charged_before), self.outcome)

    def split(self) -> Charge:
        """Charge what has been used until now to the one who leaves; the rest goes to whoever pays from here on."""
        usage = self.usage  # and no more than the provider may yet report, or the heir could not pay the rest
        usage = replace(usage, output_tokens=min(usage.output_tokens, self._count())).less(self._charged_before)
        self._charged_before = Usage(
            input_tokens=self._charged_before.input_tokens + usage.input_tokens,
            output_tokens=self._charged_before.output_tokens + usage.output_tokens,
        )
        return self._charge(replace(usage, estimated=True), Outcome.CANCELLED)

    @property
    def worst_case(self) -> Statement:
        """What the call may yet come to: at its cap while it runs, should the process die, and then what it has."""
        charge = self.so_far
        if self.outcome is Outcome.RUNNING:
            charge = self._charge(pricing.worst_case(self.call, self._input_tokens), self.outcome)
        return Statement(usage=charge.usage, cost=charge.cost, saved=pricing.ZERO, charges=(charge,))

    @property
    def _output_tokens(self) -> int:
        if self.outcome is Outcome.RUNNING:
            return tokens.running_output(self.attempt.parts, self.attempt.asides)
        return self._count()

    def _count(self) -> int:
        return tokens.count_output(self.attempt.parts, self.attempt.asides)

    def _charge(self, usage: Usage, outcome: Outcome) -> Charge:
        model = self.model
        cost = pricing.cost(usage, model.price)
        return Charge(model=model.id, tier=model.tier, usage=usage, cost=cost, outcome=outcome)


@dataclass(frozen=True, slots=True)
class Share:
    """What one who has left owes for a call that someone else pays on."""

    so_far: Charge


def showing(charges: tuple[Charge, ...]) -> Charge:
    """Return the call whose words are shown, or would be next: of a race that is undecided, the one named first."""
    in_view = [charge for charge in charges if charge.outcome not in _OUT_OF_VIEW]
    return in_view[0] if in_view else charges[-1]


class Payer(Protocol):
    """Where a new upstream call is put down: a bill, or the bill of whoever pays for a shared one."""

    def affordable(self, call: Call) -> int | None:
        """Return the output tokens that the rest of a budget buys; None where there is no budget."""
        ...

    def open(self, call: Call, attempt: Attempt) -> OpenCharge:
        """Add a call."""
        ...


class Bill:
    """What one request has used and cost; `baseline` is what the large model alone would have charged a token."""

    def __init__(
        self, request: Request, baseline: Price, ledger: Ledger, opened_at: float, admission: Admission | None = None
    ) -> None:
        self.input_tokens = 0  # of the prompt as it is sent, and
        self.trimmed_tokens = 0  # cut from it; both known once it has been trimmed
        self._request = request
        self._baseline = baseline
        self._ledger = ledger
        self._admission = admission  # what is reserved for it of its key's limits
        self._opened_at = opened_at
        self._charges: list[OpenCharge | Share] = []
        self._settled = False

    @property
    def worst_case(self) -> Decimal:
        """Dollars, if all calls that run run to their caps."""
        costs = (
            charge.so_far.cost if isinstance(charge, Share) else charge.worst_case.cost for charge in self._charges
        )
        return sum(costs, pricing.ZERO)

    def affordable(self, call: Call) -> int | None:
        """Return the output tokens that `max_cost` leaves for one more call, when all others have run to their caps."""
        if self._request.max_cost is None:
            return None
        return pricing.output_bought(self._request.max_cost - self.worst_case, call, self.input_tokens)

    def open(self, call: Call, attempt: Attempt) -> OpenCharge:
        """Add a call. The first one is noted in the ledger before a byte of it can have been sent."""
        charge = OpenCharge(call, attempt, self.input_tokens)
        self._adopt(charge)
        return charge

    def hand_over(self, heir: "Bill") -> None:
        """Keep what running calls have used until now, and let the heir pay on."""
        for at, charge in enumerate(self._charges):
            if isinstance(charge, OpenCharge) and charge.outcome is Outcome.RUNNING:
                self._charges[at] = Share(charge.split())
                heir._adopt(charge)

    def _adopt(self, charge: OpenCharge) -> None:
        if not self._charges:
            self._ledger.opened(self._entry(Status.OPEN, charge.worst_case, latency_ms=0))
        self._charges.append(charge)

    def statement(self, shown: Usage | None = None, *, answered: bool = True) -> Statement:
        """Return what it has come to; `shown` is the usage of the answer shown, else the latest call's."""
        charges = tuple(charge.so_far for charge in self._charges)
        usage = shown or (showing(charges).usage if charges else Usage())
        cost = sum((charge.cost for charge in charges), pricing.ZERO)
        untrimmed = replace(usage, input_tokens=usage.input_tokens + self.trimmed_tokens)
        saved = pricing.cost(untrimmed, self._baseline) - cost if answered else pricing.ZERO
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
        """Close the bill, once: its row in the ledger, and what was reserved of its key's limits."""
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
        try:
            self._ledger.settled(entry)
        finally:
            self._release(statement)
        return entry

    def void(self) -> None:
        """Give back what was reserved for a request that never became a response."""
        self._settled = True
        self._release(NOTHING)

    def _release(self, statement: Statement) -> None:
        if self._admission is not None:
            used = sum(charge.usage.input_tokens + charge.usage.output_tokens for charge in statement.charges)
            self._admission.settle(statement.cost, used)

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
            trimmed_tokens=self.trimmed_tokens,
            key_id=self._request.key_id,
        )


def milliseconds(start: float | None, end: float | None) -> float | None:
    """Return the time between two readings of a clock, if both were taken."""
    return None if start is None or end is None else (end - start) * 1000
