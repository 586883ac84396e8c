"""A provider's errors -> `UpstreamError`, in whatever shape they come: a status and a body, or an event. No I/O.

What a client can act on keeps its words, its code, its status and its `Retry-After`. What is the operator's fault (the
key, the model's name) does not become the client's.
"""

import re
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import msgspec

from millrace.errors import Rule, UpstreamError
from millrace.ports import Clock
from millrace.upstreams.characters import whole
from millrace.upstreams.finishes import MAX_WORD

MAX_MESSAGE = 300  # characters of a provider's error message that clients see
MAX_RETRY_AFTER_S = 86_400.0

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# Statuses that say what is wrong with the request, or when to come again; whether that is any use, and the type.
_PASSED_ON = {
    HTTPStatus.BAD_REQUEST: (False, "invalid_request_error"),
    HTTPStatus.REQUEST_TIMEOUT: (True, "timeout_error"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (False, "invalid_request_error"),
    HTTPStatus.UNPROCESSABLE_ENTITY: (False, "invalid_request_error"),
    HTTPStatus.TOO_MANY_REQUESTS: (True, "rate_limit_error"),
}
_OF_THE_OPERATOR = (HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE)
_OURS = {408: "upstream_timeout", 504: "upstream_timeout"} | dict.fromkeys((429, 503, 529), "upstream_overloaded")
_ANY_KEY = re.compile(r"\b(?:sk|gsk|xai|pplx|nvapi|hf|AIza)[-_]?[\w-]{20,}")  # also one of a gateway behind it
_SHORTEST_KEY = 22  # characters of what that finds
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_STATUS_OF_WORDS = {
    "rate_limit": 429,
    "ratelimit": 429,
    "too_many_requests": 429,
    "toomanyrequests": 429,
    "resource_exhausted": 429,
    "insufficient_quota": 429,
    "overloaded": 529,
    "serviceunavailable": 503,
    "service_unavailable": 503,
    "unavailable": 503,
    "timeout": 504,
    "deadline_exceeded": 504,
    "authentication": 401,
    "invalid_api_key": 401,
    "unauthorized": 401,
    "permission": 403,
    "forbidden": 403,
    "model_not_found": 404,
    "context_length_exceeded": 400,
    "invalid_request": 400,
    "invalid_prompt": 400,  # this and the next two: of responses that failed
    "policy": 400,
    "image": 400,
    "badrequest": 400,
}
_NO_MONEY = (
    *("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance", "insufficient_credits"),
    *("exceeded_current_quota", "arrearage"),  # Kimi, DashScope
)
_NO_MONEY_CODE = "1113"  # Zhipu
_WORDS = (
    *("message", "msg", "detail", "error_description", "error", "reason", "title"),
    *("error_msg", "errorMessage", "status_msg"),
)
_ANSWERS = ("choices", "usage", "content", "output")  # fields of what is an answer, if an empty one
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")  # of server-sent events
_BAD_KEY = ("authentication", "invalid_api_key", "api_key_invalid")
_NO_MODEL = ("model_not_found", "model_not_exist", "model_not_available", "not_found_error")


class Refusals:
    """The errors of one model. `key` is the provider's, whose words may repeat it."""

    __slots__ = ("_key", "_model", "_wall")

    def __init__(self, model: str, key: str | None, wall: Clock) -> None:
        self._model = model
        self._key = key
        self._wall = wall

    def of_status(self, status: int, retry_after: str | None, body: bytes) -> UpstreamError:
        """Return the error of an HTTP status. Providers charge nothing for these."""
        fields = _fields(error_in(body))
        error = self._error(_meant(status, fields), fields, f"answered HTTP {status}")
        error.billable = False
        error.retry_after_ms = self._retry_after_ms(retry_after or _delay(fields))
        return error

    def tier(self, given: Any) -> str:
        """Return the service tier that the provider says it has used; empty if it says none."""
        is_told = isinstance(given, str) and given not in ("", "auto")  # which is a question, not an answer
        return self.masked(given)[:MAX_WORD] if is_told else ""

    def of_event(self, given: Any, *, billable: bool) -> UpstreamError:
        """Return the error that came in place of an answer, or of its rest."""
        fields = _fields(given)
        error = self._error(_status(fields), fields, "failed in mid-stream" if billable else "failed")
        error.billable = billable
        return error

    def of_no_answer(self, body: bytes) -> UpstreamError | None:
        """Return the error that a body tells of in which no API finds an answer; None if it has no words of one."""
        told = error_in(body)
        is_told = bool(told) and not (isinstance(told, dict) and (any(map(told.get, _ANSWERS)) or not _words(told)))
        return self.of_event(told, billable=False) if is_told else None

    def masked(self, words: str) -> str:
        """Return a provider's words without any key, and without half characters.

        It is done before they are cut, or a part of the key is left.
        """
        words = whole(words)
        if self._key:
            words = words.replace(self._key, "[key]")
        return words if len(words) < _SHORTEST_KEY else _ANY_KEY.sub("[key]", words)

    def _error(self, status: int, fields: dict[str, Any], what: str) -> UpstreamError:
        code, words = self.masked(_code(fields)), self.masked(_words(fields))[:MAX_MESSAGE]
        message = f"{self._model} {what}" + (f": {words}" if words else "")
        cause = _cause(status, fields, what)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):  # the words may repeat a part of the key
            message = f"the provider of {self._model} refused the key (HTTP {status}); check api_key_env of that model"
            return UpstreamError("upstream_error", message, rule=_OPERATORS, cause=cause)
        if status in _OF_THE_OPERATOR or code in _NO_MODEL:
            return UpstreamError("upstream_error", message, rule=_OPERATORS, cause=cause)
        if status == HTTPStatus.TOO_MANY_REQUESTS and _has_no_money(fields):
            rule = Rule(status, retry=False, type=code)
            return UpstreamError(code or "upstream_error", message, rule=rule, cause=cause)
        if status in _PASSED_ON:
            rule = Rule(status, *_PASSED_ON[HTTPStatus(status)])
            return UpstreamError(code or _OURS.get(status, "upstream_error"), message, rule=rule, cause=cause)
        return UpstreamError(_OURS.get(status, "upstream_error"), message, cause=cause)

    def _retry_after_ms(self, given: str | None) -> int | None:
        if not given:
            return None
        try:
            seconds = float(given)
        except ValueError:
            try:
                seconds = parsedate_to_datetime(given).timestamp() - self._wall()
            except (TypeError, ValueError):
                return None
        if not seconds < float("inf"):
            return None
        return round(min(max(0.0, seconds), MAX_RETRY_AFTER_S) * 1000)


