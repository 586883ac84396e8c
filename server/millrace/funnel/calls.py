"""One upstream call for one response: opened, flowing into the log, on the bill, and closed on every way out."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from millrace.errors import MillraceError, UpstreamError
from millrace.funnel.bill import OpenCharge, Payer
from millrace.funnel.response_log import ResponseLog
from millrace.ports import Attempt, Upstream
from millrace.types import Call, Model, Outcome, Tier

MAX_COST = "millrace.max_cost_usd"  # where a request names its budget


class Caller:
    """Opens calls to the configured models."""

    def __init__(self, upstreams: Mapping[Tier, Upstream]) -> None:
        self._upstreams = upstreams

    @contextmanager
    def call(self, model: Model, response: ResponseLog, payer: Payer) -> Iterator[OpenCharge]:
        """Open a call whose words flow into the response; leaving the block closes its socket if it is still open."""
        with self.undecided(model, response, payer) as charge:
            response.attach(charge.attempt)
            yield charge

    @contextmanager
    def undecided(self, model: Model, response: ResponseLog, payer: Payer) -> Iterator[OpenCharge]:
        """Open a call whose words go nowhere until someone attaches it; `budget_exceeded` where it cannot be paid."""
        call = plan(model, response, payer)
        attempt = self._upstreams[model.tier].open(call)
        try:
            charge = payer.open(call, attempt)
            try:
                yield charge
            except asyncio.CancelledError:
                charge.outcome = Outcome.CANCELLED
                raise
            finally:
                if (error := _failure(attempt)) is not None:
                    charge.billable = error.billable
                if charge.outcome is Outcome.RUNNING:
                    charge.outcome = Outcome.FAILED  # whoever is content says so before leaving
        finally:
            attempt.abort()


def plan(model: Model, response: ResponseLog, payer: Payer) -> Call:
    """Return the call as it may be opened: no dearer, at worst, than what is left of the request's budget.

    Raises `budget_exceeded` where that buys not one token.
    """
    call = Call(model=model, prompt=response.request.prompt)
    bought = payer.affordable(call)
    if bought is None or bought >= call.max_output_tokens:
        return call
    if bought < 1:
        raise over_budget(response, f"what is left of them does not buy one token of {model.id}")
    return replace(call, cap=bought)


def affords(model: Model, response: ResponseLog, payer: Payer) -> bool:
    """Whether a call can be paid."""
    bought = payer.affordable(Call(model=model, prompt=response.request.prompt))
    return bought is None or bought >= 1


def over_budget(response: ResponseLog, what: str) -> MillraceError:
    """Return the error of a request that its own budget stops."""
    message = f"{MAX_COST}: {response.request.max_cost:f} dollars were allowed, and {what}; allow more"
    return MillraceError("budget_exceeded", message, param=MAX_COST)


def _failure(attempt: Attempt) -> UpstreamError | None:
    if not attempt.done.done() or attempt.done.cancelled():
        return None
    error = attempt.done.exception()
    return error if isinstance(error, UpstreamError) else None
