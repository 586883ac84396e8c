"""The errors that clients get: one class and one table of codes."""

import asyncio
from typing import Any, NamedTuple

from millrace.types.budget import Left

# No faults, but the end of a task or of the process. `except EXITS: raise` goes before `except BaseException`, which is
# needed because a panic in a library is no `Exception`.
EXITS = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)


class Rule(NamedTuple):
    """What a code means on the wire: HTTP status, whether to try again, and the error type."""

    status: int
    retry: bool
    type: str


def _rules(status: int, kind: str, *codes: str, retry: bool = False) -> dict[str, Rule]:
    return {code: Rule(status, retry, kind) for code in codes}


RULES: dict[str, Rule] = {
    **_rules(400, "invalid_request_error", "invalid_json", "invalid_request", "unknown_event", "invalid_stream_id"),
    **_rules(400, "invalid_request_error", "websocket_stream_limit_reached", "context_too_long"),
    **_rules(401, "authentication_error", "unauthorized"),
    **_rules(402, "insufficient_quota", "budget_exceeded"),
    **_rules(403, "permission_error", "forbidden", "forbidden_model"),
    **_rules(404, "invalid_request_error", "model_not_found", "previous_response_not_found", "response_not_found"),
    **_rules(404, "invalid_request_error", "item_not_found", "entry_not_found"),
    **_rules(404, "invalid_request_error", "file_not_found", "batch_not_found"),
    **_rules(409, "invalid_request_error", "idempotency_mismatch", "feedback_exists"),
    **_rules(413, "invalid_request_error", "message_too_big"),
    **_rules(415, "invalid_request_error", "unsupported_encoding"),
    **_rules(429, "rate_limit_error", "rate_limit_exceeded", "too_many_in_flight", "queue_full", retry=True),
    **_rules(499, "invalid_request_error", "cancelled"),  # of a chat completion; not 409, because SDKs repeat that
    **_rules(408, "timeout_error", "deadline_exceeded", "slow_consumer", "request_timeout", retry=True),
    **_rules(502, "upstream_error", "upstream_error", "upstream_truncated", retry=True),
    **_rules(504, "upstream_error", "upstream_timeout", retry=True),
    **_rules(529, "upstream_error", "upstream_overloaded", retry=True),
    **_rules(503, "server_error", "server_draining", "overloaded", retry=True),
    **_rules(409, "invalid_request_error", "resume_gap", retry=True),
    **_rules(410, "invalid_request_error", "resume_expired", retry=True),
    **_rules(500, "server_error", "internal_error", retry=True),
}


_RETRIED_TYPES = ("rate_limit_error", "timeout_error", "upstream_error", "server_error")


def rule_of(code: str, kind: str) -> Rule:
    """Return what an error of a server means: a code that is not in the table is a provider's, so its type decides."""
    statuses = {"invalid_request_error": 400, "insufficient_quota": 429, "rate_limit_error": 429}
    return RULES.get(code) or Rule(statuses.get(kind, 500), kind in _RETRIED_TYPES, kind)


class MillraceError(Exception):
    """An error with a code of the table. `message` is shown to users, so it holds no secret and no prompt.

    `param` is the path of the faulty field in the request (`input[2].content`); `retry_after_ms` is when to try again.
    """

    left: Left | None = None  # of the limits, where one of them refuses
    has_run = False  # the request had begun, so that it has a row in the ledger

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_ms: int | None = None,
        rule: Rule | None = None,  # of a code that is not in the table, or that means something else this time
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_ms = retry_after_ms
        self.rule = rule or RULES[code]


class FailedWithUsage(MillraceError):  # noqa: N818 - the name says what the client learns
    """Why a request that ran has no answer. `usage` is the usage struct of what it cost."""

    def __init__(self, error: MillraceError, usage: Any) -> None:
        super().__init__(
            error.code, error.message, param=error.param, retry_after_ms=error.retry_after_ms, rule=error.rule
        )
        self.usage = usage
        self.left = error.left


class UpstreamError(MillraceError):
    """A model failed to answer, or to finish. `billable` is False only if the provider certainly charges nothing.

    `cause` says why in Millrace's own words, of which there are few, so that logs can hold it and counts can be kept
    by it. `message` may repeat the provider's words.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        billable: bool = True,
        retry_after_ms: int | None = None,
        rule: Rule | None = None,
        cause: str = "",  # default: the message
    ) -> None:
        super().__init__(code, message, retry_after_ms=retry_after_ms, rule=rule)
        self.billable = billable
        self.cause = cause or message


def without_traceback(error: MillraceError) -> MillraceError:
    """Return an error that is to be kept: the frames of its traceback would keep all that the request held."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def internal_error() -> MillraceError:
    """Return the error for a fault of Millrace's own. The caller logs it."""
    return MillraceError("internal_error", "a fault in Millrace; it has been logged")


def slow_consumer(stuck_s: float) -> MillraceError:
    """Return the error of a request whose answer nobody has read for so many seconds."""
    return MillraceError("slow_consumer", f"nothing of the answer was read for {stuck_s:g} s")


def invalid(param: str, message: str) -> MillraceError:
    """Return the `invalid_request` error of a field."""
    return MillraceError("invalid_request", message, param=param)
