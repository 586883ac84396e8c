"""`POST /v1/reload`: the configuration is read anew, for admins."""

from starlette.requests import Request

from millrace.web.admins import for_admins
from millrace.web.process import process_of
from millrace.wire.reload import Reloaded


@for_admins
async def reload(request: Request) -> Reloaded:
    """`POST /v1/reload`. A configuration with faults changes nothing, and is no error of the request."""
    return await process_of(request).settings.reload()
