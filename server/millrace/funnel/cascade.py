"""Small, then large: stream the small model's words, judge them, keep them or take them back."""

import asyncio
from contextlib import AbstractContextManager

from millrace.errors import UpstreamError
from millrace.funnel import checks
from millrace.funnel.bill import OpenCharge, Payer
from millrace.funnel.calls import Caller, affords, over_budget
from millrace.funnel.catalog import Catalog
from millrace.funnel.ending import Result
from millrace.funnel.response_log import ResponseLog, Revised
from millrace.types import (
    PASSED,
    Answer,
    CallPiece,
    Finish,
    FinishReason,
    Outcome,
    Refusal,
    Source,
    Verdict,
    reasoning_of,
    refusal_of,
)

PREFIX_DELTAS = 40  # deltas with text after which a beginning is judged


Calling = AbstractContextManager[OpenCharge]  # entered: the call's words flow; left: its socket is closed


async def cascade(response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog) -> Result:
    """Ask the small model; ask the large one where the small one fails or is judged weak before its words stand."""
    return await keep_or_escalate(response, payer, caller, catalog, caller.call(catalog.small, response, payer))


async def keep_or_escalate(
    response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog, calling: Calling
) -> Result:
    """Keep the words of a call to the small model, or take them back and ask the large one."""
    small, large = catalog.models
    try:
        with calling as charge:
            finish, verdict = await _small_answer(response, charge)
            if finish is not None and (verdict.passed or response.committed or _cut_by_budget(charge, finish)):
                response.commit()
                return _result(response, charge, finish, verdict, _check_name(response, verdict))
            charge.outcome, reason = Outcome.REVISED, str(verdict.check)
            if not affords(large, response, payer):  # then the words stand, weak as they are
                charge.outcome = Outcome.CANCELLED if finish is None else Outcome.ANSWERED
                message = f"{small.id} failed the check {reason!r}, and what is left of them does not buy {large.id}"
                raise over_budget(response, message)
    except UpstreamError as error:
        if response.committed or not affords(large, response, payer):
            raise
        reason, verdict = error.code, Verdict()
    response.revise(Revised(from_model=small.id, to_model=large.id, reason=reason))
    return await straight(response, caller.call(large, response, payer), escalated_by=verdict.check)


async def straight(
    response: ResponseLog, calling: Calling, *, judged: bool = True, escalated_by: str | None = None
) -> Result:
    """Take one model's words as they come: no other model is left to ask, so every word stands."""
    response.commit()
    with calling as charge:
        finish = await charge.attempt.done
        if not judged:
            return _result(response, charge, finish, Verdict(), None)
        verdict = _judge(response, charge, finish)
        return _result(response, charge, finish, verdict, escalated_by or _check_name(response, verdict))


async def _small_answer(response: ResponseLog, charge: OpenCharge) -> tuple[Finish | None, Verdict]:
    """Wait for the small answer, and judge its beginning on the way; no finish means that the beginning was weak."""
    attempt, request = charge.attempt, response.request
    if request.prompt.tools:  # the words before a call say nothing of it, and no call may be shown before it is judged
        finish = await attempt.done
        return finish, _judge(response, charge, finish)
    beginning = response.reached(PREFIX_DELTAS - len(attempt.parts))
    await asyncio.wait((attempt.done, beginning), return_when=asyncio.FIRST_COMPLETED)
    if not attempt.done.done():
        verdict = checks.judge_beginning(_candidate(response, charge, None), checks.asked(request))
        if not verdict.passed:
            return None, verdict
        if request.commits_early:
            response.commit()
    finish = await attempt.done
    return finish, _judge(response, charge, finish)


def _candidate(response: ResponseLog, charge: OpenCharge, finish: Finish | None) -> checks.Candidate:
    return checks.Candidate.of(response.request, "".join(charge.attempt.parts), charge.attempt.asides, finish)


def _judge(response: ResponseLog, charge: OpenCharge, finish: Finish) -> Verdict:
    return checks.judge(_candidate(response, charge, finish), checks.asked(response.request))


def _check_name(response: ResponseLog, verdict: Verdict) -> str | None:
    """Return what `millrace.check` says: nothing where no check was wanted."""
    return verdict.check or (PASSED if checks.asked(response.request) else None)


def _cut_by_budget(charge: OpenCharge, finish: Finish) -> bool:
    return finish.reason is FinishReason.LENGTH and charge.call.cap is not None


def _result(response: ResponseLog, charge: OpenCharge, finish: Finish, verdict: Verdict, check: str | None) -> Result:
    charge.outcome = Outcome.ANSWERED
    usage, text, asides = charge.usage, "".join(charge.attempt.parts), charge.attempt.asides
    cut = _cut_by_budget(charge, finish)
    said = bool(text.strip())
    if cut and not (said or refusal_of(asides)):
        raise over_budget(response, f"{charge.model.id} has said nothing for them")
    spoken = said and not finish.refused and not any(isinstance(aside, Refusal | CallPiece) for aside in asides)
    answer = Answer(text=text, model=charge.model, usage=usage, check=check, reasoning=reasoning_of(asides))
    return Result(
        source=Source(charge.model.tier.value),
        model=charge.model.id,
        usage=usage,
        finish=finish.reason,
        cut="budget_exceeded" if cut else None,
        check=check,
        answer=answer if verdict.passed and finish.reason is FinishReason.STOP and spoken else None,
    )
