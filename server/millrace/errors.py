"""Every error Millrace tells a client: one class, one table of codes."""

from typing import NamedTuple


class Rule(NamedTuple):
    """What a code means on the wire: HTTP-like status, and whether the same request may succeed later."""

    status: int
    retry: bool
    type: str


def _rules(status: int, kind: str, *codes: str, retry: bool = False) -> dict[str, Rule]:
    return {code: Rule(status, retry, kind) for code in codes}


RULES: dict[str, Rule] = {
    **_rules(400, "invalid_request_error", "invalid_json", "invalid_request", "unknown_event", "invalid_stream_id"),
    **_rules(400, "invalid_request_error", "websocket_stream_limit_reached", "context_too_long"),
    **_rules(404, "invalid_request_error", "model_not_found", "response_not_found"),
    **_rules(429, "rate_limit_error", "queue_full", retry=True),
    **_rules(502, "upstream_error", "upstream_error", "upstream_truncated", retry=True),
    **_rules(504, "upstream_error", "upstream_timeout", retry=True),
    **_rules(529, "upstream_error", "upstream_overloaded", retry=True),
    **_rules(503, "server_error", "overloaded", retry=True),
    **_rules(500, "server_error", "internal_error", retry=True),
}


class MillraceError(Exception):
    """A fault with a code of the table; `message` is for the user's eyes and holds no secret and no prompt.

    `param` is the path of the fault in the request (`input[2].content`); `retry_after_ms` when to come back.
    """

    def __init__(self, code: str, message: str, *, param: str | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_ms = retry_after_ms
        self.rule = RULES.get(code, RULES["internal_error"])  # a client may meet a newer server


class UpstreamError(MillraceError):
    """A model did not answer, or not to the end. `billable` is False where the provider surely charges nothing."""

    def __init__(self, code: str, message: str, *, billable: bool = True, retry_after_ms: int | None = None) -> None:
        super().__init__(code, message, retry_after_ms=retry_after_ms)
        self.billable = billable


def invalid(param: str, message: str) -> MillraceError:
    """Return the commonest error: a field that does not fit."""
    return MillraceError("invalid_request", message, param=param)


def not_yet(param: str) -> MillraceError:
    """Return the refusal of something the wire names and this version does not do."""
    return MillraceError("invalid_request", f"{param}: not yet supported by this version; leave it out", param=param)
