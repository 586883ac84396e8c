"""Small, then large: stream the small model's text, run the checks on it, keep it or take it back."""

import asyncio
from contextlib import AbstractContextManager, ExitStack

from msgspec import Struct, field
from msgspec.structs import replace

from millrace.errors import UpstreamError, without_traceback
from millrace.funnel import checks
from millrace.funnel.at_hand import AtHand, in_time
from millrace.funnel.bill import Payer
from millrace.funnel.calls import Caller, Turn, affords, end_of
from millrace.funnel.catalog import Catalog
from millrace.funnel.checks.beginning import Beginning
from millrace.funnel.contender import start
from millrace.funnel.ending import Result
from millrace.funnel.facts import Revised, Routed
from millrace.funnel.failures import after_a_check, failure_of, none_left, over_budget
from millrace.funnel.open_charge import OpenCharge
from millrace.funnel.repair import repair
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
GUARD = "guard"  # the value of `millrace.check` where a guard ended the answer

CallContext = AbstractContextManager[OpenCharge]  # while entered, its deltas go to the log; leaving closes the socket


class _Weak(Struct, frozen=True, kw_only=True):
    """What came of a call to the small model whose answer is not kept."""

    model: Model  # the small one, or one that stands in for it
    reason: str  # the check that it failed, or the code of its error
    verdict: Verdict = field(default_factory=Verdict)
    failure: UpstreamError | None = None
    taken_back: str | None = None  # the text, if it had ended and evidence may see it
    turn: Turn | None = None  # in which the model may correct its answer
    at_hand: AtHand | None = None  # the answer, if it is better than none


async def keep_or_escalate(
    response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog, call: CallContext
) -> Result:
    """Keep the answer of a call to the small model, or take it back and call the large one.

    An answer that failed a check is kept all the same if its text is committed, since committed text is never taken
    back (PROTOCOL.md, What always holds, 9), or if the budget cut it, since then nothing is left to pay the large
    model with. Otherwise the small model may correct it once (`repair.py`). The small model's socket is closed before
    the next call. At the deadline of the request its answer may be given all the same (`at_hand.py`).
    """
    small, large = catalog.models
    answer = await _kept(response, payer, caller, catalog, call)
    if isinstance(answer, _Weak) and answer.turn is not None:
        response.revise(Revised(from_model=answer.model.id, to_model=answer.model.id, reason=answer.reason))
        again = caller.call(answer.model, response, payer, answer.turn)
        answer = await _kept(response, payer, caller, catalog, again, is_again=True)
    if isinstance(answer, Result):
        return answer
    response.revise(Revised(from_model=answer.model.id, to_model=large.id, reason=answer.reason))
    if answer.failure is not None:
        response.route(_in_place_of(small, answer.failure, large, response))
    verdicts = () if answer.failure is not None else _verdicts(answer.model, answer.verdict)
    with ExitStack() as calls:
        call = caller.call(large, response, payer)
        if answer.at_hand is not None:
            contender = start(calls, large, response, payer, caller, is_alone=True)
            if not await in_time(response, contender):
                contender.lose(Outcome.CANCELLED)
                return _given(response, caller, answer.at_hand, large)
            call = contender.attached()
        result = await keep(response, caller, call, large, escalated_by=answer.verdict.check, other=answer.failure)
    return replace(result, taken_back=answer.taken_back, verdicts=(*verdicts, *result.verdicts))


async def _kept(
    response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog, call: CallContext, *, is_again: bool = False
) -> Result | _Weak:
    """Return the small model's answer if it is kept, else what is wrong with it; `is_again`: it is the corrected one.

    Raises the model's error, or `budget_exceeded`, if the large model cannot be called.
    """
    small, large = catalog.models
    try:
        with call as charge:
            finish, verdict = await _small_answer(response, charge, caller)
            if finish is not None and (verdict.passed or response.committed or _cut_by_budget(charge, finish)):
                response.commit()
                return _result(response, charge, finish, verdict, _check_name(response, caller, verdict))
            charge.outcome, reason = Outcome.REVISED, str(verdict.check)
            is_guarded = verdict.check == GUARD  # then nobody may see the text, a judge neither
            if not affords(large, response, payer):  # then the text is kept, although a check failed
                if is_guarded:
                    response.revise(Revised(from_model=charge.model.id, to_model=large.id, reason=reason))
                charge.outcome = Outcome.CANCELLED if finish is None else Outcome.ANSWERED
                failed = f"{charge.model.id} failed the check {reason!r}"
                why = f"{failed}, and what is left of it does not buy a call of {large.id}"
                raise over_budget(response, why)
            turn = None
            if finish is not None and not is_again:
                candidate = _candidate(response, charge, finish)
                turn = await repair(response, charge, candidate, verdict, payer, caller, catalog)
            is_told = finish is not None and not (is_guarded or charge.model.stands_in)
            return _Weak(
                model=charge.model,
                reason=reason,
                verdict=verdict,
                taken_back="".join(charge.attempt.parts) if is_told else None,
                turn=turn,
                at_hand=AtHand.of(response, charge, finish, verdict),
            )
    except UpstreamError as error:
        if response.committed or not affords(large, response, payer):
            raise
        without_traceback(error)  # it stays in a local name, and its frames would wait for the collector
        return _Weak(model=small, reason=error.code, failure=error)


