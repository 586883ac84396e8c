"""The calls of models for one response: opened, charged, attached to the log, and closed on every path."""

import asyncio
import time
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial

from msgspec import Struct

from millrace import pricing
from millrace.errors import UpstreamError
from millrace.funnel.bill import Payer
from millrace.funnel.catalog import Catalog
from millrace.funnel.checks import Checks
from millrace.funnel.checks.guards import Guards
from millrace.funnel.checks.watch import Watch
from millrace.funnel.failures import over_budget
from millrace.funnel.fallback import chain_of
from millrace.funnel.health import Health
from millrace.funnel.hedging import Hedging
from millrace.funnel.open_charge import OpenCharge
from millrace.funnel.prefixes import Prefixes
from millrace.funnel.response_log import ResponseLog
from millrace.funnel.tries import Tries
from millrace.ports import Attempt
from millrace.types import UNKNOWN_PREFIX, Call, Delivery, Finish, Model, Outcome, Prompt, Request

LONG_PREFIX = 4096  # characters of a system prompt from which on providers cache it: about 1024 tokens


class Turn(Struct, frozen=True, kw_only=True):
    """One more turn of a request's conversation with a model."""

    prompt: Prompt  # the request's, and what was said since
    tokens: int = 0  # that were added to its input, about


class Caller:
    """Calls the configured models, and notes how they fare. `checks` judges what they answer.

    `guards` watch it while it comes. `hedging` decides whether a silent call gets company, `repairs` whether a model
    may correct its answer once.
    """

    def __init__(
        self,
        health: Health,
        checks: Checks,
        catalog: Catalog,
        guards: Guards | None = None,
        hedging: Hedging | None = None,
        *,
        repairs: bool = False,
        prefixes: Prefixes | None = None,
    ) -> None:
        self.health = health
        self.checks = checks
        self._catalog = catalog
        self._guards = guards
        self.hedging = hedging or Hedging(time.monotonic)
        self.repairs = repairs
        self._prefixes = prefixes or Prefixes(time.monotonic)

    def call(
        self, model: Model, response: ResponseLog, payer: Payer, turn: Turn | None = None
    ) -> AbstractContextManager[OpenCharge]:
        """Open a call whose deltas go into the response. Leaving the block closes its socket."""
        return self._opened(model, response, payer, turn, tells=True, attaches=True)

    def unattached(
        self, model: Model, response: ResponseLog, payer: Payer, *, other_than: str = "", tells: bool = False
    ) -> AbstractContextManager[OpenCharge]:
        """Open a call whose deltas stay in its attempt until it is attached. Raises `budget_exceeded`.

        `other_than` is the label of a deployment (`Call.deployment`) that is asked only if there is no other. `tells`:
        it is the only call, so the log is told who stands in.
        """
        return self._opened(model, response, payer, other_than=other_than, tells=tells)

    @contextmanager
    def _opened(
        self,
        model: Model,
        response: ResponseLog,
        payer: Payer,
        turn: Turn | None = None,
        *,
        other_than: str = "",
        tells: bool = False,
        attaches: bool = False,
    ) -> Iterator[OpenCharge]:
        """Open a call. If it fails before its first word, others are made in its place (`tries.py`).

        Leaving the block, also by a cancel or an error, closes the socket at once: `abort` does not wait, so that a
        cancel ends the call within 250 ms (PROTOCOL.md, What always holds, 7). The outcome is set on the same paths,
        because the bill is settled next. A block that accepts or rejects an answer sets the outcome itself, so a call
        that is still RUNNING here was cancelled or has failed.
        """
        request = response.request
        if response.prefix is None:
            response.prefix = self._prefixes.of(request)
        tries = Tries(
            response,
            payer,
            self.health,
            first=plan(model, response, payer, turn),
            models=chain_of(model, request, self._catalog),
            plan=partial(_planned, response, payer, turn),
            key=self._key(model, request),
            other_than=other_than,
            is_bound=any(message.sealed for message in request.prompt.messages),
            tells=tells,
        )
        first_delta = self.hedging.opened(request, model.tier)
        tries.on_begin = first_delta.came
        try:
            charge = tries.start()
            try:
                if attaches:
                    self.attach(response, charge)
                yield charge
            except asyncio.CancelledError:
                charge.outcome = Outcome.CANCELLED
                raise
            finally:
                self._catalog.ratios.learn(tries.call, tries.usage)
                tries.conclude()
                if charge.outcome is Outcome.RUNNING:
                    charge.outcome = Outcome.FAILED
        finally:
            first_delta.left()
            tries.abort()

    def attach(self, response: ResponseLog, charge: OpenCharge) -> None:
        """Have the deltas of a call go into the response, as far as the guards let them pass.

        Under `prefix` text is shown for good once its beginning is committed, so it is held back from the beginning.
        """
        response.attach(charge.attempt)
        if self._guards is not None:
            holds = response.committed or response.request.commits_early
            charge.watch = Watch(self._guards, charge.attempt, holds=holds)

    def may_take_back(self, model: Model, request: Request) -> bool:
        """Whether a model's words stay open until their end, so that somebody else can answer in its place.

        What a hosted tool has done is shown as it comes, once it is final. Guards hold back what is final.
        """
        is_open = self._guards is None and request.delivery in (Delivery.SPECULATE, Delivery.FINAL)
        if not is_open or any(tool.hosted is not None for tool in request.prompt.tools):
            return False
        has_places = len(self.health.pools[model.name].places) > 1
        return has_places or next(chain_of(model, request, self._catalog), None) is not None

    def _key(self, model: Model, request: Request) -> Hashable | None:
        """Return what should stay with its deployment: a session, or a prefix that providers cache."""
        if len(self.health.pools[model.name].places) == 1:
            return None
        if request.session not in ("", request.id):
            return request.tenant, request.session
        beginning = request.prompt.messages[:1]
        texts = tuple(part for message in beginning for part in message.parts if isinstance(part, str))
        return (request.tenant, hash(texts)) if sum(map(len, texts)) >= LONG_PREFIX else None


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


def _planned(response: ResponseLog, payer: Payer, turn: Turn | None, model: Model) -> Call | None:
    output_tokens = payer.affordable(uncut(model, response, turn))
    return plan(model, response, payer, turn) if output_tokens is None or output_tokens >= 1 else None


def affords(model: Model, response: ResponseLog, payer: Payer) -> bool:
    """Whether the budgets buy at least one output token of a model; what is needed for its call is reserved then."""
    call = uncut(model, response)
    output_tokens = payer.affordable(call)
    return (output_tokens is None or output_tokens >= 1) and payer.covers(call)


def uncut(model: Model, response: ResponseLog, turn: Turn | None = None) -> Call:
    """Return a call of a model before the budget caps it."""
    request = response.request
    prompt, added_tokens = (request.prompt, 0) if turn is None else (turn.prompt, turn.tokens)
    counted = request.counted_for(model)
    if added_tokens:
        counted = counted._replace(tokens=counted.tokens + added_tokens)
    room = pricing.room(model, counted.input_tokens)
    prefix = response.prefix or UNKNOWN_PREFIX
    return Call(model=model, prompt=prompt, prefix=prefix, room=room, key_cap=request.key_cap, counted=counted)


def error_of(attempt: Attempt) -> UpstreamError | None:
    """Return why a call has failed; None if it has not."""
    if not attempt.done.done() or attempt.done.cancelled():
        return None
    error = attempt.done.exception()
    return error if isinstance(error, UpstreamError) else None
