"""Bill (open) -> Entry (settled): one charge per upstream call, settled exactly once on every path."""

from collections.abc import Callable
from decimal import Decimal
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from millrace import levers, pricing
from millrace.funnel.open_charge import OpenCharge
from millrace.ports import Admission, Attempt, Ledger
from millrace.types import (
    NO_STORY,
    CacheOutcome,
    Call,
    Charge,
    Entry,
    Outcome,
    Price,
    Request,
    Shape,
    Source,
    Statement,
    Status,
    Story,
    Usage,
)

NOTHING = Statement(usage=Usage(), cost=Decimal(0), saved=Decimal(0), charges=())
_NOT_SHOWN = (Outcome.LOST, Outcome.REVISED, Outcome.FAILED)


class Share(Struct, frozen=True):
    """What a call has cost that is not open on this bill any more: another bill has taken it over, or it has failed."""

    so_far: Charge


def shown_charge(charges: tuple[Charge, ...]) -> Charge:
    """Return the call whose text is shown. If none is, return the latest; in an undecided race, the first."""
    shown = [charge for charge in charges if charge.outcome not in _NOT_SHOWN]
    return shown[0] if shown else charges[-1]


class Payer(Protocol):
    """Where a new upstream call is charged: a bill, or a flight, which charges the bill of its payer."""

    def affordable(self, call: Call) -> int | None:
        """Return the output tokens that the rest of the budget buys; None if there is no budget."""
        ...

    def reserve(self, call: Call) -> bool:
        """Reserve what a call may cost that was not thought of at first. False: the budget of the key has no more."""
        ...

    def covers(self, call: Call, *, whole: bool = False) -> bool:
        """See that what is reserved pays for a call; reserve what it lacks. False: not for a token of it.

        `whole`: for all that is booked for it at first.
        """
        ...

    def open(self, call: Call, attempt: Attempt) -> OpenCharge:
        """Add a call."""
        ...

    def open_again(self, charge: OpenCharge, call: Call) -> None:
        """Add a call in place of one that has failed. What that one has cost stays."""
        ...


