"""Small against large, and small against small: the first meaningful delta wins, and the others are closed at once.

`race` starts both models; the large one wins if it answers within `grace_s` after the small one. `hedge` starts the
small one, another call of it if nothing has come within `after_s`, and the large one after that time again. `cascade`
does so where `Hedging` grants it. What a loser has cost is charged. A small winner is judged like in a cascade.
"""

from collections.abc import Sequence
from contextlib import ExitStack

from millrace.errors import UpstreamError
from millrace.funnel.bill import Payer
from millrace.funnel.calls import Caller, plan
from millrace.funnel.cascade import keep, keep_or_escalate
from millrace.funnel.catalog import Catalog
from millrace.funnel.contender import Contender, start, wait_for_text
from millrace.funnel.ending import Result
from millrace.funnel.facts import Routed
from millrace.funnel.failures import failure_of
from millrace.funnel.hedging import may_be_hedged
from millrace.funnel.response_log import ResponseLog


async def race(response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog, *, grace_s: float) -> Result:
    """Start both models; the large one wins if it sends text within `grace_s` after the small one."""
    with ExitStack() as contenders:
        small = start(contenders, catalog.small, response, payer, caller)
        large = start(contenders, catalog.large, response, payer, caller)
        await wait_for_text(small, large)
        if small.has_text() and not large.has_text():
            await wait_for_text(large, timeout_s=grace_s)
        winner, loser = (large, small) if large.has_text() or small.has_failed() else (small, large)
        _decide(response, "race", winner, [loser])
        return await _answer(winner, [loser], response, payer, caller, catalog)


async def cascade(response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog) -> Result:
    """Call the small model, hedged where that is granted; call the large one if it fails, or fails a check."""
    after_s = caller.hedging.wait_s(response.request)
    if after_s is None:
        call = caller.call(catalog.small, response, payer)
        return await keep_or_escalate(response, payer, caller, catalog, call)
    return await hedge(response, payer, caller, catalog, after_s=after_s, asked_for=False)


async def hedge(
    response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog, *, after_s: float, asked_for: bool = True
) -> Result:
    """Call the small model; again if it is silent for `after_s`; and the large one if both are for as long again.

    `asked_for`: the client wants hedges, so that they are not charged to the budget of hedges. Unless it also says
    when, the running p95 TTFT takes the place of `after_s` as soon as it is known.
    """
    request, hedging, small, large = response.request, caller.hedging, catalog.small, catalog.large
    if request.hedge_ms is None:
        after_s = hedging.trigger_s or after_s
    with ExitStack() as contenders:
        first = start(contenders, small, response, payer, caller, is_alone=True)
        is_alone = await first.lead(after_s) or not may_be_hedged(request) or not hedging.grants(asked_for=asked_for)
        if is_alone or not payer.reserve(plan(small, response, payer)):
            return await keep_or_escalate(response, payer, caller, catalog, first.attached())
        running = [first, start(contenders, small, response, payer, caller, other_than=first.deployment)]
        await wait_for_text(*running, timeout_s=after_s)
        is_silent = all(map(_is_silent, running))
        if is_silent and hedging.grants(asked_for=asked_for) and payer.covers(plan(large, response, payer)):
            running.append(start(contenders, large, response, payer, caller))
        await wait_for_text(*running)
        winner = next((one for one in running if one.has_text()), running[-1])
        losers = [one for one in running if one is not winner]
        if winner is not first and winner.has_text():
            hedging.note_won()
        if winner.has_text() or winner.model is large:
            _decide(response, "hedge", winner, losers)
        return await _answer(winner, losers, response, payer, caller, catalog)


def _is_silent(contender: Contender) -> bool:
    return not (contender.has_text() or contender.has_failed())


def _decide(response: ResponseLog, what: str, winner: Contender, losers: Sequence[Contender]) -> None:
    """Close the losers' sockets at once, and note the winner in the log. A loser that was slower has not failed."""
    failed = [(loser.model, error) for loser in losers if (error := loser.error) is not None]
    why = "; ".join(map(_what_became_of, losers))
    for loser in losers:
        loser.lose()
    response.route(
        Routed(
            strategy=response.request.strategy,
            model=winner.answering.id,
            tier=winner.answering.tier,
            reason=f"won the {what}: {why}" if failed else f"won the {what}: the first word; {why}",
            trimmed_tokens=response.request.trimmed_tokens,
            max_output_tokens=winner.capped_by_operator,
            failed=tuple(failure_of(model, error) for model, error in failed),
        )
    )


def _what_became_of(loser: Contender) -> str:
    if loser.error is not None:
        return f"{loser.model.id} failed: {loser.error.cause}"
    return f"{loser.model.id} {'had nothing to say' if loser.has_failed() else 'was closed'}"


async def _answer(
    winner: Contender,
    losers: Sequence[Contender],
    response: ResponseLog,
    payer: Payer,
    caller: Caller,
    catalog: Catalog,
) -> Result:
    """Keep the winner's answer. A large model that has refused is not asked again for a weak small answer."""
    failure = next((loser.error for loser in losers if loser.error and loser.model is not winner.model), None)
    is_small = winner.model is catalog.small
    if is_small and (failure is None or _may_be_repeated(failure)):
        return await keep_or_escalate(response, payer, caller, catalog, winner.attached())
    return await keep(response, caller, winner.attached(), winner.model, other=failure)


def _may_be_repeated(error: UpstreamError) -> bool:
    return error.rule.retry and error.retry_after_ms is None
