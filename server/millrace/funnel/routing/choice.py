"""The router's choice for one request: its strategy, the model that is called first, and why."""

import dataclasses
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from millrace import pricing, tokens
from millrace.errors import UpstreamError
from millrace.funnel.catalog import Catalog
from millrace.funnel.facts import Routed
from millrace.funnel.failures import failure_of
from millrace.funnel.routing.pins import bound_to
from millrace.funnel.routing.router import Router
from millrace.types import (
    Advice,
    Call,
    Counted,
    Failure,
    Message,
    Model,
    Part,
    Prompt,
    Request,
    SemanticMiss,
    Strategy,
    Tier,
    Usage,
)


class Policy(Struct, frozen=True, kw_only=True):
    """The configured defaults of options that a request may set."""

    context_budget: int | None  # tokens
    grace_ms: int
    hedge_ms: int
    concise_line: str

    def prompt_for(self, request: Request) -> Prompt:
        """Return the prompt to be sent; with `concise` the last system message ends with `concise_line`."""
        prompt = request.prompt
        if not request.concise:
            return prompt
        messages = [*prompt.messages]
        last = max((at for at, message in enumerate(messages) if message.role == "system"), default=None)
        if last is None:
            messages.insert(0, Message(role="system", parts=(self.concise_line,)))
        else:
            messages[last] = replace(messages[last], parts=_with_line(messages[last].parts, self.concise_line))
        return dataclasses.replace(prompt, messages=tuple(messages))


class Choice(Struct, frozen=True, kw_only=True):
    """How a request is answered. `strategy` is never `auto`."""

    strategy: Strategy
    first: Model  # called first
    reason: str
    grace_s: float
    hedge_s: float
    passed_over: UpstreamError | None = None  # why the small model is not called, although it would be
    failed: tuple[Failure, ...] = ()  # the same, as clients are told it
    advice: Advice | None = None  # of the router, where it was asked

    @property
    def is_kept_cheap(self) -> bool:
        """Whether only hard checks may take the small answer back, since there is no money for more."""
        return self.strategy is Strategy.CASCADE and self.advice is not None and not self.advice.escalates

    def routed(self, request: Request, miss: SemanticMiss | None) -> Routed:
        """Return the choice as a fact of the log; `miss` says why the semantic cache did not answer."""
        return Routed(
            strategy=request.strategy,
            model=self.first.id,
            tier=self.first.tier,
            reason=self.reason,
            missed=miss.reason if miss else "",
            trimmed_tokens=request.trimmed_tokens,
            max_output_tokens=Call(model=self.first, prompt=request.prompt, key_cap=request.key_cap).capped_by_operator,
            similarity=miss.similarity if miss else None,
            score=self.advice.score if self.advice else None,
            shown=self.advice.shown if self.advice else "",
            failed=self.failed,
        )


