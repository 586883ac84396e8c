"""The router's choice for one request: how it is led, who is asked first, and why."""

from dataclasses import dataclass

from millrace import log, routing
from millrace.catalog import Catalog
from millrace.response import Routed
from millrace.types import Model, Request, SemanticMiss, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The operator's choices, where a request makes none."""

    context_budget: int | None  # tokens
    hard_above: int  # tokens
    grace_ms: int
    hedge_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How a request is led: never `auto`."""

    strategy: Strategy
    first: Model  # who is asked first
    reason: str
    score: float | None = None  # from 0, surely easy, to 1, surely hard
    grace_s: float
    hedge_s: float

    def routed(self, request: Request, near: SemanticMiss | None) -> Routed:
        """Return the choice as a fact of the log; `near` is why no cache has answered."""
        return Routed(
            strategy=request.strategy,
            model=self.first.id,
            tier=self.first.tier,
            reason=f"{self.reason}; cache: {near.reason}" if near else self.reason,
            score=self.score,
            similarity=near.similarity if near else None,
        )


def choose(request: Request, catalog: Catalog, policy: Policy) -> Choice:
    """Take the strategy asked for; under `auto` judge the trimmed prompt."""
    strategy, score, reason = request.strategy, None, "asked for"
    if strategy is Strategy.AUTO:
        strategy, score, reason = _judge(request, catalog, policy)
    elif strategy is Strategy.RACE:
        reason = f"asked for: {catalog.small.id} against {catalog.large.id}"
    return Choice(
        strategy=strategy,
        first=catalog.large if strategy is Strategy.LARGE else catalog.small,
        reason=reason,
        score=score,
        grace_s=(policy.grace_ms if request.grace_ms is None else request.grace_ms) / 1000,
        hedge_s=(policy.hedge_ms if request.hedge_ms is None else request.hedge_ms) / 1000,
    )


def _judge(request: Request, catalog: Catalog, policy: Policy) -> tuple[Strategy, float | None, str]:
    hard_above = min(policy.hard_above, catalog.room(Strategy.CASCADE))
    try:
        judgement = routing.judge(request.input_tokens, hard_above)
    except Exception as error:  # a router that is broken must not cost an answer
        log.get().error("router failed", id=request.id, exc_info=error)
        return Strategy.LARGE, None, "the router failed"
    return judgement.strategy, judgement.score, judgement.reason
