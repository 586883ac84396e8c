"""Bill (open) -> Entry (settled): one charge per upstream call, settled exactly once on every path."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

from millrace import levers, pricing, tokens
from millrace.funnel.checks.watch import Watch
from millrace.ports import Admission, Attempt, Ledger
from millrace.types import (
    NO_STORY,
    CacheOutcome,
    Call,
    Charge,
    Entry,
    FinishReason,
    Model,
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


class OpenCharge:
    """One upstream call on an open bill: what it has used so far, and its outcome.

    If it fails and another call is made in its place, it becomes that one (`Payer.open_again`).
    """

    def __init__(self, call: Call, attempt: Attempt, input_tokens: int, *, whole: bool = False) -> None:
        """`whole`: all that it may cost is booked at once, so nothing is booked later."""
        self.attempt = attempt
        self.watch: Watch | None = None  # the guards at work on it, if any are on
        self._is_whole = whole
        self.begin(call, input_tokens)

    def begin(self, call: Call, input_tokens: int) -> None:
        """Become a call that has used nothing yet."""
        self.call = call
        self._input_tokens = input_tokens
        self.outcome = Outcome.RUNNING
        self.billable = True
        self.is_limited = False  # the budget of its key has no more than what is booked
        self.finish_word = ""  # the provider's own for the end, if it is not known
        self._max_output_tokens = most = call.max_output_tokens
        self.booked_tokens = most if self._is_whole else pricing.booked_output(call)  # of output
        self._charged_before = NOTHING.usage  # to earlier payers of this call
        self._seen_parts = self._seen_asides = self._measured = 0
        self._counted_at, self._counted = (-1, -1), 0  # parts and asides that were counted, and their tokens
        self.began_at: float | None = None  # by the clock of the response, as the other two
        self.spoke_at: float | None = None  # its first word
        self.ended_at: float | None = None

    def run_on(self) -> None:
        """Count as running again, after all: no other call is made in place of it."""
        self.outcome, self.billable = Outcome.RUNNING, True

    @property
    def model(self) -> Model:
        """The model that was called."""
        return self.call.model

    @property
    def price(self) -> Price:
        """The price that the call is charged at: of its service tier, if that has one, and of its length.

        The model is that of the beginning, and so is its price, whatever is configured since.
        """
        price = self.model.price_of(self.attempt.service_tier)
        if not price.steps:
            return price
        reported = self.attempt.usage or self.attempt.input_usage
        return price.at(self._input_tokens if reported is None else reported.input_tokens)

    @property
    def notes(self) -> tuple[str, ...]:
        """How the call differs from what was asked, and what the provider said that is not known."""
        notes, tier = self.attempt.notes, self.attempt.service_tier
        if self.model.price_at(tier) is None:
            notes = (*notes, f"has no price for service_tier {tier!r}: charged as default")
        return (*notes, f"ended with finish_reason {self.finish_word!r}") if self.finish_word else notes

    @property
    def usage(self) -> Usage:
        """What the call has used so far: as the provider reported it, else as counted here.

        A call that is closed early has reported its input, if at all.
        """
        if (usage := self.attempt.usage) is not None:
            return usage
        if not (self.billable and self.attempt.sent):
            return Usage()
        output_tokens = self._output_tokens
        if output_tokens > self.call.max_output_tokens:
            most = self.call.most_output_tokens if self._is_cut else self.call.max_output_tokens
            output_tokens = min(output_tokens, most)
        reported = self.attempt.input_usage or Usage(input_tokens=self._input_tokens)
        return replace(reported, output_tokens=output_tokens, reasoning_tokens=0, estimated=True)

    @property
    def so_far(self) -> Charge:
        """What the call costs its present payer so far."""
        return self._charge(self.usage.minus(self._charged_before), self.outcome)

    def split(self) -> Charge:
        """Return the charge of a payer that leaves: what was used so far. The next payer is charged the rest.

        All shares together must equal the usage of the call (PROTOCOL.md, What always holds, 5). The running estimate
        counts one token a delta and may exceed what the provider reports at the end. So a share is capped at the exact
        count. If it were higher than the final usage, the rest would be clamped to 0 and the sum would be too high. So
        it is, by a few tokens, where the provider counts less than Millrace.
        """
        usage = self.usage
        usage = replace(usage, output_tokens=min(usage.output_tokens, self._exact_output())).minus(self._charged_before)
        self._charged_before = Usage(
            input_tokens=self._charged_before.input_tokens + usage.input_tokens,
            output_tokens=self._charged_before.output_tokens + usage.output_tokens,
        )
        return self._charge(replace(usage, estimated=True), Outcome.CANCELLED)

    @property
    def worst_case(self) -> Decimal:
        """The most dollars that the call may cost: up to its cap while it runs, then what it has used."""
        if self.outcome is not Outcome.RUNNING:
            return self.so_far.cost
        return pricing.cost(pricing.worst_case(self.call, self._input_tokens), self.call.dearest)

    @property
    def booked(self) -> Charge:
        """What is booked for the call while it runs, in case the process dies; then what it has used."""
        if self.outcome is not Outcome.RUNNING:
            return self.so_far
        usage = Usage(input_tokens=self._input_tokens, output_tokens=self.booked_tokens, estimated=True)
        return self._charge(usage.minus(self._charged_before), self.outcome)

    @property
    def outgrows(self) -> bool:
        """Whether the call has used so much of its booking that more must be booked. Asked ten times a second."""
        if self.outcome is not Outcome.RUNNING or self.booked_tokens >= self._max_output_tokens:
            return False
        return self._measure() > self.booked_tokens - pricing.BOOKED // 2

    @property
    def is_past_its_booking(self) -> bool:
        """Whether the call has used all that is booked."""
        return self._measured >= self.booked_tokens

    def limit(self) -> None:
        """Have it cut where its booking ends, from when on no more could be booked; that may grow after all."""
        if self.is_limited or self.outgrows:
            self.is_limited = self.booked_tokens < self._max_output_tokens
            self.attempt.limit(self.booked_tokens if self.is_limited else self.call.most_output_tokens)

    def _measure(self) -> int:
        """Return about how many tokens of output have come; only what came since the last look is looked at."""
        if parts := self.attempt.parts[self._seen_parts :]:
            self._seen_parts += len(parts)
            self._measured += max(len(parts), sum(map(len, parts)) // tokens.SPARSE)
        if asides := self.attempt.asides[self._seen_asides :]:
            self._seen_asides += len(asides)
            self._measured += max(len(asides), tokens.running_output((), asides))
        return self._measured

    @property
    def _is_cut(self) -> bool:
        """Whether the answer ended at its cap. It may have passed it by a merge window, and what is shown is booked."""
        done = self.attempt.done
        has_finish = done.done() and not done.cancelled() and done.exception() is None
        return has_finish and done.result().reason is FinishReason.LENGTH

    @property
    def _output_tokens(self) -> int:
        if self.outcome is Outcome.RUNNING:
            return tokens.running_output(self.attempt.parts, self.attempt.asides)
        return self._exact_output()

    def _exact_output(self) -> int:
        """Return the output tokens as the model counts them: exact, or about, in the encoding of another one."""
        parts, asides = self.attempt.parts, self.attempt.asides
        at = len(parts), len(asides)
        if at != self._counted_at:  # a bill is looked at once a second, and this takes up to a millisecond
            # Not by the ratio of reported to counted input: that holds what providers add to messages.
            self._counted_at, self._counted = at, tokens.count_output(parts, asides, by=self.model.encoding.name)
        return self._counted

    def _charge(self, usage: Usage, outcome: Outcome) -> Charge:
        model, service_tier, price = self.model, self.attempt.service_tier, self.price
        return Charge(
            model=model.id,
            tier=model.tier,
            usage=usage,
            cost=pricing.cost(usage, price),
            outcome=outcome,
            price=price,
            standard=None if price is model.price else model.price,
            service_tier=service_tier,
            finish_word=self.finish_word,
            deployment=self.call.deployment,
            span_id=self.call.span_id,
            began_at=self.began_at,
            spoke_at=self.spoke_at,
            ended_at=self.ended_at,
        )


@dataclass(frozen=True, slots=True)
class Share:
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

    def open(self, call: Call, attempt: Attempt) -> OpenCharge:
        """Add a call."""
        ...

    def open_again(self, charge: OpenCharge, call: Call) -> None:
        """Add a call in place of one that has failed. What that one has cost stays."""
        ...


class Bill:
    """What one request has used and cost. `baseline` is the large model's standard price: what is saved is compared."""

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

    @property
    def has_answer(self) -> bool:
        """Whether a call has ended whose answer is kept."""
        charges = (charge for charge in self._charges if isinstance(charge, OpenCharge))
        return any(charge.outcome is Outcome.ANSWERED for charge in charges)

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
        cost = pricing.cost(usage, call.dearest)
        return self._admission.reserve_more(cost, usage.input_tokens + usage.output_tokens) >= cost

    def open(self, call: Call, attempt: Attempt) -> OpenCharge:
        """Add a call. The row in the ledger is opened before a byte of the first call can have been sent."""
        charge = OpenCharge(call, attempt, self._input_of(call), whole=self._request.asked_again)
        self._add(charge)
        return charge

    def open_again(self, charge: OpenCharge, call: Call) -> None:
        """Add a call in place of one that has failed: its charge stays, and the `OpenCharge` is the new call's."""
        self._charges.insert(self._charges.index(charge), Share(charge.so_far))
        charge.begin(call, self._input_of(call))
        self._write_open_row()

    def hand_over(self, successor: "Bill") -> None:
        """Move running calls to another bill; a `Share` of what they have used so far stays on this one.

        Ended calls stay here whole. The `OpenCharge` itself moves, so the outcome that `Caller` sets at the end of the
        call is set on the successor's bill, and the usage reported then is charged once.
        """
        for at, charge in enumerate(self._charges):
            if isinstance(charge, OpenCharge) and charge.outcome is Outcome.RUNNING:
                self._charges[at] = Share(charge.split())
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
            charge.limit()
        if has_bought:
            self._write_open_row()
        return not any(charge.is_past_its_booking for charge in grown)

    def _bought(self, charge: OpenCharge) -> int:
        """Reserve the next output tokens of a call; return how many the budget had left."""
        tokens_more = min(pricing.BOOKED, charge.call.max_output_tokens - charge.booked_tokens)
        if self._admission is None:
            return tokens_more
        cost = pricing.cost(Usage(output_tokens=tokens_more), charge.price)
        granted = self._admission.reserve_more(cost, tokens_more)
        return tokens_more if granted >= cost else int(granted * pricing.MILLION / charge.price.output)

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
        charges = tuple(charge.so_far for charge in self._charges)
        last = shown_charge(charges) if charges else None
        usage = shown or (last.usage if last else Usage())
        cost = sum((charge.cost for charge in charges), pricing.ZERO)
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
            notes=tuple(f"{charge.model.id} {note}" for charge in calls for note in charge.notes),
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


def milliseconds(start: float | None, end: float | None) -> float | None:
    """Return the milliseconds between two clock readings in seconds; None if one is missing."""
    return None if start is None or end is None else (end - start) * 1000
