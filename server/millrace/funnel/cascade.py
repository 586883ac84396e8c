"""Small, then large: stream the small model's text, run the checks on it, keep it or take it back."""

import asyncio
from contextlib import AbstractContextManager
from dataclasses import replace

from millrace.errors import UpstreamError, without_traceback
from millrace.funnel import checks
from millrace.funnel.bill import OpenCharge, Payer
from millrace.funnel.calls import Caller, affords, over_budget
from millrace.funnel.catalog import Catalog
from millrace.funnel.ending import Result
from millrace.funnel.facts import Revised, Routed
from millrace.funnel.failures import after_a_check, failure_of, none_left
from millrace.funnel.response_log import ResponseLog
from millrace.types import (
    PASSED,
    Answer,
    Aside,
    Call,
    CallPiece,
    Finish,
    FinishReason,
    Model,
    Outcome,
    Refusal,
    Sealed,
    Source,
    Tier,
    Verdict,
    reasoning_of,
    refusal_of,
)

END_TURN = "end_turn"  # the word of the Messages API for an answer that is whole
PREFIX_DELTAS = 40  # text deltas after which the beginning of an answer is judged

CallContext = AbstractContextManager[OpenCharge]  # while entered, its deltas go to the log; leaving closes the socket


async def cascade(response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog) -> Result:
    """Call the small model; call the large one if the small one fails, or fails a check before it is committed."""
    return await keep_or_escalate(response, payer, caller, catalog, caller.call(catalog.small, response, payer))


async def keep_or_escalate(
    response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog, call: CallContext
) -> Result:
    """Keep the answer of a call to the small model, or take it back and call the large one.

    An answer that failed a check is kept all the same if its text is committed, since committed text is never taken
    back (PROTOCOL.md, What always holds, 9), or if the budget cut it, since then nothing is left to pay the large
    model with. The small model's socket is closed before the large model is called.
    """
    small, large = catalog.models
    failure: UpstreamError | None = None
    taken_back: str | None = None
    verdicts: tuple[tuple[Tier, Verdict], ...] = ()
    try:
        with call as charge:
            finish, verdict = await _small_answer(response, charge, caller)
            if finish is not None and (verdict.passed or response.committed or _cut_by_budget(charge, finish)):
                response.commit()
                return _result(response, charge, finish, verdict, _check_name(response, verdict))
            charge.outcome, reason = Outcome.REVISED, str(verdict.check)
            verdicts = ((Tier.SMALL, verdict),)
            taken_back = None if finish is None else "".join(charge.attempt.parts)
            if not affords(large, response, payer):  # then the text is kept, although a check failed
                charge.outcome = Outcome.CANCELLED if finish is None else Outcome.ANSWERED
                why = (
                    f"{small.id} failed the check {reason!r}, and what is left of it does not buy a call of {large.id}"
                )
                raise over_budget(response, why)
    except UpstreamError as error:
        if response.committed or not affords(large, response, payer):
            raise
        without_traceback(error)  # it stays in a local name, and its frames would wait for the collector
        failure, reason, verdict = error, error.code, Verdict()
    response.revise(Revised(from_model=small.id, to_model=large.id, reason=reason))
    if failure is not None:
        response.route(_in_place_of(small, failure, large, response))
    call = caller.call(large, response, payer)
    result = await keep(response, caller, call, escalated_by=verdict.check, other=failure)
    return replace(result, taken_back=taken_back, verdicts=(*verdicts, *result.verdicts))


async def keep(
    response: ResponseLog,
    caller: Caller,
    call: CallContext,
    *,
    judged: bool = True,
    escalated_by: str | None = None,
    other: UpstreamError | None = None,
) -> Result:
    """Keep the answer of a call, whatever the checks say: no other model is left, so all its text is committed.

    Where a client can take words back, or is shown none, that is at the end: if a deployment breaks off, another one
    can answer in its place (`tries.py`).

    `escalated_by` is the check that the small model's answer failed, `other` why the other model has failed. An error
    says so too.
    """
    with call as charge:
        if not caller.may_take_back(charge.call.model, response.request):
            response.commit()
        try:
            finish = await charge.attempt.done
            response.commit()
        except UpstreamError as error:
            if other is not None:
                is_small = charge.model.tier is Tier.SMALL
                raise (none_left(error, other) if is_small else none_left(other, error)) from None
            if escalated_by is not None:
                raise after_a_check(escalated_by, error) from None
            raise
        if not judged:
            return _result(response, charge, finish, Verdict(), None)
        verdict = await _judge(response, charge, caller, finish)
        return _result(response, charge, finish, verdict, escalated_by or _check_name(response, verdict))