def _given(response: ResponseLog, caller: Caller, at_hand: AtHand, large: Model) -> Result:
    """Give the small answer that is at hand, since the deadline has come."""
    at_hand.give(response, large)
    verdict = at_hand.verdict
    return _result(response, at_hand.charge, at_hand.finish, verdict, _check_name(response, caller, verdict))


async def keep(
    response: ResponseLog,
    caller: Caller,
    call: CallContext,
    model: Model,
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
    if not caller.may_take_back(model, response.request):
        response.commit()  # before it is attached, so that guards hold back what is shown for good
    with call as charge:
        try:
            finish = await end_of(charge)
            response.commit()
        except UpstreamError as error:
            if other is not None:
                is_small = charge.model.tier is Tier.SMALL
                raise (none_left(error, other) if is_small else none_left(other, error)) from None
            if escalated_by is not None:
                raise after_a_check(escalated_by, error) from None
            raise
        if not (judged or finish.guard):
            return _result(response, charge, finish, Verdict(), None)
        verdict = await _judge(response, charge, caller, finish)
        check = GUARD if finish.guard else escalated_by or _check_name(response, caller, verdict)
        return _result(response, charge, finish, verdict, check)


def _in_place_of(small: Model, failure: UpstreamError, large: Model, response: ResponseLog) -> Routed:
    """Return the fact that the large model is asked because the small one has failed."""
    request = response.request
    return Routed(
        strategy=request.strategy,
        model=large.id,
        tier=large.tier,
        reason=f"{small.id} failed: {failure.cause}",
        trimmed_tokens=request.trimmed_tokens,
        max_output_tokens=Call(model=large, prompt=request.prompt, key_cap=request.key_cap).capped_by_operator,
        failed=(failure_of(small, failure),),
    )


async def _small_answer(response: ResponseLog, charge: OpenCharge, caller: Caller) -> tuple[Finish | None, Verdict]:
    """Wait for the small model's answer and judge it. `Finish` is None if its beginning already failed a check."""
    attempt, request, failed = charge.attempt, response.request, asyncio.get_running_loop().create_future()
    if not request.prompt.tools:  # else no call is shown before it is judged, and text before it says nothing about it
        beginning = Beginning(caller.checks, request, lambda: _candidate(response, charge, None))

        def look() -> bool:
            try:
                verdict = beginning.verdict(attempt.parts)
            except Exception as error:  # the reader of the attempt must not get it
                failed.set_exception(error)
                return True
            if verdict is None:
                return False
            if not verdict.passed:
                failed.set_result(verdict)
            elif request.commits_early:
                response.commit()
            return True

        if not (attempt.parts and look()):
            response.after_each_read(look)
    stopped = () if charge.watch is None else (charge.watch.stopped,)
    await asyncio.wait((attempt.done, failed, *stopped), return_when=asyncio.FIRST_COMPLETED)
    if failed.done() and not attempt.done.done():
        return None, failed.result()
    finish = await end_of(charge)
    return finish, await _judge(response, charge, caller, finish)


def _candidate(response: ResponseLog, charge: OpenCharge, finish: Finish | None) -> checks.Candidate:
    return checks.Candidate.of(response.request, "".join(charge.attempt.parts), charge.attempt.asides, finish)


async def _judge(response: ResponseLog, charge: OpenCharge, caller: Caller, finish: Finish) -> Verdict:
    if finish.guard:
        return Verdict(check=GUARD, reason=f"it holds what the guard {finish.guard!r} forbids")
    candidate, tier = _candidate(response, charge, finish), charge.model.tier
    verdict = await caller.checks.judge(candidate, caller.checks.selected(response.request), tier)
    response.judged = (*response.judged, (tier, verdict))
    return verdict


def _check_name(response: ResponseLog, caller: Caller, verdict: Verdict) -> str | None:
    """Return what `millrace.check` says: nothing where no check was wanted."""
    return verdict.check or (PASSED if caller.checks.selected(response.request) else None)


def _cut_by_budget(charge: OpenCharge, finish: Finish) -> bool:
    return finish.reason is FinishReason.LENGTH and (charge.call.cap is not None or charge.is_limited)


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
        capped_by_operator=None if charge.is_limited else charge.call.capped_by_operator,
        service_tier=charge.attempt.service_tier,
        check=check,
        verdicts=() if check is None else _verdicts(charge.model, verdict),
        answer=answer if verdict.passed and is_plain_text and _is_whole(finish) else None,
    )


def _verdicts(model: Model, verdict: Verdict) -> tuple[tuple[Tier, Verdict], ...]:
    """Return what is learned of the small or the large model. One that stands in says nothing of them."""
    return () if model.stands_in else ((model.tier, verdict),)


def _is_whole(finish: Finish) -> bool:
    """Whether an answer is stored with this end. A stored one has no stop sequence, and nobody can go on with it."""
    return finish.reason is FinishReason.STOP and (finish.stop is None or finish.stop.reason == END_TURN)


def _is_more_than_text(aside: Aside) -> bool:
    """Whether an answer with it is not stored. What a hosted tool has found may be outdated later."""
    return isinstance(aside, Refusal | CallPiece) or (isinstance(aside, Sealed) and not aside.is_thought)
