"""`GET /v1/router`: what the router has learned, for admins, of their tenant."""

from starlette.requests import Request

from millrace.web.admins import for_admins
from millrace.web.process import principal_of, process_of
from millrace.wire import router as wire


@for_admins
async def report(request: Request) -> wire.RouterReport:
    """`GET /v1/router`."""
    return await process_of(request).router_reports.report(principal_of(request).tenant)
