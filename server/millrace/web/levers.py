"""`GET /v1/levers`: what each lever took off the bill, for admins, of their tenant."""

from starlette.requests import Request

from millrace.errors import invalid
from millrace.web.admins import for_admins
from millrace.web.process import principal_of, process_of
from millrace.wire import evidence, levers as wire


@for_admins
async def report(request: Request) -> wire.LeversReport:
    """`GET /v1/levers?since=7d&by=tag`."""
    given, process = request.query_params, process_of(request)
    ago_s, by = evidence.seconds(given.get("since", evidence.SINCE)), given.get("by")
    if ago_s is None:
        raise invalid("since", f"since: {evidence.DURATION}")
    if by is not None and by not in wire.BY:
        raise invalid("by", f"by: expected one of {', '.join(wire.BY)}")
    return await process.levers.report(process.wall() - ago_s, principal_of(request).tenant, by)
