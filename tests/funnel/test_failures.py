"""When both models have failed, the error names both, and its code is the one that tells the caller what to do."""

import pytest

from millrace.errors import RULES, Rule, UpstreamError
from millrace.funnel.failures import none_left

Told = tuple[str, Rule, int | None]  # code, rule, retry_after_ms

TOO_LONG: Told = ("context_length_exceeded", Rule(400, retry=False, type="invalid_request_error"), None)
QUOTA: Told = ("insufficient_quota", Rule(429, retry=False, type="insufficient_quota"), None)
KEY: Told = ("upstream_error", Rule(502, retry=False, type="upstream_error"), None)
BUSY: Told = ("upstream_overloaded", RULES["upstream_overloaded"], None)
DOWN: Told = ("upstream_error", RULES["upstream_error"], None)


def limited(milliseconds: int) -> Told:
    return "rate_limit_exceeded", Rule(429, retry=True, type="rate_limit_error"), milliseconds


def error(words: str, told: Told) -> UpstreamError:
    code, rule, retry_after_ms = told
    return UpstreamError(code, words, rule=rule, retry_after_ms=retry_after_ms)


@pytest.mark.parametrize(
    ("small", "large", "shown"),
    [
        (BUSY, DOWN, DOWN),
        (DOWN, BUSY, BUSY),
        (TOO_LONG, BUSY, BUSY),  # the large model takes it, but not now
        (BUSY, TOO_LONG, TOO_LONG),
        (TOO_LONG, KEY, TOO_LONG),  # what the caller can act on
        (TOO_LONG, QUOTA, TOO_LONG),
        (BUSY, KEY, BUSY),
        (BUSY, QUOTA, BUSY),
        (KEY, BUSY, BUSY),
        (KEY, QUOTA, QUOTA),
        (KEY, KEY, KEY),
        (limited(9000), limited(2000), limited(2000)),
        (limited(2000), limited(9000), limited(2000)),  # the small one may answer then
        (limited(2000), DOWN, (*DOWN[:2], 2000)),
        (limited(2000), TOO_LONG, TOO_LONG),
        (KEY, limited(2000), limited(2000)),
    ],
)
def test_which_code_is_told(small: Told, large: Told, shown: Told) -> None:
    both = none_left(error("s failed", small), error("l failed", large))
    assert both.message == "s failed; l failed"
    assert (both.code, both.rule, both.retry_after_ms) == shown
