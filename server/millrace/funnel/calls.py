"""One upstream call for one response: opened, charged, attached to the log, and closed on every path."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from millrace import pricing
from millrace.errors import MillraceError, UpstreamError
from millrace.funnel.bill import OpenCharge, Payer
from millrace.funnel.checks import Checks
from millrace.funnel.checks.guards import Guards
from millrace.funnel.checks.watch import Watch
from millrace.funnel.health import Health
from millrace.funnel.hedging import Hedging
from millrace.funnel.response_log import ResponseLog
from millrace.ports import Attempt, Upstream
from millrace.types import Call, Finish, Model, Outcome, Prompt, Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One more turn of a request's conversation with a model."""

    prompt: Prompt  # the request's, and what was said since
    tokens: int = 0  # that were added to its input, about


class Caller:
    """Opens calls to the configured models, and notes how they fare. `checks` judges what they answer.

    `guards` watch it while it comes. `hedging` decides whether a silent call gets company, `repairs` whether a model
    may correct its answer once.
    """

    def __init__(
        self,
        upstreams: Mapping[Tier, Upstream],
        checks: Checks,
        health: Health,
        guards: Guards | None = None,
        hedging: Hedging | None = None,
        *,
        repairs: bool = False,
    ) -> None:
        self._upstreams = upstreams
        self.checks = checks
        self.health = health
        self._guards = guards
        self.hedging = hedging or Hedging(time.monotonic)
        self.repairs = repairs

    @contextmanager
    def call(self, model: Model, response: ResponseLog, payer: Payer, turn: Turn | None = None) -> Iterator[OpenCharge]:
        """Open a call whose deltas go into the response. Leaving the block closes its socket."""
        with self.unattached(model, response, payer, turn) as charge:
            self.attach(response, charge)
            yield charge

    @contextmanager
    def unattached(
        self, model: Model, response: ResponseLog, payer: Payer, turn: Turn | None = None
    ) -> Iterator[OpenCharge]:
        """Open a call whose deltas stay in its attempt until it is attached. Raises `budget_exceeded`.

        Leaving the block, also by a cancel or an error, closes the socket at once: `abort` does not wait, so that a
        cancel ends the call within 250 ms (PROTOCOL.md, What always holds, 7). The outcome is set on the same paths,
        because the bill is settled next. A block that accepts or rejects an answer sets the outcome itself, so a call
        that is still RUNNING here was cancelled or has failed.
        """
        call = plan(model, response, payer, turn)
        attempt = self._upstreams[model.tier].open(call)
        first_delta = self.hedging.opened(response.request, model.tier)
        attempt.on_begin = first_delta.came
        try:
            charge = payer.open(call, attempt)
            try:
                yield charge
            except asyncio.CancelledError:
                charge.outcome = Outcome.CANCELLED
                raise
            finally:
                if (error := error_of(attempt)) is not None:
                    charge.billable = error.billable
                elif (finish := _finish(attempt)) is not None:
                    charge.finish_word = finish.word
                if charge.outcome is Outcome.RUNNING:
                    charge.outcome = Outcome.FAILED
                if not response.request.asked_again:  # else it would steer what tenants get
                    self._note(model.tier, attempt, error)
        finally:
            first_delta.left()
            attempt.abort()

    def attach(self, response: ResponseLog, charge: OpenCharge) -> None:
        """Have the deltas of a call go into the response, as far as the guards let them pass.

        Under `prefix` text is shown for good once its beginning is committed, so it is held back from the beginning.
        """
        response.attach(charge.attempt)
        if self._guards is not None:
            holds = response.committed or response.request.commits_early
            charge.watch = Watch(self._guards, charge.attempt, holds=holds)

    def _note(self, tier: Tier, attempt: Attempt, error: UpstreamError | None) -> None:
        """Note how the model fared, unless it was dropped before a word."""
        if attempt.retried_after:
            self.health.failed(tier, attempt.retried_after)
        if error is not None:
            self.health.failed(tier, error.cause, error.retry_after_ms if error.rule.retry else None)
        elif attempt.parts or attempt.asides or (attempt.done.done() and not attempt.done.cancelled()):
            self.health.answered(tier)


async def end_of(charge: OpenCharge) -> Finish:
    """Wait for the end of a call, or for a guard that stops it. Raises `UpstreamError`."""
    watch = charge.watch
    if watch is None:
        return await charge.attempt.done
    await asyncio.wait((charge.attempt.done, watch.stopped), return_when=asyncio.FIRST_COMPLETED)
    return watch.stopped.result() if watch.stopped.done() else watch.end(charge.attempt.done.result())


def plan(model: Model, response: ResponseLog, payer: Payer, turn: Turn | None = None) -> Call:
    """Return the call with its output capped at what the rest of the request's budget buys.

    `turn` is one more turn of its conversation. Raises `budget_exceeded` if that is less than one token.
    """
    call = uncut(model, response, turn)
    output_tokens = payer.affordable(call)
    if output_tokens is None or output_tokens >= call.max_output_tokens:
        return call
    if output_tokens < 1:
        raise over_budget(response, f"what is left of it does not buy one output token of {model.id}")
    return replace(call, cap=output_tokens)


def affords(model: Model, response: ResponseLog, payer: Payer) -> bool:
    """Whether the budget buys at least one output token of a model."""
    output_tokens = payer.affordable(uncut(model, response))
    return output_tokens is None or output_tokens >= 1


def uncut(model: Model, response: ResponseLog, turn: Turn | None = None) -> Call:
    """Return a call of a model before the budget caps it."""
    request = response.request
    turn = turn or Turn(prompt=request.prompt)
    room = pricing.room(model, len(turn.prompt.messages), request.input_tokens + turn.tokens)
    return Call(model=model, prompt=turn.prompt, room=room, added_tokens=turn.tokens)


def over_budget(response: ResponseLog, reason: str) -> MillraceError:
    """Return the error of a request whose budget is too low."""
    path = response.request.paths.max_cost
    message = f"{path}: the budget of {response.request.max_cost:f} dollars is too low: {reason}; raise it"
    return MillraceError("budget_exceeded", message, param=path)


def error_of(attempt: Attempt) -> UpstreamError | None:
    """Return why a call has failed; None if it has not."""
    if not attempt.done.done() or attempt.done.cancelled():
        return None
    error = attempt.done.exception()
    return error if isinstance(error, UpstreamError) else None


def _finish(attempt: Attempt) -> Finish | None:
    done = attempt.done
    return None if not done.done() or done.cancelled() or done.exception() is not None else done.result()
