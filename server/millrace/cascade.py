"""Small, then large: stream the small model's words, judge them, keep them or take them back."""

import asyncio

from millrace import checks
from millrace.attempts import Caller
from millrace.catalog import Catalog
from millrace.ending import Landed
from millrace.errors import UpstreamError
from millrace.ledger import Bill, Line
from millrace.response import Response, Revised
from millrace.types import Answer, Delivery, Finish, FinishReason, Model, Outcome, Source, Verdict

PREFIX_DELTAS = 40  # deltas with text after which a beginning is judged


async def cascade(response: Response, bill: Bill, caller: Caller, catalog: Catalog) -> Landed:
    """Ask the small model; ask the large one where the small one fails or is judged weak before its words stand."""
    small, large = catalog.models
    try:
        with caller.call(small, response, bill) as line:
            finish, verdict = await _small_answer(response, line)
            if finish is not None and (verdict.passed or response.committed):
                response.commit()
                return _land(line, finish, verdict, verdict.check or "passed")
            line.outcome = Outcome.REVISED
            reason = str(verdict.check)
    except UpstreamError as error:
        if response.committed:
            raise
        reason, verdict = error.code, Verdict()
    response.revise(Revised(from_model=small.id, to_model=large.id, reason=reason))
    return await straight(response, bill, caller, large, escalated_by=verdict.check)


async def straight(
    response: Response,
    bill: Bill,
    caller: Caller,
    model: Model,
    *,
    judged: bool = True,
    escalated_by: str | None = None,
) -> Landed:
    """Ask one model whose words stand as they come, for there is no other left to ask."""
    response.commit()
    with caller.call(model, response, bill) as line:
        finish = await line.attempt.done
        if not judged:
            return _land(line, finish, Verdict(), None)
        verdict = _judge(response, line, finish)
        return _land(line, finish, verdict, escalated_by or verdict.check or "passed")


async def _small_answer(response: Response, line: Line) -> tuple[Finish | None, Verdict]:
    """Wait for the small answer, and judge its beginning on the way; no finish means that the beginning was weak."""
    attempt, request = line.attempt, response.request
    beginning = response.reached(PREFIX_DELTAS)
    await asyncio.wait((attempt.done, beginning), return_when=asyncio.FIRST_COMPLETED)
    if not attempt.done.done():
        verdict = checks.judge_beginning("".join(attempt.parts), request.prompt.format)
        if not verdict.passed:
            return None, verdict
        if request.delivery is Delivery.PREFIX:
            response.commit()
    finish = await attempt.done
    return finish, _judge(response, line, finish)


def _judge(response: Response, line: Line, finish: Finish) -> Verdict:
    text = "".join(line.attempt.parts)
    return checks.judge(checks.Candidate(text=text, finish=finish, format=response.request.prompt.format))


def _land(line: Line, finish: Finish, verdict: Verdict, check: str | None) -> Landed:
    line.outcome = Outcome.ANSWERED
    usage, text = line.usage, "".join(line.attempt.parts)
    worth_storing = verdict.passed and finish.reason is FinishReason.STOP and not finish.refused and bool(text)
    return Landed(
        source=Source(line.model.tier.value),
        model=line.model.id,
        usage=usage,
        finish=finish.reason,
        check=check,
        answer=Answer(text=text, model=line.model, usage=usage, check=check) if worth_storing else None,
    )
