"""What a provider refuses keeps its meaning: its words, its code, its status, and whether to come again."""

import json
from typing import Any

import pytest

from millrace.errors import UpstreamError
from millrace.upstreams.refusals import Refusals, error_of

KEY = "sk-0123456789"
WALL = 1_445_412_470.0


def refused(status: int, error: Any = None, retry_after: str | None = None, key: str | None = KEY) -> UpstreamError:
    body = error if isinstance(error, bytes) else b"" if error is None else json.dumps(error).encode()
    return Refusals("m", key, lambda: WALL).of_status(status, retry_after, body)


@pytest.mark.parametrize(
    ("status", "code", "seen", "retry"),
    [
        (400, "context_length_exceeded", (400, "context_length_exceeded"), False),
        (400, None, (400, "upstream_error"), False),
        (408, None, (408, "upstream_timeout"), True),
        (413, "too_large", (413, "too_large"), False),
        (422, "bad words", (422, "upstream_error"), False),
        (429, "rate_limit_exceeded", (429, "rate_limit_exceeded"), True),
        (429, None, (429, "upstream_overloaded"), True),
        (429, "insufficient_quota", (429, "insufficient_quota"), False),
        (401, "invalid_api_key", (502, "upstream_error"), False),
        (402, None, (502, "upstream_error"), False),
        (405, None, (502, "upstream_error"), False),
        (403, "forbidden", (502, "upstream_error"), False),
        (404, None, (502, "upstream_error"), False),
        (400, "model_not_found", (502, "upstream_error"), False),
        (302, None, (502, "upstream_error"), True),
        (500, "server_error", (502, "upstream_error"), True),
        (503, None, (529, "upstream_overloaded"), True),
        (504, None, (504, "upstream_timeout"), True),
        (529, None, (529, "upstream_overloaded"), True),
    ],
)
def test_a_status_is_passed_on_where_the_client_can_act_on_it(
    status: int, code: str | None, seen: tuple[int, str], *, retry: bool
) -> None:
    """The key and the model's name are the operator's. Nothing is billed."""
    error = refused(status, {"error": {"message": "why", "code": code}})
    assert ((error.rule.status, error.code), error.rule.retry, error.billable) == (seen, retry, False)
    assert "why" in error.message or status in (401, 403)


