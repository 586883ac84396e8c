"""How a request ends: the result of the stage that answered it, its `Ended` fact, and its settlement, once."""

from msgspec import Struct
from msgspec.structs import replace

from millrace import log
from millrace.errors import EXITS, MillraceError, UpstreamError, without_traceback
from millrace.funnel.bill import NOTHING, Bill, milliseconds, shown_charge
from millrace.funnel.facts import Ended, Routed
from millrace.funnel.response_log import ResponseLog
from millrace.funnel.shape import shape_of
from millrace.types import (
    PASSED,
    Answer,
    CacheOutcome,
    Delivery,
    FinishReason,
    Judgement,
    Near,
    Request,
    Scores,
    SemanticHit,
    SemanticMiss,
    Source,
    Status,
    Stop,
    StoredAnswer,
    Story,
    Tier,
    Usage,
    Verdict,
)

_HALTED = {  # error code -> reason of an incomplete answer, of which a part was seen
    "deadline_exceeded": "deadline",
    "budget_exceeded": "budget_exceeded",
    "slow_consumer": "slow_consumer",
}
_CUT = {FinishReason.LENGTH: "max_output_tokens", FinishReason.CONTENT_FILTER: "content_filter"}


class Result(Struct, frozen=True, kw_only=True):
    """What the stage that answered a request returns: whose text is shown, and how it ended."""

    source: Source | None  # None: no model and no cache was used
    model: str
    usage: Usage
    finish: FinishReason
    stop: Stop | None = None  # the same in the words of the model's API, where they say more
    cut: str | None = None  # why it is incomplete, if not because of `finish`
    capped_by_operator: int | None = None  # the operator's cap in tokens, if no other one was lower
    check: str | None = None  # `PASSED` or the failed check; None where nothing was judged
    cache: CacheOutcome = CacheOutcome.MISS
    entry_id: str | None = None  # of the stored answer that a cache gave
    age_s: float | None = None  # of that answer
    answer: Answer | None = None  # None: not to be stored
    taken_back: str | None = None  # the small model's answer, where a check took it back and it had ended
    service_tier: str = ""  # that the answer is charged at, if somebody named one
    verdicts: tuple[tuple[Tier, Verdict], ...] = ()  # of each whole answer that was judged

    def joined(self) -> "Result":
        """Return the result for a request that joined another one's flight."""
        return replace(self, cache=CacheOutcome.JOINED)

    @classmethod
    def ready(cls, request: Request) -> "Result":
        """Return the result of a request with `generate: false`."""
        return cls(source=None, model=request.model, usage=Usage(), finish=FinishReason.STOP)

    @classmethod
    def from_store(cls, stored: StoredAnswer, routed: Routed) -> "Result":
        """Return the result of a cache hit. Only answers that stopped by themselves and failed no check are stored."""
        return cls(
            source=Source.CACHE,
            model=stored.model_id,
            usage=stored.usage,
            finish=FinishReason.STOP,
            check=stored.check,
            cache=routed.cache,
            entry_id=routed.entry_id,
            age_s=routed.age_s,
        )


def answered(response: ResponseLog, bill: Bill, result: Result) -> Ended:
    """Return the end of a request that a stage answered."""
    return Ended(
        status=Status.INCOMPLETE if result.cut or result.finish in _CUT else Status.COMPLETED,
        reason=result.cut or _CUT.get(result.finish),
        stop=None if result.cut else result.stop,
        model=result.model,
        source=result.source,
        cache=result.cache,
        check=result.check,
        entry_id=result.entry_id,
        age_s=result.age_s,
        stored_id=result.answer.id if result.answer else "",
        trimmed_tokens=bill.trimmed_tokens,
        failed=response.failed,
        statement=bill.statement(
            result.usage,
            answered=result.source is not None,
            max_output_tokens=result.capped_by_operator,
            service_tier=result.service_tier,
        ),
    )


def cancelled(response: ResponseLog, bill: Bill) -> Ended:
    """Return the end of a request that was cancelled, by a client or a disconnect, or halted by the server."""
    if response.halt is not None:
        return failed(response, bill, response.halt)
    return _unanswered(response, bill, Status.CANCELLED, reason="cancelled")


def failed(response: ResponseLog, bill: Bill, error: MillraceError) -> Ended:
    """Return the end of a request with no attempt left, or that was stopped.

    A deadline, a budget or a slow consumer ends it as `failed` before the first visible token, and as `incomplete`
    after it (PROTOCOL.md, What always holds).
    """
    reason = None if isinstance(error, UpstreamError) else _HALTED.get(error.code)  # a provider's code is its own
    if reason and response.seen:
        return _unanswered(response, bill, Status.INCOMPLETE, reason=reason, error=error)
    return _unanswered(response, bill, Status.FAILED, error=error)