_OPERATORS = Rule(502, retry=False, type="upstream_error")  # the operator must act, so repeating is no use


def error_in(body: bytes) -> Any:
    """Return the error of a body: an object, an event in it, or its text; None if it is empty or a page."""
    text = body.strip().removeprefix(b"\xef\xbb\xbf")
    for candidate in (text, *(line[5:] for line in text.splitlines() if line.startswith(b"data:"))):
        try:
            value = msgspec.json.decode(candidate)
        except _UNREADABLE:
            continue
        if isinstance(value, list) and value:  # Gemini
            value = value[0]
        if (error := error_of(value)) is not None:
            return error
        return value
    is_cut = any(field.startswith(text) for field in _FIELDS)  # the first bytes of an event
    is_text = text and not is_cut and not text.startswith((b"<", b"{", b"[", *_FIELDS))
    return text.decode("utf-8", "replace") if is_text else None


def error_of(event: Any) -> Any:
    """Return the error that an event is, in one of its several shapes; None if it is none."""
    if not isinstance(event, dict):
        return None
    error, errors = event.get("error"), event.get("errors")
    if error not in (None, False, True, "", {}):
        return error
    if error is True or "error" in (event.get("object"), event.get("type")):
        return event
    if isinstance(errors, list) and errors:
        return errors[0]
    if "choices" in event or "usage" in event or "base_resp" in event:
        base = event.get("base_resp")
        return base if isinstance(base, dict) and base.get("status_code") else None  # MiniMax; 0 where all is well
    is_named = isinstance(event.get("message"), str) and any(event.get(name) for name in ("code", "status", "type"))
    return event if is_named or event.get("detail") is not None else None