WRAPPED: dict[str, tuple[int, dict[str, Any], int, str]] = {  # status, error; the status and the code that are meant
    "no money": (500, {"code": "insufficient_quota"}, 429, "insufficient_quota"),
    "too long": (502, {"code": "context_length_exceeded"}, 400, "context_length_exceeded"),
    "too long, busy": (503, {"code": "context_length_exceeded"}, 400, "context_length_exceeded"),
    "a bad key": (500, {"type": "authentication_error"}, 502, "upstream_error"),
    "Gemini's bad key": (
        400,
        {"status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]},
        502,
        "upstream_error",
    ),
    "no model": (500, {"code": "model_not_found"}, 502, "upstream_error"),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_gateway_may_send_another_status_than_is_meant(kind: str) -> None:
    """None of these is any use to repeat, and of a bad key no word is shown."""
    status, given, meant, code = WRAPPED[kind]
    error = refused(status, {"error": {"message": f"why {KEY[:9]}", **given}})
    assert (error.rule.status, error.code, error.rule.retry, error.billable) == (meant, code, False, False)
    assert ("why" in error.message) is ("bad key" not in kind)


def test_a_cause_has_no_word_of_a_provider_but_known_ones() -> None:
    """It goes into the log, and is counted by."""
    given = {"message": "why", "code": "why_not", "type": "why_so"}
    assert refused(500, {"error": given}).cause == "answered HTTP 500"
    assert refused(429, {"error": given | {"code": "rate_limit_exceeded"}}).cause == "answered HTTP 429, rate_limit"
    assert refused(500, {"error": given | {"code": "insufficient_quota"}}).cause == (
        "answered HTTP 500, error 429, insufficient_quota"
    )
    event = Refusals("m", None, lambda: 0.0).of_event(given | {"code": 503}, billable=True)
    assert event.cause == "failed in mid-stream, error 503"


SHAPES: dict[str, Any] = {
    "OpenAI": {"error": {"message": "too slow", "type": "server_error", "code": None}},
    "a text": {"error": "too slow"},
    "vLLM": {"object": "error", "message": "too slow", "type": "ServiceUnavailable", "code": 503},
    "Anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "too slow"}},
    "Gemini": [{"error": {"code": 503, "message": "too slow", "status": "UNAVAILABLE"}}],
    "FastAPI": {"detail": "too slow"},
    "FastAPI's list": {"detail": [{"loc": ["body"], "msg": "too slow"}]},
    "several": {"errors": [{"message": "too slow"}]},
    "Mistral": {"object": "error", "message": {"detail": [{"msg": "too slow"}]}, "type": "invalid_request_error"},
    "bare": {"message": "too slow", "code": "busy"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_error_has_its_words_in_any_shape(shape: str) -> None:
    """As a body, as an event in a body, and as an event in a stream."""
    given = SHAPES[shape]
    for body in (json.dumps(given).encode(), b"event: error\ndata: " + json.dumps(given).encode() + b"\n\n"):
        assert "too slow" in refused(500, body).message
    event = given[0] if isinstance(given, list) else given
    assert "too slow" in Refusals("m", None, lambda: 0.0).of_event(error_of(event), billable=True).message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"type": "rate_limit_error"}, "rate_limit_error"),
        ({"type": "overloaded_error"}, "upstream_overloaded"),
        ({"code": 429}, "upstream_overloaded"),
        ({"code": "503"}, "upstream_overloaded"),
        ({"code": "timeout"}, "upstream_timeout"),
        ({"type": "server_error"}, "upstream_error"),
        ({"status": "RESOURCE_EXHAUSTED"}, "RESOURCE_EXHAUSTED"),
    ],
)
def test_an_event_says_its_status_by_a_number_or_by_words(error: dict[str, Any], code: str) -> None:
    """It came under HTTP 200."""
    refusals = Refusals("m", None, lambda: 0.0)
    assert refusals.of_event({"message": "slow", **error}, billable=True).code == code


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"[]", b"3", b'{"error": {}}', b"[" * 100_000])
def test_a_body_without_words(body: bytes) -> None:
    """The status is all there is to say."""
    assert refused(500, body).message in ("m answered HTTP 500", "m answered HTTP 500: 3")


def test_text_is_words_too_and_is_cut() -> None:
    """To 300 characters."""
    assert refused(500, b"upstream connect error").message == "m answered HTTP 500: upstream connect error"
    assert refused(500, b"y" * 1000).message == "m answered HTTP 500: " + "y" * 300


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_a_key_is_never_shown(status: int) -> None:
    """In words and codes, wherever it stands; of a refused key the provider may quote a part, so no words are shown."""
    for before in range(280, 305):
        error = refused(status, {"error": {"message": "x" * before + KEY, "code": KEY, "type": KEY}})
        assert KEY[:5] not in f"{error.message} {error.code} {error.rule}"


RETRIES = {"5": 5000, " 5 ": 5000, "0": 0, "1.5": 1500, "9" * 30: 86_400_000, "Wed, 21 Oct 2015 07:28:00 GMT": 10_000}
RETRIES |= {"Wed, 21 Oct 2015 07:27:00 GMT": 0, "Wed, 21 Oct 2065 07:27:00 GMT": 86_400_000, "-3": 0}
NO_RETRIES = dict.fromkeys(("", "soon", "nan", "inf", "²", "Wed, 99 Oct 2015 07:28:00 GMT"))


@pytest.mark.parametrize(("given", "milliseconds"), [*RETRIES.items(), *NO_RETRIES.items()])
def test_retry_after(given: str, milliseconds: int | None) -> None:
    """Seconds, fractions too, or an HTTP date, against the wall clock, within a day; what is neither is ignored."""
    assert refused(429, retry_after=given).retry_after_ms == milliseconds


def test_retry_after_in_the_body() -> None:
    """As Gemini's compatible endpoint sends it. The header goes first."""
    details = [{"@type": "Help"}, {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "13.5s"}]
    assert refused(429, [{"error": {"message": "slow", "details": details}}]).retry_after_ms == 13_500
    assert refused(429, [{"error": {"message": "slow", "details": details}}], "2").retry_after_ms == 2000
    for odd in ("", "soon", 3, None, {"retryDelay": "1s"}, [3], [{"retryDelay": 1}], [{"retryDelay": "a while"}]):
        assert refused(429, {"error": {"message": "slow", "details": odd}}).retry_after_ms is None
