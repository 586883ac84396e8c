"""What clients are told when models fail: which one, why, and, when none is left, both causes."""

from millrace.errors import UpstreamError
from millrace.types import Failure, Model


def failure_of(model: Model, error: UpstreamError) -> Failure:
    """Return a model's failure as clients are told it."""
    return Failure(model=model.id, code=error.code, message=error.message)


def none_left(small: UpstreamError, large: UpstreamError) -> UpstreamError:
    """Return the error of a request that both models failed. Its message has both causes.

    Code and status are the large model's, which takes whatever the small one does, unless only the small one's tell the
    caller what to do. The request may be repeated once either of them can be asked again.
    """
    shown = small if _is_of_use(small) and not _is_of_use(large) else large
    waits_ms = [each.retry_after_ms for each in (small, large) if each.retry_after_ms is not None and each.rule.retry]
    return UpstreamError(
        shown.code,
        f"{small.message}; {large.message}",
        retry_after_ms=min(waits_ms) if waits_ms and shown.rule.retry else shown.retry_after_ms,
        rule=shown.rule,
    )


def after_a_check(check: str, large: UpstreamError) -> UpstreamError:
    """Return the error of a large model that was called because the small one's answer failed a check."""
    return UpstreamError(
        large.code,
        f"the small model's answer failed the check {check!r}; {large.message}",
        retry_after_ms=large.retry_after_ms,
        rule=large.rule,
    )


def _is_of_use(error: UpstreamError) -> bool:
    """Whether it tells the caller what to do: to come again, or to change the request. Else the operator must act."""
    return error.rule.retry or error.rule.type == "invalid_request_error"
