"""`GET /v1/dashboard/...`: what requests took, cost and saved, for admins, of their tenant, or of all for operators."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from millrace import __version__
from millrace.accounts.dashboard.filters import Filters, read
from millrace.errors import invalid
from millrace.principal import Principal
from millrace.types import Selection, Source, Status
from millrace.web.admins import for_admins
from millrace.web.pages import hedges, model_health
from millrace.web.process import Process, principal_of, process_of
from millrace.wire import dashboard as wire, evidence
from millrace.wire.dashboard import Watch

FILTERS = Watch.__struct_fields__
STATUSES = tuple(status.value for status in Status if status is not Status.OPEN)
SOURCES = (*(source.value for source in Source), "none")
LIMIT = "50"


@for_admins
async def figures(request: Request) -> wire.FiguresReport:
    """`GET /v1/dashboard/figures`."""
    process, principal = process_of(request), principal_of(request)
    filters = filters_of(request.query_params, process, principal)
    return await process.dashboard.figures(filters, sees_all=process.dashboard.sees_all(principal.tenant))


@for_admins
async def promises(request: Request) -> wire.PromisesReport:
    """`GET /v1/dashboard/promises?since=7d`."""
    ago_s = evidence.seconds(request.query_params.get("since", evidence.SINCE))
    if ago_s is None:
        raise invalid("since", f"since: {evidence.DURATION}")
    process = process_of(request)
    is_alone = process.gate.keyring.auth_is_off  # there is no other tenant
    return await process.dashboard.promises(ago_s, _tenant(request), is_alone=is_alone)


@for_admins
async def now(request: Request) -> wire.Now:
    """`GET /v1/dashboard/now`."""
    process = process_of(request)
    return await at_this_moment(process, _tenant(request))


@for_admins
async def requests(request: Request) -> wire.Lines:
    """`GET /v1/dashboard/requests`."""
    process, principal, given = process_of(request), principal_of(request), request.query_params
    limit = given.get("limit", LIMIT)
    is_number = limit.isascii() and limit.isdigit() and len(limit) <= len(str(wire.MAX_LINES))
    if not (is_number and 1 <= int(limit) <= wire.MAX_LINES):
        raise invalid("limit", f"limit: expected a number from 1 to {wire.MAX_LINES}")
    status, source = _one_of(given, "status", STATUSES), _one_of(given, "source", SOURCES)
    selection = Selection(
        status=None if status is None else Status(status),
        source=source,
        code=given.get("code") or None,
        strategy=given.get("strategy") or None,
    )
    filters = filters_of(given, process, principal)
    return await process.dashboard.lines(filters, selection, int(limit), given.get("after"))


@for_admins
async def story(request: Request) -> wire.StoryReport:
    """`GET /v1/dashboard/requests/{id}`."""
    process, principal = process_of(request), principal_of(request)
    tenant = None if process.dashboard.sees_all(principal.tenant) else principal.tenant
    return await process.dashboard.story(request.path_params["id"], tenant)


def filters_of(given: Mapping[str, str], process: Process, principal: Principal) -> Filters:
    """Return the filters of a query. Raises `invalid_request` or `forbidden`."""
    named: dict[str, Any] = {name: given[name] for name in FILTERS if name in given}
    return read(Watch(**named), principal.tenant, sees_all=process.dashboard.sees_all(principal.tenant))


async def at_this_moment(process: Process, tenant: str | None) -> wire.Now:
    """Return what holds now, of a tenant or of all."""
    dashboard = process.dashboard
    try:
        budgets = await dashboard.budgets(tenant)
    except TimeoutError:  # the disk is slow; all else is known
        budgets = None
    return wire.Now(
        at=process.wall(),
        epoch=process.epoch,
        version=__version__,
        status="draining" if process.intake.closed else "ready",
        in_flight=dashboard.in_flight(tenant),
        queued_writes=process.backlog.queued,
        connections=process.gate.connections,
        models=model_health(process),
        hedges=hedges(process),
        budgets=budgets,
    )


def _tenant(request: Request) -> str | None:
    """Return whose figures are asked for; None: those of all."""
    given = {name: value for name, value in request.query_params.items() if name == "tenant"}
    return filters_of(given, process_of(request), principal_of(request)).tenant


def _one_of(given: Mapping[str, str], name: str, known: tuple[str, ...]) -> str | None:
    value = given.get(name) or None
    if value is not None and value not in known:
        raise invalid(name, f"{name}: expected one of {', '.join(known)}")
    return value