def _in_place_of(small: Model, failure: UpstreamError, large: Model, response: ResponseLog) -> Routed:
    """Return the fact that the large model is asked because the small one has failed."""
    request = response.request
    return Routed(
        strategy=request.strategy,
        model=large.id,
        tier=large.tier,
        reason=f"{small.id} failed: {failure.cause}",
        trimmed_tokens=request.trimmed_tokens,
        max_output_tokens=Call(model=large, prompt=request.prompt).capped_by_operator,
        failed=(failure_of(small, failure),),
    )


async def _small_answer(response: ResponseLog, charge: OpenCharge, caller: Caller) -> tuple[Finish | None, Verdict]:
    """Wait for the small model's answer and judge it. `Finish` is None if its beginning already failed a check."""
    attempt, request = charge.attempt, response.request
    if request.prompt.tools:  # text before a call says nothing about the call, and no call is shown before it is judged
        finish = await attempt.done
        return finish, await _judge(response, charge, caller, finish)
    beginning = response.after_deltas(PREFIX_DELTAS - len(attempt.parts))
    await asyncio.wait((attempt.done, beginning), return_when=asyncio.FIRST_COMPLETED)
    if not attempt.done.done():
        verdict = checks.judge_beginning(_candidate(response, charge, None), checks.selected(request))
        if not verdict.passed:
            return None, verdict
        if request.commits_early:
            response.commit()
    finish = await attempt.done
    return finish, await _judge(response, charge, caller, finish)


def _candidate(response: ResponseLog, charge: OpenCharge, finish: Finish | None) -> checks.Candidate:
    return checks.Candidate.of(response.request, "".join(charge.attempt.parts), charge.attempt.asides, finish)


async def _judge(response: ResponseLog, charge: OpenCharge, caller: Caller, finish: Finish) -> Verdict:
    candidate = _candidate(response, charge, finish)
    return await checks.judge(candidate, caller.schemas, checks.selected(response.request))


def _check_name(response: ResponseLog, verdict: Verdict) -> str | None:
    """Return what `millrace.check` says: nothing where no check was wanted."""
    return verdict.check or (PASSED if checks.selected(response.request) else None)


def _cut_by_budget(charge: OpenCharge, finish: Finish) -> bool:
    return finish.reason is FinishReason.LENGTH and charge.call.cap is not None


def _result(response: ResponseLog, charge: OpenCharge, finish: Finish, verdict: Verdict, check: str | None) -> Result:
    charge.outcome = Outcome.ANSWERED
    usage, text, asides = charge.usage, "".join(charge.attempt.parts), charge.attempt.asides
    cut = _cut_by_budget(charge, finish)
    has_text = bool(text.strip())
    if cut and not (has_text or refusal_of(asides)):
        raise over_budget(response, f"{charge.model.id} was cut off before it wrote any text")
    is_plain_text = has_text and not finish.refused and not any(map(_is_more_than_text, asides))
    answer = Answer(text=text, model=charge.model, usage=usage, check=check, reasoning=reasoning_of(asides))
    return Result(
        source=Source(charge.model.tier.value),
        model=charge.model.id,
        usage=usage,
        finish=finish.reason,
        stop=finish.stop,
        cut="budget_exceeded" if cut else None,
        capped_by_operator=charge.call.capped_by_operator,
        service_tier=charge.attempt.service_tier,
        check=check,
        verdicts=() if check is None else ((charge.model.tier, verdict),),
        answer=answer if verdict.passed and is_plain_text and _is_whole(finish) else None,
    )


def _is_whole(finish: Finish) -> bool:
    """Whether an answer is stored with this end. A stored one has no stop sequence, and nobody can go on with it."""
    return finish.reason is FinishReason.STOP and (finish.stop is None or finish.stop.reason == END_TURN)


def _is_more_than_text(aside: Aside) -> bool:
    """Whether an answer with it is not stored. What a hosted tool has found may be outdated later."""
    return isinstance(aside, Refusal | CallPiece) or (isinstance(aside, Sealed) and not aside.is_thought)