class Bill:
    """What one request has used and cost. `baseline` is the large model's standard price: what is saved is compared."""

    __slots__ = (
        "_admission",
        "_baseline",
        "_charges",
        "_covered",
        "_ledger",
        "_opened_at",
        "_request",
        "_settled",
        "input_tokens",
        "pass_on",
        "trimmed_tokens",
    )

    def __init__(
        self, request: Request, baseline: Price, ledger: Ledger, opened_at: float, admission: Admission | None = None
    ) -> None:
        self.input_tokens = 0  # of the trimmed prompt, as the large model counts; the funnel sets both when it trims
        self.trimmed_tokens = 0  # cut from the prompt
        self._request = request
        self._baseline = baseline
        self._ledger = ledger
        self._admission = admission  # what is reserved for it within its key's limits
        self._opened_at = opened_at
        self._charges: list[OpenCharge | Share] = []
        self._settled = False
        self._covered: int | None = None  # output tokens of the next call, where fewer than are booked at first
        self.pass_on: Callable[[], bool] = _nobody  # has another bill take what runs; False: none can

    @property
    def has_answer(self) -> bool:
        """Whether a call has ended whose answer is kept."""
        charges = (charge for charge in self._charges if isinstance(charge, OpenCharge))
        return any(charge.outcome is Outcome.ANSWERED for charge in charges)

    @property
    def has_paid(self) -> bool:
        """Whether a call was charged to it."""
        return bool(self._charges)

    @property
    def worst_case(self) -> Decimal:
        """Dollars, if all running calls run to their caps."""
        costs = (charge.so_far.cost if isinstance(charge, Share) else charge.worst_case for charge in self._charges)
        return sum(costs, pricing.ZERO)

    def affordable(self, call: Call) -> int | None:
        """Return the output tokens that `max_cost` buys for one more call, if all others run to their caps."""
        if self._request.max_cost is None:
            return None
        return pricing.output_bought(self._request.max_cost - self.worst_case, call, self._input_of(call))

    def reserve(self, call: Call) -> bool:
        """Reserve what a call may cost that was not thought of at first. False: the budget of the key has no more."""
        if self._admission is None:
            return True
        usage = pricing.booking(call, self._input_of(call))
        cost = pricing.cost(usage, call.price)
        return self._admission.reserve_more(cost, usage.input_tokens + usage.output_tokens) >= cost

    @property
    def _left(self) -> Decimal:
        """Dollars that are reserved and that no call needs."""
        assert self._admission is not None, "something is limited"
        needed = (charge.so_far.cost if isinstance(charge, Share) else charge.needed for charge in self._charges)
        return self._admission.reserved - sum(needed, pricing.ZERO)

    def covers(self, call: Call, *, whole: bool = False) -> bool:
        """See that what is reserved pays for a call; reserve what it lacks. False: not for a token of it.

        The reservation was made before the prompt was counted, and before it was known who answers. `whole`: for all
        that is booked for it at first.
        """
        if (admission := self._admission) is None or not admission.limits_cost:
            return True
        usage = pricing.booking(call, self._input_of(call))
        cost, left = pricing.cost(usage, call.price), self._left
        if left < cost:
            share = (cost - max(left, pricing.ZERO)) / cost
            left += admission.reserve_more(cost - left, int(share * (usage.input_tokens + usage.output_tokens)))
        self._covered = None if left >= cost else pricing.output_booked(left, call, usage.input_tokens)
        return self._covered is None or (self._covered > 0 and not whole)

    def open(self, call: Call, attempt: Attempt) -> OpenCharge:
        """Add a call. The row in the ledger is opened before a byte of the first call can have been sent."""
        charge = OpenCharge(call, attempt, self._input_of(call), whole=self._request.asked_again)
        if self._covered is not None:
            charge.book(self._covered)
        self._add(charge)
        return charge

    def open_again(self, charge: OpenCharge, call: Call) -> None:
        """Add a call in place of one that has failed: its charge stays, and the `OpenCharge` is the new call's."""
        self._charges.insert(self._charges.index(charge), Share(charge.so_far))
        charge.begin(call, self._input_of(call))
        if self._covered is not None:
            charge.book(self._covered)
        self._write_open_row()

    def can_take(self, other: "Bill") -> bool:
        """Whether what is reserved for it, and nothing needs yet, pays for the next tokens of another bill's calls."""
        if self._admission is None or not self._admission.limits_cost:
            return True
        usage = Usage(output_tokens=pricing.BOOKED)
        return self._left >= sum((pricing.cost(usage, charge.price) for charge in other._running), pricing.ZERO)

    @property
    def _running(self) -> list[OpenCharge]:
        charges = (charge for charge in self._charges if isinstance(charge, OpenCharge))
        return [charge for charge in charges if charge.outcome is Outcome.RUNNING]

    def hand_over(self, successor: "Bill", outcome: Outcome = Outcome.CANCELLED) -> None:
        """Move running calls to another bill; a `Share` of what they have used so far stays on this one.

        Ended calls stay here whole. The `OpenCharge` itself moves, so the outcome that `Caller` sets at the end of the
        call is set on the successor's bill, and the usage reported then is charged once. `outcome` is that of the
        `Share`: `ANSWERED` if the request stays, and still gets the answer.
        """
        for at, charge in enumerate(self._charges):
            if isinstance(charge, OpenCharge) and charge.outcome is Outcome.RUNNING:
                self._charges[at] = Share(charge.split(outcome))
                successor._add(charge)

    def book_more(self) -> bool:
        """Book more for calls that have outgrown what is booked, in the ledger and of the key's limits.

        Returns False if the budget of the key has no more and a call has used all that is booked for it.
        """
        grown = [charge for charge in self._charges if isinstance(charge, OpenCharge) and charge.outgrows]
        if not grown:
            return True
        has_bought = False
        for charge in grown:
            while charge.outgrows and (bought := self._bought(charge)):
                charge.booked_tokens += bought
                has_bought = True
        if any(charge.outgrows for charge in grown) and self.pass_on():
            self._write_open_row()
            return True
        for charge in grown:
            charge.limit()
        if has_bought:
            self._write_open_row()
        return not any(charge.is_past_its_booking for charge in grown)

    def _bought(self, charge: OpenCharge) -> int:
        """Reserve the next output tokens of a call; return how many the budget had left.

        Where it has no more, they may still be paid by what is reserved for calls that are not made.
        """
        tokens_more, price = min(pricing.BOOKED, charge.call.max_output_tokens - charge.booked_tokens), charge.price
        if self._admission is None:
            return tokens_more
        cost = pricing.cost(Usage(output_tokens=tokens_more), price)
        if self._admission.reserve_more(cost, tokens_more) >= cost:
            return tokens_more
        return min(tokens_more, max(0, int(self._left * pricing.MILLION / price.output)))

    def _input_of(self, call: Call) -> int:
        return call.counted.input_tokens or self.input_tokens

    def _add(self, charge: OpenCharge) -> None:
        self._charges.append(charge)
        self._write_open_row()

    def _open_entry(self) -> Entry:
        """Return the row of what the request costs if the process dies now: what its running calls have booked."""
        charges = tuple(charge.so_far if isinstance(charge, Share) else charge.booked for charge in self._charges)
        cost = sum((charge.cost for charge in charges), pricing.ZERO)
        booked = Statement(usage=shown_charge(charges).usage, cost=cost, saved=pricing.ZERO, charges=charges)
        entry = self._entry(Status.OPEN, booked, latency_ms=0)
        return replace(entry, booked=self.statement().cost) if self._ledger.wants_progress else entry

    def _write_open_row(self) -> None:
        self._ledger.opened(self._open_entry())

    def statement(
        self,
        shown: Usage | None = None,
        *,
        answered: bool = True,
        max_output_tokens: int | None = None,
        service_tier: str | None = None,
    ) -> Statement:
        """Return what was used and spent so far.

        `shown` and `service_tier` are those of the answer; default: of `shown_charge`. `max_output_tokens` is the
        operator's cap, if it held for the answer. `answered`: it is compared with what it would have cost.
        """
        charges = tuple([charge.so_far for charge in self._charges])
        last = shown_charge(charges) if charges else None
        usage = shown or (last.usage if last else Usage())
        cost = charges[0].cost if len(charges) == 1 else sum((charge.cost for charge in charges), pricing.ZERO)
        baseline = pricing.ZERO
        if answered and not self._request.asked_again:
            baseline = levers.compared(usage, self.trimmed_tokens, charges, self._baseline)
        calls = [charge for charge in self._charges if isinstance(charge, OpenCharge)]
        return Statement(
            usage=usage,
            cost=cost,
            saved=baseline - cost,
            charges=charges,
            trimmed_tokens=self.trimmed_tokens,
            max_output_tokens=max_output_tokens,
            notes=tuple([f"{charge.model.id} {note}" for charge in calls for note in charge.notes]),
            service_tier=service_tier if service_tier is not None else last.service_tier if last else "",
        )

    def progress(self) -> Statement:
        """Return what was used and spent so far. It goes into the open row too, if another process counts it."""
        statement = self.statement()
        if self._charges and self._ledger.wants_progress:
            self._ledger.progressed(self._open_entry())
        return statement

    def settle(  # noqa: PLR0913 - the fields of a row
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
        entry_id: str = "",
        stored_id: str = "",
        story: Story = NO_STORY,
        shape: Shape | None = None,
        began_at: float | None = None,
    ) -> Entry:
        """Close the bill: settle its row in the ledger and its admission. Once (PROTOCOL.md, What always holds, 5)."""
        assert not self._settled, "a bill is settled once"
        self._settled = True
        try:
            entry = self._entry(
                status,
                statement,
                source=source,
                cache=cache,
                check=check,
                code=code,
                ttft_ms=ttft_ms,
                latency_ms=latency_ms,
                entry_id=entry_id,
                stored_id=stored_id,
                story=story,
                shape=shape,
                began_at=began_at,
            )
            self._ledger.settled(entry)
        finally:
            self._release(statement)
        return entry

    def close(self) -> None:
        """Release the reservation of a bill that was not settled: its request was refused, or Millrace is at fault."""
        if not self._settled:
            self._settled = True
            self._release(NOTHING)

    def _release(self, statement: Statement) -> None:
        self._charges.clear()  # their calls know this bill: a circle, which would wait for the collector
        self.pass_on = _nobody
        if self._admission is not None:
            used = sum(charge.usage.input_tokens + charge.usage.output_tokens for charge in statement.charges)
            self._admission.settle(statement.cost, used)

    def _entry(  # noqa: PLR0913 - the fields of a row
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
        entry_id: str = "",
        stored_id: str = "",
        story: Story = NO_STORY,
        shape: Shape | None = None,
        began_at: float | None = None,
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
            session=self._request.session,
            entry_id=entry_id,
            stored_id=stored_id,
            story=story,
            shape=shape,
            began_at=began_at,
            user=self._request.user,
            tag=self._request.tag,
            batch=self._request.batch,
            baseline=self._baseline,
            dialect=self._request.paths.dialect,
            trace=self._request.trace,
        )


def _nobody() -> bool:
    """Nobody shares its calls."""
    return False


def milliseconds(start: float | None, end: float | None) -> float | None:
    """Return the milliseconds between two clock readings in seconds; None if one is missing."""
    return None if start is None or end is None else (end - start) * 1000
