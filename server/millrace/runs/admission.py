"""The limits of a request: what it is likely to cost is reserved, and what a budget that runs out makes of it."""

from contextlib import AbstractAsyncContextManager, nullcontext
from decimal import Decimal

from msgspec.structs import replace

from millrace.errors import MillraceError
from millrace.funnel.catalog import Catalog
from millrace.funnel.routing import choice
from millrace.ports import Admission, Admitted, Limiter
from millrace.pricing import ZERO
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


class OnceItPays:
    """The admission of one who pays for nothing yet: within the limits it counts only once it does."""

    limits_cost = False  # before that

    def __init__(self, limiter: Limiter, principal: Principal, user: str, tag: str) -> None:
        self._limiter = limiter
        self._whose = principal, user, tag
        self._admission: Admission | None = None

    @property
    def reserved(self) -> Decimal:
        """Dollars that are reserved so far."""
        return ZERO if self._admission is None else self._admission.reserved

    def reserve_more(self, cost: Decimal, tokens: int) -> Decimal:
        """Reserve up to `cost` dollars; return what there was left."""
        admission = self._admitted()
        return ZERO if admission is None else admission.reserve_more(cost, tokens)

    def settle(self, cost: Decimal, tokens: int) -> None:
        """Count what was used, if anything was."""
        if (admission := self._admitted() if cost or tokens else self._admission) is not None:
            admission.settle(cost, tokens)

    def _admitted(self) -> Admission | None:
        """Return the admission; None while the rates of the key have no room for it."""
        if self._admission is None:
            principal, user, tag = self._whose
            try:
                self._admission = self._limiter.admit(principal, ZERO, 0, user, tag)
            except MillraceError:
                return None
        return self._admission
