"""Small, then large: stream the small model's words, judge them, keep them or take them back."""

import asyncio
from contextlib import AbstractContextManager

from millrace import checks
from millrace.attempts import Caller
from millrace.catalog import Catalog
from millrace.ending import Landed
from millrace.errors import UpstreamError
from millrace.ledger import Line, Tab
from millrace.response import Response, Revised
from millrace.types import Answer, Delivery, Finish, FinishReason, Outcome, Source, Verdict

PREFIX_DELTAS = 40  # deltas with text after which a beginning is judged


Calling = AbstractContextManager[Line]  # entered: the call's words flow; left: its socket is closed


async def cascade(response: Response, tab: Tab, caller: Caller, catalog: Catalog) -> Landed:
    """Ask the small model; ask the large one where the small one fails or is judged weak before its words stand."""
    return await keep_or_escalate(response, tab, caller, catalog, caller.call(catalog.small, response, tab))


async def keep_or_escalate(response: Response, tab: Tab, caller: Caller, catalog: Catalog, calling: Calling) -> Landed:
    """Keep the words of a call to the small model, or take them back and ask the large one."""
    small, large = catalog.models
    try:
        with calling as line:
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
    response.commit()  # there is no other model left to ask
    return await straight(response, caller.call(large, response, tab), escalated_by=verdict.check)


async def straight(
    response: Response, calling: Calling, *, judged: bool = True, escalated_by: str | None = None
) -> Landed:
    """Take one model's words as they come; the response is committed."""
    with calling as line:
        finish = await line.attempt.done
        if not judged:
            return _land(line, finish, Verdict(), None)
        verdict = _judge(response, line, finish)
        return _land(line, finish, verdict, escalated_by or verdict.check or "passed")


async def _small_answer(response: Response, line: Line) -> tuple[Finish | None, Verdict]:
    """Wait for the small answer, and judge its beginning on the way; no finish means that the beginning was weak."""
    attempt, request = line.attempt, response.request
    beginning = response.reached(PREFIX_DELTAS - len(attempt.parts))
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