def _unanswered(
    response: ResponseLog, bill: Bill, status: Status, *, reason: str | None = None, error: MillraceError | None = None
) -> Ended:
    try:
        statement = bill.statement(answered=status is Status.INCOMPLETE and bill.has_answer)
    except EXITS:
        raise
    except BaseException as error_of_bill:  # a broken bill must not cost the client its terminal event
        log.get().error("bill not made out", exc_info=error_of_bill)
        statement = NOTHING
    last = shown_charge(statement.charges) if statement.charges else None
    return Ended(
        status=status,
        reason=reason,
        error=error and without_traceback(error),
        model=last.model if last else None,
        source=Source(last.tier) if last else None,
        cache=response.cache,
        trimmed_tokens=bill.trimmed_tokens,
        failed=response.failed,
        statement=statement,
    )


def _story(response: ResponseLog, ended: Ended) -> Story:
    """Return what each stage decided."""
    found, advice = response.found, response.advice
    hit, near = (
        ("", ())
        if found is None
        else (found.entry_id, (found.near,))
        if isinstance(found, SemanticHit)
        else ("", found.near)
    )
    return Story(
        looked_up=response.looked_up,
        age_s=ended.age_s,
        needed=None if found is None else found.needed,
        near=tuple(
            Near(entry_id=one.entry_id, similarity=one.similarity, log_odds=one.log_odds, is_off=one.is_off)
            for one in near
        ),
        hit=hit,
        missed=found.kind if isinstance(found, SemanticMiss) else "",
        scores=None
        if advice is None or advice.score is None
        else Scores(
            tier=advice.tier,
            score=advice.score,
            small=advice.small,
            large=advice.large,
            threshold=advice.threshold,
            labels=advice.labels,
            reason=advice.reason,
            sketch=advice.sketch,
        ),
        route=response.reason or "",
        judgements=tuple(
            Judgement(tier=tier, check=verdict.check, reason=verdict.reason) for tier, verdict in response.judged
        ),
        failed=tuple((failure.model, failure.code) for failure in ended.failed),
    )


def settle(response: ResponseLog, bill: Bill, ended: Ended) -> None:
    """Close the bill, then the log. A fault in the first must not cost the client its terminal event.

    The bill comes first, so that its row is queued before a client can see the end. `finally` sends the terminal even
    if that fails (PROTOCOL.md, What always holds, 1).
    """
    code = ended.error.code if ended.error else ended.reason
    latency_ms = milliseconds(response.started_at, response.clock()) or 0.0
    is_shown_at_end = response.request.delivery is Delivery.FINAL and ended.accepted
    trace = response.request.trace
    if trace is not None and trace.content is not None:
        trace.content.answer = "".join(fact for fact in response.standing() if isinstance(fact, str))
    try:
        bill.settle(
            ended.statement,
            status=ended.status,
            source=ended.source,
            cache=ended.cache,
            check=None if ended.check == PASSED else ended.check,
            code=code,
            entry_id=ended.entry_id or "",
            stored_id=ended.stored_id,
            story=_story(response, ended),
            shape=shape_of(response.request),
            began_at=response.started_at,
            ttft_ms=latency_ms if is_shown_at_end else milliseconds(response.started_at, response.first_text_at),
            latency_ms=latency_ms,
        )
    finally:
        response.end(ended)
    found = {} if ended.age_s is None else {"entry_id": ended.entry_id, "age_s": round(ended.age_s, 1)}
    if trace is not None:
        found["trace"] = trace.trace_id
    log.get().info(
        "settled",
        id=response.id,
        tenant=response.request.tenant,
        status=ended.status.value,
        strategy=response.request.strategy.value,
        route=ended.source.value if ended.source else None,
        cache=ended.cache.value,
        **found,
        check=ended.check,
        reason=response.reason,
        code=code,
        cost_usd=float(ended.statement.cost),
        latency_ms=round(latency_ms, 1),
    )


def settle_lent(response: ResponseLog, bill: Bill) -> None:
    """Close the bill of one who has followed a flight from another replica, and has come to pay for the rest of it.

    Its request has a row of its own there, which says what the answer has saved.
    """
    bill.settle(
        bill.statement(answered=False),
        status=Status.CANCELLED,
        source=None,
        cache=CacheOutcome.JOINED,
        check=None,
        code="cancelled",
        shape=shape_of(response.request),
        began_at=response.started_at,
        ttft_ms=None,
        latency_ms=milliseconds(response.started_at, response.clock()) or 0.0,
    )
