"""How a request ends: what a stage that catches it says, what the log is told, and the bill settled once."""

from dataclasses import dataclass, replace

from millrace import log
from millrace.errors import MillraceError, internal_error
from millrace.funnel.bill import NOTHING, Bill, milliseconds, showing
from millrace.funnel.response_log import Ended, ResponseLog
from millrace.types import (
    PASSED,
    Answer,
    CacheOutcome,
    Delivery,
    FinishReason,
    Request,
    Source,
    Status,
    StoredAnswer,
    Usage,
)

_HALTED = {  # why an answer that has begun to be seen is incomplete
    "deadline_exceeded": "deadline",
    "budget_exceeded": "budget_exceeded",
    "slow_consumer": "slow_consumer",
}
_CUT = {FinishReason.LENGTH: "max_output_tokens", FinishReason.CONTENT_FILTER: "content_filter"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Where a request landed: whose words stand, and how they end."""

    source: Source | None  # None: nobody was asked
    model: str
    usage: Usage
    finish: FinishReason
    cut: str | None = None  # why it is incomplete, where no cap of the model or the asker says so
    check: str | None = None  # `PASSED` or the failed check; None where nothing was judged
    cache: CacheOutcome = CacheOutcome.MISS
    answer: Answer | None = None  # where it is worth storing

    def joined(self) -> "Result":
        """Return where it landed, for a request that rode along."""
        return replace(self, cache=CacheOutcome.JOINED)

    @classmethod
    def ready(cls, request: Request) -> "Result":
        """A request that only wanted everything to be ready for the next one."""
        return cls(source=None, model=request.model, usage=Usage(), finish=FinishReason.STOP)

    @classmethod
    def from_store(cls, stored: StoredAnswer, cache: CacheOutcome) -> "Result":
        """A stored answer stopped by itself and failed no check, or it would not have been stored."""
        return cls(
            source=Source.CACHE,
            model=stored.model_id,
            usage=stored.usage,
            finish=FinishReason.STOP,
            check=stored.check,
            cache=cache,
        )


def answered(bill: Bill, result: Result) -> Ended:
    """Return the end of a request that a stage caught."""
    return Ended(
        status=Status.INCOMPLETE if result.cut or result.finish in _CUT else Status.COMPLETED,
        reason=result.cut or _CUT.get(result.finish),
        model=result.model,
        source=result.source,
        cache=result.cache,
        check=result.check,
        trimmed_tokens=bill.trimmed_tokens,
        statement=bill.statement(result.usage),
    )


def cancelled(response: ResponseLog, bill: Bill) -> Ended:
    """Return the end of a request that was cancelled, whose client has gone, or that was halted."""
    if response.halt is not None:
        return failed(response, bill, response.halt)
    return _unanswered(response, bill, Status.CANCELLED, reason="cancelled")


def crashed(response: ResponseLog, bill: Bill) -> Ended:
    """Return the end of a request that Millrace itself broke; it must not depend on what may be broken."""
    error = internal_error()
    try:
        return failed(response, bill, error)
    except Exception as second:
        log.get().error("bill not made out", exc_info=second)
        return Ended(status=Status.FAILED, error=error, statement=NOTHING)


def failed(response: ResponseLog, bill: Bill, error: MillraceError) -> Ended:
    """Return the end of a request with no attempt left, or that may not go on: then what was seen of it stands."""
    if (reason := _HALTED.get(error.code)) and response.seen:
        return _unanswered(response, bill, Status.INCOMPLETE, reason=reason, error=error)
    return _unanswered(response, bill, Status.FAILED, error=error)


def _unanswered(
    response: ResponseLog, bill: Bill, status: Status, *, reason: str | None = None, error: MillraceError | None = None
) -> Ended:
    statement = bill.statement(answered=False)
    last = showing(statement.charges) if statement.charges else None
    return Ended(
        status=status,
        reason=reason,
        error=error,
        model=last.model if last else None,
        source=Source(last.tier.value) if last else None,
        cache=response.cache,
        trimmed_tokens=bill.trimmed_tokens,
        statement=statement,
    )


def settle(response: ResponseLog, bill: Bill, ended: Ended) -> None:
    """Close the bill, then the log; a fault in the first does not keep the user from the second."""
    code = ended.error.code if ended.error else ended.reason
    latency_ms = milliseconds(response.started_at, response.clock()) or 0.0
    shown_at_end = response.request.delivery is Delivery.FINAL and ended.accepted
    try:
        bill.settle(
            ended.statement,
            status=ended.status,
            source=ended.source,
            cache=ended.cache,
            check=None if ended.check == PASSED else ended.check,
            code=code,
            ttft_ms=latency_ms if shown_at_end else milliseconds(response.started_at, response.first_text_at),
            latency_ms=latency_ms,
        )
    finally:
        response.end(ended)
    log.get().info(
        "settled",
        id=response.id,
        status=ended.status.value,
        source=ended.source,
        code=code,
        cost_usd=float(ended.statement.cost),
        latency_ms=round(latency_ms, 1),
    )
