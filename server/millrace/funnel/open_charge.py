"""One upstream call on an open bill: what it has used so far, what is booked for it, and what it costs."""

from decimal import Decimal

from msgspec.structs import replace

from millrace import pricing, tokens
from millrace.funnel.checks.watch import Watch
from millrace.ports import Attempt
from millrace.types import Call, Charge, FinishReason, Model, Outcome, Price, Usage
from millrace.types.answer import NO_USAGE


class OpenCharge:
    """One upstream call on an open bill: what it has used so far, and its outcome.

    If it fails and another call is made in its place, it becomes that one (`Payer.open_again`).
    """

    __slots__ = (
        "_charged_before",
        "_counted",
        "_counted_at",
        "_input_tokens",
        "_is_whole",
        "_max_output_tokens",
        "_measured",
        "_seen_asides",
        "_seen_parts",
        "attempt",
        "began_at",
        "billable",
        "booked_tokens",
        "call",
        "ended_at",
        "finish_word",
        "is_limited",
        "outcome",
        "spoke_at",
        "watch",
    )

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
        self._charged_before = NO_USAGE  # to earlier payers of this call
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
        return self._price_of(self.attempt.service_tier)

    def _price_of(self, service_tier: str) -> Price:
        price = self.model.price_of(service_tier)
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
        if (reported := self.attempt.input_usage) is None:
            return Usage(input_tokens=self._input_tokens, output_tokens=output_tokens, estimated=True)
        return replace(reported, output_tokens=output_tokens, reasoning_tokens=0, estimated=True)

    @property
    def so_far(self) -> Charge:
        """What the call costs its present payer so far."""
        return self._charge(self.usage.minus(self._charged_before), self.outcome)

    def split(self, outcome: Outcome = Outcome.CANCELLED) -> Charge:
        """Return the charge of a payer that pays no more: what was used so far. The next payer is charged the rest.

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
        return self._charge(replace(usage, estimated=True), outcome)

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
    def needed(self) -> Decimal:
        """Dollars that must be reserved for it: for all that is booked while it runs, then for what it has used."""
        if self.outcome is not Outcome.RUNNING:
            return self.so_far.cost
        reported = self.attempt.usage or self.attempt.input_usage
        usage = pricing.booking(self.call, self._input_tokens, self.booked_tokens)
        if reported is not None:
            usage = replace(reported, output_tokens=self.booked_tokens)
        return pricing.cost(usage.minus(self._charged_before), self.price)

    def book(self, output_tokens: int) -> None:
        """Book no more than so many tokens at first: what is reserved does not buy as many as most answers have."""
        self.booked_tokens = min(self.booked_tokens, output_tokens)

    @property
    def outgrows(self) -> bool:
        """Whether the call has used so much of its booking that more must be booked. Asked at a sweep."""
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
        model, service_tier = self.model, self.attempt.service_tier
        price = self._price_of(service_tier)
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
