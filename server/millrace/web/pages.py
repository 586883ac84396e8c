"""What needs no key, and what is no response: the page's files, health, models, contracts."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, structs
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from millrace import __version__
from millrace.errors import MillraceError
from millrace.funnel.ratios import Ratio
from millrace.funnel.record import Fared, PlaceReport, Report
from millrace.memory import MemoryBudget
from millrace.ports import Backlog
from millrace.ports.replicas import Stores
from millrace.principal import Role
from millrace.web.middleware import head_of
from millrace.web.process import Process
from millrace.web.refusals import PREFIX, is_of_anthropic
from millrace.wire import asyncapi as async_contract, contracts, documents, message_events, responses as wire
from millrace.wire.operation import Schema

PACKAGE = Path(__file__).parent.parent
STATIC = next(folder for folder in (PACKAGE / "static", PACKAGE.parent.parent / "static") if folder.is_dir())


def page(nowhere: ASGIApp) -> ASGIApp:
    """Return what answers where no route does: the page's files, but `nowhere` for the API's paths.

    A mount at "/" would hide the router's own 404 and 405 for /v1.
    """
    files = StaticFiles(directory=STATIC, html=True)

    async def files_or(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(_no_websocket(scope["path"]))
            return
        is_file = scope["type"] == "http" and not scope["path"].startswith(PREFIX)
        await (files if is_file else nowhere)(scope, receive, send)

    return files_or


def _no_websocket(path: str) -> Response:
    error = MillraceError("invalid_request", f"{path[:80]} is no WebSocket; connect to /v1/responses or /v1/chat/ws")
    return _json(documents.Refused(wire.error_body(error)), 404, {"X-Should-Retry": "false"})


async def upgrade_needed(request: Request) -> Response:
    """Answer a GET that does not ask for a WebSocket."""
    path = request.scope["path"]
    instead = (
        "GET /v1/dashboard/figures has the same over HTTP" if path == "/v1/dashboard/live" else "use POST for HTTP"
    )
    error = MillraceError("invalid_request", f"a GET of {path} must ask for a WebSocket; {instead}")
    return _json(documents.Refused(wire.error_body(error)), 426, {"Upgrade": "websocket"})


async def models(request: Request) -> Response:
    """List the names a request may give as its model, in the form of the API that is asked."""
    process: Process = request.state.process
    if is_of_anthropic(request.scope):
        found = [message_events.MessageModel(name, name) for name in process.funnel.catalog.names]
        return _json(message_events.MessageModels(found, found[0].id, found[-1].id))
    return _json(documents.ModelNames([documents.ModelName(name) for name in process.funnel.catalog.names]))


async def model(request: Request) -> Response:
    """Return one of these names, which may hold slashes. Raises `model_not_found`."""
    process: Process = request.state.process
    name = request.path_params["id"]
    if not name:  # `/v1/models/`
        return await models(request)
    if name not in process.funnel.catalog.names:
        raise process.funnel.catalog.not_found(name)
    if is_of_anthropic(request.scope):
        return _json(message_events.MessageModel(name, name))
    return _json(documents.ModelName(name))


async def healthz(request: Request) -> Response:
    """Report that the process is alive."""
    process: Process = request.state.process
    health = documents.Health("ok", __version__, process.epoch, process.funnel.running)
    siblings = None if process.elsewhere is None else process.elsewhere.siblings
    if siblings is not None:
        health.workers = documents.Workers(len(siblings.others) + 1, siblings.count)
    if process.elsewhere is not None and process.elsewhere.redis_is_away is not None:
        health.redis = "away" if process.elsewhere.redis_is_away else "ok"
    if _is_verbose(request, process):
        health.memory = _memory(process.memory)
        health.disk = _disk(process.backlog)
        health.shared = _shared(process.stores) if process.stores.by_name else UNSET
        catalog = process.funnel.catalog
        health.counting = [_counting(catalog.ratios.shown(model)) for model in catalog.identities]
    return _json(health)


async def readyz(request: Request) -> Response:
    """Report whether new requests are taken. Failing models do not change that.

    Others may answer, or a cache, and a replica has the same providers.
    """
    process: Process = request.state.process
    readiness = documents.Readiness("draining" if process.intake.closed else "ready")
    if _is_verbose(request, process):
        readiness.models = model_health(process)
        readiness.configuration = process.settings.state
        readiness.hedges = hedges(process)
    return _json(readiness, 503 if process.intake.closed else 200)


async def asyncapi(_: Request) -> Response:
    """Serve the contract of the WebSocket."""
    return Response(_contract(async_contract.document), media_type="application/json")


async def openapi(_: Request) -> Response:
    """Serve the contract of HTTP."""
    return Response(_contract(contracts.openapi), media_type="application/json")


def model_health(process: Process) -> list[documents.ModelHealth]:
    """Return how each model fares."""
    hedging = process.funnel.hedging
    return [_model(each, *hedging.ttft_ms(each.model.tier)) for each in process.funnel.health.reports()]


def hedges(process: Process) -> documents.Hedges:
    """Return what became of hedges."""
    return documents.Hedges(**structs.asdict(process.funnel.hedging.report()))


def _is_verbose(request: Request, process: Process) -> bool:
    """Whether more is asked for. Raises `unauthorized` or `forbidden` if it is not an admin who asks."""
    if request.query_params.get("verbose", "false").lower() in ("false", "0"):
        return False
    if process.gate.admit(head_of(request.scope, upgrade=False)).role is not Role.ADMIN:
        raise MillraceError("forbidden", "verbose: ask with an admin's key (`millrace keys add --role admin`)")
    return True


def _counting(ratio: Ratio) -> documents.Counting:
    model = ratio.model
    return documents.Counting(
        name=model.name,
        model=model.id,
        encoding=model.encoding.name,
        exact=model.encoding.is_own,
        ratio=round(ratio.in_use, 4),
        reported=None if ratio.reported is None else round(ratio.reported, 4),
    )


def _model(report: Report, ttft_p50_ms: float | None, ttft_p95_ms: float | None) -> documents.ModelHealth:
    return documents.ModelHealth(
        tier=report.model.tier.value,
        name=report.model.name,
        model=report.model.id,
        can_be_asked=report.can_be_asked,
        deployments=[_deployment(place) for place in report.places],
        **_fared(report.fared),
        ttft_p50_ms=ttft_p50_ms,
        ttft_p95_ms=ttft_p95_ms,
        input_tokens=report.input_tokens,
        cached_input_tokens=report.cached_input_tokens,
    )


def _deployment(place: PlaceReport) -> documents.DeploymentHealth:
    return documents.DeploymentHealth(
        label=place.label,
        weight=place.weight,
        running=place.running,
        breaker=place.breaker.value,
        why=place.why or None,
        **_fared(place.fared),
    )


def _fared(fared: Fared) -> dict[str, Any]:
    return {
        "status": fared.condition.value,
        "failing_since": fared.failing_since,
        "last_answer_at": fared.answered_at,
        "last_failure_at": fared.failed_at,
        "last_cause": fared.cause or None,
        "failures_last_minute": fared.last_minute,
        "failures_last_5_minutes": fared.last_minutes,
        "causes": fared.causes,
    }


def _memory(budget: MemoryBudget) -> documents.Memory:
    accounts = [documents.MemoryAccount(each.name, each.used(), each.allowed) for each in budget.accounts]
    return documents.Memory(sum(each.used for each in accounts), budget.limit, accounts)


def _disk(backlog: Backlog) -> documents.Disk:
    return documents.Disk(backlog.queued, backlog.queued_bytes, round(backlog.oldest_s, 3), backlog.dropped)


def _shared(stores: Stores) -> documents.Stores:
    answer: dict[str, Any] = {name: "away" if store.is_away else "ok" for name, store in stores.by_name.items()}
    if (spooled := stores.spooled) is not None:
        oldest_s = round(spooled.oldest_s, 3)
        answer["ledger"] = documents.Spooled(spooled.rows, oldest_s, spooled.bytes, spooled.max_bytes)
    return documents.Stores(**answer)


@cache
def _contract(write: Callable[[str], Schema]) -> bytes:
    return msgspec.json.encode(write(__version__))


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
