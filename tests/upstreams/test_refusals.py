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
