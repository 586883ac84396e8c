"""Asks a question once more, for evidence: at the operator's cost, and never for more than a day may cost.

What the answer may cost at most is reserved before a model is called, and booked in the ledger. So neither the answers
that run together nor a process that dies can pass the limit.
"""

import asyncio
import dataclasses
import math
from collections.abc import Sequence
from decimal import Decimal

from msgspec.structs import replace

from millrace import pricing
from millrace.errors import MillraceError, UpstreamError
from millrace.funnel.funnels import Funnels
from millrace.funnel.response_log import ResponseLog
from millrace.ports import Admission, Clock, Limiter
from millrace.principal import Limits, Principal, Role
from millrace.runs.ids import response_id
from millrace.types import (
    EVIDENCE_TENANT,
    CacheMode,
    Call,
    Delivery,
    Model,
    Request,
    Strategy,
    Usage,
)
from millrace.types.request import MERGE_TOKENS

AT_ONCE = 4  # answers, for samples and for the model that judges together
ASK_S = 120.0  # that an answer may take
REST_S = 60.0  # for which nothing is asked after a model has failed; tenants are not told of it
OVERHEAD = 16  # tokens that providers add to a message or a tool, at most
OUTPUT = (4096, 1024, 256)  # tokens of an answer, the most that the money buys; a longer one is cut: it does not count
_IN_TURN = {Strategy.RACE: Strategy.CASCADE, Strategy.HEDGE: Strategy.CASCADE}  # two calls at once cost more


class Asking:
    """Has requests answered once more, within the dollars of a UTC day. It is `ports.AskAgain`."""

    def __init__(self, funnel: Funnels, limiter: Limiter, clock: Clock, dollars_per_day: Decimal) -> None:
        self._funnel = funnel
        self._limiter = limiter
        self._clock = clock
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._rests_until = -math.inf  # by the clock
        self.limit(dollars_per_day)

    def limit(self, dollars_per_day: Decimal) -> None:
        """Spend at most so much a day from now on."""
        self._principal = Principal(
            key_id=EVIDENCE_TENANT,
            tenant=EVIDENCE_TENANT,
            role=Role.USE,
            limits=Limits(dollars_per_day=dollars_per_day),
        )

    async def __call__(self, request: Request, strategy: Strategy | None = None) -> str | None:
        """Return the text of a new answer from a model, by another strategy if one is given.

        None if there is no money for it, if a model rests, or if the answer is not whole. A cancel is passed on, once
        what the answer has cost is settled.
        """
        async with self._turns:
            return await self._asked(request, strategy)

    async def _asked(self, request: Request, strategy: Strategy | None) -> str | None:
        asked = _again(request, strategy)
        models = self._models(asked.strategy)
        is_resting = self._clock() < self._rests_until
        if is_resting or any(self._funnel.health.wait(model.tier) is not None for model in models):
            return None
        try:
            await self._limiter.prepare(self._principal)
        except MillraceError:  # what was spent is not known
            return None
        for output_tokens in OUTPUT:
            bounded = _bounded(asked, models, output_tokens)
            cost = bounded.max_cost or pricing.ZERO
            try:
                async with self._limiter.drawn(self._principal, cost, 0):
                    admission = self._limiter.admit(self._principal, cost, 0)
            except MillraceError:  # so much is not left
                continue
            try:
                return await self._answer(bounded, admission)
            finally:
                admission.settle(pricing.ZERO, 0)  # the funnel has done it, unless it is at fault
        return None

    async def _answer(self, asked: Request, admission: Admission) -> str | None:
        response = ResponseLog(asked, self._clock)
        try:
            async with asyncio.timeout(ASK_S):
                answer = await self._funnel.answer(response, admission)
        except TimeoutError:
            return None
        ended = response.ended
        if ended is not None and (ended.failed or isinstance(ended.error, UpstreamError)):
            self._rests_until = self._clock() + REST_S
        is_same = not response.request.trimmed_tokens  # else another question was answered
        return answer.text if answer is not None and is_same else None

    def _models(self, strategy: Strategy) -> tuple[Model, ...]:
        """Return the models that may be called."""
        catalog = self._funnel.catalog
        return {Strategy.SMALL: (catalog.small,), Strategy.LARGE: (catalog.large,)}.get(strategy, catalog.models)


def _again(request: Request, strategy: Strategy | None) -> Request:
    """Return a request that asks the same of the models, and has nothing else in common with it."""
    prompt, strategy = request.prompt, strategy or request.strategy
    return Request(
        id=response_id(),
        tenant=EVIDENCE_TENANT,
        key_id=EVIDENCE_TENANT,
        model=request.model,
        strategy=_IN_TURN.get(strategy, strategy),
        delivery=Delivery.FINAL,
        cache=CacheMode.OFF,
        prompt=dataclasses.replace(prompt, messages=prompt.sent, context=""),  # it has been trimmed
        metadata={},
        context_budget=request.context_budget,
        evidence=False,
        asked_again=True,
        checks=request.checks,
        check_schema=request.check_schema,
        check_pattern=request.check_pattern,
        paths=request.paths,
        unchecked=request.unchecked,
    )


def _bounded(asked: Request, models: Sequence[Model], output_tokens: int) -> Request:
    """Return the request with a cap on its output, and the most that it may cost then."""
    prompt = asked.prompt
    output_tokens = min(output_tokens, prompt.max_output_tokens or output_tokens)
    capped = dataclasses.replace(prompt, max_output_tokens=output_tokens)
    # No provider counts more tokens than a text has bytes.
    input_tokens = prompt.whole_size * (1 if all(message.text.isascii() for message in prompt.messages) else 4)
    input_tokens += OVERHEAD * (len(prompt.messages) + len(prompt.tools) + 1)
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens + MERGE_TOKENS)
    costs = (pricing.cost(usage, Call(model=model, prompt=capped).dearest) for model in models)
    return replace(asked, prompt=capped, max_cost=sum(costs, pricing.ZERO))
