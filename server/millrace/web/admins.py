"""What the endpoints for admins share."""

from collections.abc import Awaitable, Callable
from functools import wraps

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from millrace.errors import MillraceError
from millrace.principal import Principal, Role
from millrace.web.process import principal_of

Endpoint = Callable[[Request], Awaitable[msgspec.Struct]]


def check_admin(principal: Principal) -> None:
    """Raise `forbidden` for all others."""
    if principal.role is not Role.ADMIN:
        raise MillraceError("forbidden", "ask with an admin's key (`millrace keys add --role admin`)")


def for_admins(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Refuse all others, and answer with JSON that nobody keeps."""

    @wraps(endpoint)
    async def answered(request: Request) -> Response:
        check_admin(principal_of(request))
        try:
            body = msgspec.json.encode(await endpoint(request))
        except TimeoutError as error:
            message = str(error) or "the disk is too slow; try again"
            raise MillraceError("overloaded", message, retry_after_ms=1000) from None
        return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")

    return answered
