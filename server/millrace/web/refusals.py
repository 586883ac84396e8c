"""Errors as HTTP responses: a status, headers that SDKs heed, and a JSON body in the form of the API that is asked."""

import math
import secrets
from http import HTTPStatus

import msgspec
from msgspec import UNSET
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from millrace.errors import FailedWithUsage, MillraceError, internal_error
from millrace.web.limit_headers import limit_headers
from millrace.wire import documents, message_events, responses as wire

PREFIX = "/v1/"  # of the API's paths; the page and its files are elsewhere
MESSAGES, MODELS = "/v1/messages", "/v1/models"
_CHALLENGE = 'Bearer realm="millrace"'


def is_of_anthropic(scope: Scope) -> bool:
    """Whether a request is one of Anthropic's API. The list of models is at the same path in both."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    if path == MODELS or path.startswith(f"{MODELS}/"):
        return "anthropic-version" in Headers(scope=scope)
    return path == MESSAGES or path.startswith(f"{MESSAGES}/")


def refusal(error: MillraceError, scope: Scope) -> Response:
    """Return an error as a response that SDKs understand."""
    if not error.has_run:  # else it is counted by its row
        scope["state"]["process"].metrics.figures.refused(error.code)
    return _refusal(error, scope, error.rule.status)


def _refusal(error: MillraceError, scope: Scope, status: int) -> Response:
    headers = {"Cache-Control": "no-store", "X-Should-Retry": "true" if _may_retry(error) else "false"}
    headers |= limit_headers(error.left)
    if error.rule.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = _CHALLENGE
    if error.rule.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        headers["Accept-Encoding"] = "gzip, deflate"  # RFC 9110, 15.5.16
    if error.code == "request_timeout":
        headers["Connection"] = "close"  # the rest of the body is not waited for
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_ms / 1000))
    headers["X-Request-Id"] = scope["state"].get("request_id") or f"req_{secrets.token_hex(16)}"
    if is_of_anthropic(scope):
        headers["Request-Id"] = headers["X-Request-Id"]
        body = msgspec.json.encode(message_events.failed(error, headers["Request-Id"], status))
    else:
        usage = msgspec.to_builtins(error.usage) if isinstance(error, FailedWithUsage) else UNSET
        body = msgspec.json.encode(documents.Refused(wire.error_body(error), usage))
    return Response(body, status, headers, media_type="application/json")


def _may_retry(error: MillraceError) -> bool:
    """Whether an SDK may repeat the request on its own. After a deadline it would pay for the same wait again."""
    return error.rule.retry and error.code != "deadline_exceeded"


async def refused(request: Request, error: Exception) -> Response:
    """Answer for an endpoint that raised a `MillraceError`."""
    assert isinstance(error, MillraceError)
    return refusal(error, request.scope)


async def crashed(request: Request, _: Exception) -> Response:
    """Answer for an endpoint at fault. The server logs it."""
    return refusal(internal_error(), request.scope)


async def unrouted(request: Request, error: Exception) -> Response:
    """Answer for a path or a method that does not exist: as JSON under /v1, as text elsewhere."""
    assert isinstance(error, HTTPException)
    if not request.url.path.startswith(PREFIX):
        return Response(error.detail, error.status_code, error.headers, media_type="text/plain")
    refused = MillraceError("invalid_request", f"{request.method} {request.url.path[:80]}: {error.detail}")
    answer = _refusal(refused, request.scope, error.status_code)
    answer.headers.update(error.headers or {})
    return answer
