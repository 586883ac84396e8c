"""What is told of a response beside its text, to clients that understand it: route, budget, usage so far."""

from msgspec import UNSET

from millrace.dialects.metadata import shown_session
from millrace.funnel.facts import Routed
from millrace.types import Request, Statement
from millrace.types.budget import Budget, Step
from millrace.wire import responses as wire

_WHAT_FOLLOWS = {
    Step.WARN: "requests are answered as before",
    Step.SMALL: "only the small model is asked from here on",
    Step.CACHE: "only the caches answer from here on",
}


def route(request: Request, fact: Routed) -> wire.Route:
    """Return which model or cache answers, and why."""
    return wire.Route(
        response_id=request.id,
        strategy=fact.strategy,
        model=fact.model,
        tier=fact.tier,
        reason=fact.explanation,
        cache=fact.cache,
        trimmed_tokens=fact.trimmed_tokens or UNSET,
        max_output_tokens=fact.max_output_tokens or UNSET,
        score=fact.score,
        similarity=UNSET if fact.similarity is None else fact.similarity,
        entry_id=UNSET if fact.entry_id is None else fact.entry_id,
        age_s=UNSET if fact.age_s is None else fact.age_s,
        unchecked=[*request.unchecked] or UNSET,
        session=shown_session(request) or UNSET,
        failed=[wire.ModelFailure(each.model, each.code, each.message) for each in fact.failed] or UNSET,
        budget=UNSET if request.budget is None else _budget_of(request.budget),
    )


def notice(request: Request) -> wire.Notice | None:
    """Return that a budget has reached a step, if that is news."""
    budget = request.budget
    if budget is None or not budget.is_news:
        return None
    message = f"{budget.said}: {_WHAT_FOLLOWS[budget.step]}"
    return wire.Notice(response_id=request.id, code="budget", message=message, budget=_budget_of(budget))


def usage(request: Request, statement: Statement) -> wire.UsageSoFar:
    """Return what a response has used and cost so far."""
    return wire.UsageSoFar(
        response_id=request.id,
        tokens=wire.tokens(statement.usage),
        cost_usd=float(statement.cost),
        saved_usd=float(statement.saved),
        attempts=tuple([wire.attempt(charge) for charge in statement.charges]),
    )


def _budget_of(budget: Budget) -> wire.BudgetSoFar:
    return wire.BudgetSoFar(
        step=budget.step,
        account=budget.account.kind,
        period=budget.period,
        left_usd=float(budget.left),
        limit_usd=float(budget.limit),
        resets_at=int(budget.resets_at),
    )