def _fields(given: Any) -> dict[str, Any]:
    return given if isinstance(given, dict) else {} if given is None else {"message": given}


def _words(fields: dict[str, Any]) -> str:
    metadata = fields.get("metadata")
    if isinstance(metadata, dict) and isinstance(raw := metadata.get("raw"), str):  # OpenRouter: of whom it asked
        return raw
    for name in _WORDS:
        given = fields.get(name)
        if isinstance(given, dict):
            return _words(given)
        if isinstance(given, list) and given:  # FastAPI: a list of what is wrong
            first = given[0]
            return str(first.get("msg", "")) if isinstance(first, dict) else str(first)
        if given:
            return str(given)
    return ""


def _code(fields: dict[str, Any]) -> str:
    """Return the provider's own word for the error, if it has one."""
    for name in ("code", "type", "status"):
        given = fields.get(name)
        if isinstance(given, str) and _CODE.fullmatch(given):
            return given
    return ""


def _status(fields: dict[str, Any]) -> int:
    """Return the HTTP status that an error names, as a number or by its words; 502 if none."""
    if isinstance(inner := fields.get("error"), dict) and (status := _status(inner)) != HTTPStatus.BAD_GATEWAY:
        return status
    for name in ("status_code", "status", "code", "http_status"):
        given = fields.get(name)
        if isinstance(given, str) and given.isascii() and given.isdigit():
            given = int(given[:3])
        if isinstance(given, int) and HTTPStatus.BAD_REQUEST <= given < 600:  # noqa: PLR2004 - the end of the range
            return given
    kind = f"{fields.get('type')} {fields.get('code')} {fields.get('status')}".lower()
    return next((status for words, status in _STATUS_OF_WORDS.items() if words in kind), 502)


def _meant(status: int, fields: dict[str, Any]) -> int:
    """Return the status that an error means. A gateway may send another one around the words of the provider."""
    is_fault = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if is_fault and _has_no_money(fields):
        return HTTPStatus.TOO_MANY_REQUESTS.value
    kind = f"{fields.get('type')} {fields.get('code')} {fields.get('details')}".lower()
    if (is_fault or status == HTTPStatus.BAD_REQUEST) and any(word in kind for word in _BAD_KEY):  # Gemini: 400
        return HTTPStatus.UNAUTHORIZED.value
    return HTTPStatus.BAD_REQUEST.value if is_fault and "context_length_exceeded" in kind else status


def _delay(fields: dict[str, Any]) -> str | None:
    """Return when to come again, in seconds, if an error says it in its body, as Gemini's do: "13.5s"."""
    details = fields.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(delay := detail.get("retryDelay"), str):
            return delay.removesuffix("s")
    return None


def _cause(status: int, fields: dict[str, Any], what: str) -> str:
    """Return what happened, with the status and a known word, but without any other word of the provider."""
    kind = f"{fields.get('type')} {fields.get('code')} {fields.get('status')}".lower()
    word = next((word for word in (*_NO_MONEY, *_NO_MODEL, *_STATUS_OF_WORDS) if word in kind), "")
    words = [f"error {status}"] if str(status) not in what else []
    return ", ".join((what, *words, *([word] if word else [])))


def _has_no_money(fields: dict[str, Any]) -> bool:
    kind = f"{fields.get('type')} {fields.get('code')}".lower()
    return str(fields.get("code")) == _NO_MONEY_CODE or any(word in kind for word in _NO_MONEY)
