"""The limits of a request: what it is likely to cost is reserved, and what a budget that runs out makes of it."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace

from millrace.funnel.catalog import Catalog
from millrace.funnel.routing import choice
from millrace.ports import Admitted, Limiter
from millrace.principal import Principal
from millrace.types import BATCH_TIER, Request, Strategy
from millrace.types.budget import Step


def admitted(
    request: Request, principal: Principal, limiter: Limiter, catalog: Catalog
) -> tuple[Request, Admitted | None]:
    """Return a request as its budgets allow it, with what is reserved for it; None if nothing is limited.

    What was spent must be known (`Limiter.prepare`). Raises `too_many_in_flight`, `rate_limit_exceeded` or
    `budget_exceeded`.
    """
    user, tag = request.user, request.tag
    if not limiter.limits(principal, user, tag):
        return request, None
    likely = _likely(request, principal, limiter, catalog)
    admission = limiter.admit(
        principal,
        likely.cost,
        likely.tokens,
        user,
        tag,
        least_cost=None if request.batch else likely.least,  # a line of a batch waits for more money
        browns_out=not _is_paid(request),
        in_frames=request.in_frames,
    )
    if admission.budget is not None:
        request = replace(request, budget=admission.budget)
    if (rest := admission.rest) is not None:  # no call of it may cost more, so it needs no more from here on
        request = replace(request, max_cost=rest.dollars, rest=rest)
    return request, admission


def drawn(
    request: Request, principal: Principal, limiter: Limiter, catalog: Catalog
) -> AbstractAsyncContextManager[None]:
    """Have what a request is likely to need at hand while it is admitted, of what is shared with other replicas."""
    user, tag = request.user, request.tag
    if not limiter.limits(principal, user, tag):
        return nullcontext()
    likely = _likely(request, principal, limiter, catalog)
    return limiter.drawn(principal, likely.cost, likely.tokens, user, tag)


def _likely(request: Request, principal: Principal, limiter: Limiter, catalog: Catalog) -> choice.Likely:
    step = None if _is_paid(request) else limiter.step(principal, request.user, request.tag)
    return choice.likely(replace(request, strategy=Strategy.SMALL) if step is Step.SMALL else request, catalog)


def _is_paid(request: Request) -> bool:
    """Whether its provider has answered already, in a batch."""
    return request.prompt.service_tier == BATCH_TIER


def behind_visitors(principal: Principal) -> Principal:
    """Return who asks, with half of the rates of the key: the other half is left to visitors. Money is money."""
    limits = principal.limits

    def half(limit: int | None) -> int | None:
        return None if limit is None else max(1, limit // 2)

    halved = replace(
        limits,
        requests_per_minute=half(limits.requests_per_minute),
        tokens_per_minute=half(limits.tokens_per_minute),
        in_flight=half(limits.in_flight),
    )
    return replace(principal, limits=halved)
