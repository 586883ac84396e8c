"""Errors as HTTP responses: a status, headers that SDKs heed, and a JSON body."""

import math
from http import HTTPStatus

import msgspec
from msgspec import UNSET
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millrace.errors import FailedWithUsage, MillraceError, internal_error
from millrace.wire import documents, responses as wire

PREFIX = "/v1/"  # of the API's paths; the page and its files are elsewhere
_CHALLENGE = 'Bearer realm="millrace"'


def refusal(error: MillraceError) -> Response:
    """Return an error as a response that SDKs understand."""
    headers = {"Cache-Control": "no-store", "X-Should-Retry": "true" if _may_retry(error) else "false"}
    if error.rule.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = _CHALLENGE
    if error.rule.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        headers["Accept-Encoding"] = "gzip, deflate"  # RFC 9110, 15.5.16
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_ms / 1000))
    usage = msgspec.to_builtins(error.usage) if isinstance(error, FailedWithUsage) else UNSET
    body = msgspec.json.encode(documents.Refused(wire.error_body(error), usage))
    return Response(body, error.rule.status, headers, media_type="application/json")


def _may_retry(error: MillraceError) -> bool:
    """Whether an SDK may repeat the request on its own. After a deadline it would pay for the same wait again."""
    return error.rule.retry and error.code != "deadline_exceeded"


async def refused(_: Request, error: Exception) -> Response:
    """Answer for an endpoint that raised a `MillraceError`."""
    assert isinstance(error, MillraceError)
    return refusal(error)


async def crashed(_: Request, __: Exception) -> Response:
    """Answer for an endpoint at fault. The server logs it."""
    return refusal(internal_error())


async def unrouted(request: Request, error: Exception) -> Response:
    """Answer for a path or a method that does not exist: as JSON under /v1, as text elsewhere."""
    assert isinstance(error, HTTPException)
    if not request.url.path.startswith(PREFIX):
        return Response(error.detail, error.status_code, error.headers, media_type="text/plain")
    refused = MillraceError("invalid_request", f"{request.method} {request.url.path[:80]}: {error.detail}")
    body = msgspec.json.encode({"error": wire.error_body(refused)})
    return Response(body, error.status_code, error.headers, media_type="application/json")
