"""`GET /v1/evidence`: how often cheap answers were right, for admins, of their tenant."""

from starlette.requests import Request

from millrace.errors import invalid
from millrace.web.admins import for_admins
from millrace.web.process import principal_of, process_of
from millrace.wire import evidence as wire


@for_admins
async def report(request: Request) -> wire.EvidenceReport:
    """`GET /v1/evidence?since=7d`."""
    ago_s = wire.seconds(request.query_params.get("since", wire.SINCE))
    if ago_s is None:
        raise invalid("since", f"since: {wire.DURATION}")
    process = process_of(request)
    return await process.reports.report(process.wall() - ago_s, principal_of(request).tenant)
