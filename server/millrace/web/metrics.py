"""`GET /metrics`: what Prometheus reads. Requests were counted as they ended; all else is looked up at a scrape.

Operators see all tenants: anyone where no key is needed or `[metrics] open` is set, and whoever sends the key of
`[metrics] key_env`. An admin's key shows the requests of its own tenant, and the process.
"""

import asyncio
import hmac
import platform

from starlette.requests import Request
from starlette.responses import Response

from millrace import __version__
from millrace.errors import MillraceError
from millrace.funnel.breaker import State
from millrace.ports.replicas import Stores
from millrace.principal import Role
from millrace.telemetry import families as the
from millrace.telemetry.numbers import Numbers, unpacked
from millrace.web.hops import FROM_SIBLING, HOP
from millrace.web.middleware import head_of
from millrace.web.process import Process, process_of


async def metrics(request: Request) -> Response:
    """`GET /metrics`. Of several workers any shows what all of them have counted, also those that are gone."""
    process = process_of(request)
    tenant, accept = _seen_by(request, process), request.headers.get("accept", "")
    numbers = Numbers()
    _look_at_process(numbers, process)
    _look_at_stores(numbers, process.stores)
    _look_at_models(numbers, process)
    _look_at_batches(numbers, process, tenant)
    await process.metrics.gathered(numbers, tenant, process.wall())
    if request.headers.get(HOP) == FROM_SIBLING:
        return Response(await asyncio.to_thread(numbers.packed), media_type="application/json")
    if (elsewhere := process.elsewhere) is not None and elsewhere.siblings is not None:
        shown = {name: request.headers[name] for name in ("authorization", "x-api-key") if name in request.headers}
        for packed in await elsewhere.of_siblings("/metrics", shown):
            numbers.add_sibling(unpacked(packed))
        for packed in await elsewhere.siblings.left() if tenant is None else ():
            numbers.add_sibling(unpacked(packed), is_gone=True)
    body, media_type = await asyncio.to_thread(_written, numbers, accept)
    return Response(body, headers={"Cache-Control": "no-store", "Content-Type": media_type})


def _written(numbers: Numbers, accept: str) -> tuple[bytes, str]:
    from millrace.telemetry.text import written  # noqa: PLC0415 - a server that nobody scrapes starts sooner without

    return written(numbers, accept)


def _seen_by(request: Request, process: Process) -> str | None:
    """Return whose requests are shown: one tenant's, or for None all. Raises `unauthorized` or `forbidden`."""
    access = process.metrics.access
    if access.is_open:
        return None
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if access.key and scheme.lower() == "bearer" and hmac.compare_digest(access.key.encode(), key.strip().encode()):
        return None
    principal = process.gate.admit(head_of(request.scope, upgrade=False))
    if principal.role is not Role.ADMIN:
        message = "ask with an admin's key (`millrace keys add --role admin`), or with the key of [metrics] key_env"
        raise MillraceError("forbidden", message)
    return None if process.gate.keyring.auth_is_off else principal.tenant


def _look_at_process(numbers: Numbers, process: Process) -> None:
    backlog, memory = process.backlog, process.memory
    numbers.count(the.IN_FLIGHT, (), process.funnel.running + process.embeddings.running)
    numbers.count(the.CONNECTIONS, (), process.gate.connections)
    numbers.count(the.STREAMS, (), len(process.streams))
    numbers.count(the.DRAINING, (), int(process.intake.closed))
    numbers.count(the.TASKS, (), len(asyncio.all_tasks()))
    numbers.count(the.QUEUED, (), backlog.queued)
    numbers.count(the.QUEUED_BYTES, (), backlog.queued_bytes)
    numbers.count(the.QUEUED_SECONDS, (), backlog.oldest_s)
    numbers.count(the.DROPPED, (), backlog.dropped)
    for account in memory.accounts:
        numbers.count(the.MEMORY, (account.name,), account.used())
    numbers.count(the.MEMORY_LIMIT, (), memory.limit)
    numbers.count(the.WORKERS, (), 1)
    numbers.count(the.BUILD, (__version__, platform.python_version()), 1)


def _look_at_stores(numbers: Numbers, stores: Stores) -> None:
    for name, store in stores.by_name.items():
        numbers.count(the.STORE_UP, (name,), int(not store.is_away))
    if (spooled := stores.spooled) is not None:
        numbers.count(the.WAITING_ROWS, (), spooled.rows)
        numbers.count(the.WAITING_SECONDS, (), spooled.oldest_s)
        numbers.count(the.WAITING_USED, (), spooled.bytes / spooled.max_bytes)


def _look_at_models(numbers: Numbers, process: Process) -> None:
    for report in process.funnel.health.reports():
        model = report.model
        numbers.count(the.CAN_BE_ASKED, (model.id, model.tier.value), int(report.can_be_asked))
        for place in report.places:
            name = model.id, model.name, place.label
            for state in State:
                numbers.count(the.BREAKER, (*name, state.value), int(place.breaker is state))
            numbers.count(the.RUNNING_CALLS, name, place.running)
            for cause, failures in place.fared.causes.items():
                numbers.count(the.FAILURES, (*name, cause), failures)


def _look_at_batches(numbers: Numbers, process: Process, tenant: str | None) -> None:
    for batch in process.batches.unfinished:
        if tenant in (None, batch.tenant):
            numbers.count(the.BATCHES, (batch.status.value,))
            for state, lines in (("total", batch.total), ("completed", batch.completed), ("failed", batch.failed)):
                numbers.count(the.BATCH_LINES, (state,), lines)