def choose(
    request: Request, catalog: Catalog, policy: Policy, router: Router, wait: UpstreamError | None = None
) -> Choice:
    """Return the requested strategy. Under `auto` the router says whom to ask first, if the prompt fits both models.

    The two models never run in parallel if tools may be called, nor if there is a budget: each call must fit what the
    one before has left of it.

    A request that is bound to one model (`pins.py`) goes to that one alone, unless it is too long for it.

    `wait` is why the small model cannot be asked now, nor any that stands in for it. It is passed over then, unless it
    alone is wanted or the budget may not buy a large answer.
    """
    strategy, reason = request.strategy, "its budget runs out" if request.budget_is_low else "asked for"
    advice: Advice | None = None
    bound = None if strategy in (Strategy.SMALL, Strategy.LARGE) else bound_to(request.prompt, catalog)
    if bound is not None and (bound[0] is catalog.large or catalog.fits_small(request)):
        model, reason = bound
        strategy = Strategy.LARGE if model is catalog.large else Strategy.SMALL
    elif strategy is Strategy.AUTO:
        if catalog.fits_small(request):
            advice = router.advise(request)
            strategy = Strategy.CASCADE if advice.tier is Tier.SMALL else Strategy.LARGE
            reason = advice.reason
        else:
            strategy, reason = (
                Strategy.LARGE,
                f"{request.counted_for(catalog.small).input_tokens} tokens do not fit {catalog.small.id}",
            )
    elif strategy in (Strategy.RACE, Strategy.HEDGE) and (request.prompt.tools or request.max_cost is not None):
        reason = f"no {strategy} with {'tools' if request.prompt.tools else 'max_cost_usd'}; small first"
        strategy = Strategy.CASCADE
    elif strategy is Strategy.RACE:
        reason = f"asked for: {catalog.small.id} against {catalog.large.id}"
    passed_over = None
    if wait is not None and request.max_cost is None and strategy not in (Strategy.SMALL, Strategy.LARGE):
        passed_over, strategy, reason = wait, Strategy.LARGE, f"{catalog.small.id} failed: {wait.cause}"
    return Choice(
        strategy=strategy,
        first=catalog.large if strategy is Strategy.LARGE else catalog.small,
        reason=reason,
        grace_s=(policy.grace_ms if request.grace_ms is None else request.grace_ms) / 1000,
        hedge_s=(policy.hedge_ms if request.hedge_ms is None else request.hedge_ms) / 1000,
        passed_over=passed_over,
        failed=() if passed_over is None else (failure_of(catalog.small, passed_over),),
        advice=advice,
    )


class Likely(Struct, frozen=True, kw_only=True):
    """What is reserved for a request before it runs."""

    cost: Decimal  # dollars
    tokens: int  # input and output, of all calls
    least: Decimal  # dollars, for the first call to say one token


def estimated(prompt: Prompt, context: tuple[str, ...] = ()) -> int:
    """Return the input tokens of a prompt, about: by its bytes, at once."""
    texts = [*context, *(part for message in prompt.messages for part in message.texts)]
    beyond_ascii = sum(tokens.bytes_of(text) - len(text) for text in texts if not text.isascii())
    size = prompt.size + sum(map(len, context)) + beyond_ascii
    return tokens.estimate(size) + tokens.MESSAGE * len(prompt.messages) + tokens.REPLY


def likely(request: Request, catalog: Catalog) -> Likely:
    """Return what is reserved for a request: one booking of each model that it may call. Input tokens are estimated.

    Of the models that may stand in for one another, the dearest is booked.
    An answer that outgrows its booking books more while it runs. The cost is at most the request's `max_cost`.
    """
    models = {Strategy.SMALL: (catalog.small,), Strategy.LARGE: (catalog.large,)}.get(request.strategy, catalog.models)
    prompt = request.prompt
    input_tokens = estimated(prompt, request.context)
    cost, used = pricing.ZERO, 0
    first = Counted(input_tokens, catalog.ratios.of(models[0]))
    one_token = Usage(input_tokens=first.input_tokens, output_tokens=1)
    least = pricing.cost(one_token, Call(model=models[0], prompt=prompt).dearest)
    for model in models:
        calls = [
            Call(
                model=one,
                prompt=prompt,
                key_cap=request.key_cap,
                counted=Counted(input_tokens, catalog.ratios.of(one)),
            )
            for one in (model, *catalog.chain(model.tier))
        ]
        usages = [pricing.booking(call, call.counted.input_tokens) for call in calls]
        cost += max(pricing.cost(usage, call.price) for call, usage in zip(calls, usages, strict=True))
        used += max(usage.input_tokens + usage.output_tokens for usage in usages)
    return Likely(cost=cost if request.max_cost is None else min(cost, request.max_cost), tokens=used, least=least)


def _with_line(parts: tuple[Part, ...], line: str) -> tuple[Part, ...]:
    """Append a line to the last text part, since many servers take a system prompt only as one text."""
    *before, last = parts or ("",)
    return (*before, f"{last}\n\n{line}" if last else line) if isinstance(last, str) else (*parts, line)
