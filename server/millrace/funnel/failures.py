"""What clients are told when models fail: which one, why, and, when none is left, all causes."""

from millrace.errors import MillraceError, UpstreamError
from millrace.funnel.response_log import ResponseLog
from millrace.types import Failure, Model


def failure_of(model: Model, error: UpstreamError) -> Failure:
    """Return a model's failure as clients are told it."""
    return Failure(model=model.id, code=error.code, message=error.message)


def none_left(*errors: UpstreamError) -> UpstreamError:
    """Return the error of a request that all models failed, or all deployments of one. Its message has all causes.

    Code and status are the last one's, which takes whatever those before do, unless only an earlier one's tell the
    caller what to do. The request may be repeated once one of them can be asked again.
    """
    shown = next((error for error in reversed(errors) if _is_of_use(error)), errors[-1])
    if len(errors) == 1:
        return shown
    said = dict.fromkeys(error.message for error in errors)
    messages = [one for one in said if not any(one in other for other in said if other != one)]
    waits_ms = [each.retry_after_ms for each in errors if each.retry_after_ms is not None and each.rule.retry]
    return UpstreamError(
        shown.code,
        "; ".join(messages),
        retry_after_ms=min(waits_ms) if waits_ms and shown.rule.retry else shown.retry_after_ms,
        rule=shown.rule,
        cause="; ".join(dict.fromkeys(error.cause for error in errors)),
    )


def after_a_check(check: str, large: UpstreamError) -> UpstreamError:
    """Return the error of a large model that was called because the small one's answer failed a check."""
    return UpstreamError(
        large.code,
        f"the small model's answer failed the check {check!r}; {large.message}",
        retry_after_ms=large.retry_after_ms,
        rule=large.rule,
    )


def over_budget(response: ResponseLog, reason: str) -> MillraceError:
    """Return the error of a request whose budget is too low."""
    path, rest = response.request.paths.max_cost, response.request.rest
    if rest is not None:
        return MillraceError("budget_exceeded", f"{rest.of} (${rest.dollars:f}) is too little: {reason}")
    if response.request.max_cost is None:
        message = f"what is left of a budget of this request is too little: {reason}; ask for less"
        return MillraceError("budget_exceeded", message)
    message = f"{path}: the budget of {response.request.max_cost:f} dollars is too low: {reason}; raise it"
    return MillraceError("budget_exceeded", message, param=path)


def is_of_the_request(error: UpstreamError) -> bool:
    """Whether the request is at fault, so that no other deployment of the model would take it either."""
    return error.rule.type == "invalid_request_error"


def _is_of_use(error: UpstreamError) -> bool:
    """Whether it tells the caller what to do: to come again, or to change the request. Else the operator must act."""
    return error.rule.retry or is_of_the_request(error)
