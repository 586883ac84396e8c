"""What the endpoints for admins share."""

from collections.abc import Awaitable, Callable
from functools import wraps

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from millrace.errors import MillraceError
from millrace.principal import Role
from millrace.web.process import principal_of

Endpoint = Callable[[Request], Awaitable[msgspec.Struct | msgspec.Raw]]  # raw: JSON that was long to make


def for_admins(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Refuse all others, and answer with JSON that nobody keeps."""

    @wraps(endpoint)
    async def answered(request: Request) -> Response:
        if principal_of(request).role is not Role.ADMIN:
            raise MillraceError("forbidden", "ask with an admin's key (`millrace keys add --role admin`)")
        try:
            body = msgspec.json.encode(await endpoint(request))
        except TimeoutError as error:
            message = str(error) or "the disk is too slow; try again"
            raise MillraceError("overloaded", message, retry_after_ms=1000) from None
        return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")

    return answered
