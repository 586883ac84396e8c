"""`/v1/batches`: files of requests that are run in their own time."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from millrace.runs.intake import draining
from millrace.types import Batch
from millrace.web.endpoints import opened
from millrace.web.files import page_of
from millrace.web.process import principal_of, process_of
from millrace.wire import batches as wire
from millrace.wire.reading import decode

MAX_BODY = 64 * 1024  # bytes
DEFAULT_PAGE = 20


async def create(request: Request) -> Response:
    """`POST /v1/batches`."""
    process = process_of(request)
    asked = await opened(request, MAX_BODY, lambda body: wire.read_batch(decode(body, "the body")))
    if process.intake.closed:
        raise draining()
    return _shown(request, await process.batches.create(principal_of(request), asked))


async def listed(request: Request) -> Response:
    """`GET /v1/batches`: a page of the tenant's batches, the newest first."""
    batches = process_of(request).batches
    limit, after = page_of(request, DEFAULT_PAGE, wire.MAX_BATCHES)
    found, has_more = await batches.page(principal_of(request).tenant, after, limit)
    data = [wire.batch_object(batch, batches.waits_for(batch)) for batch in found]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return _json(wire.BatchObjects(data=data, first_id=first, last_id=last, has_more=has_more))


async def show(request: Request) -> Response:
    """`GET /v1/batches/{id}`."""
    return _shown(request, await process_of(request).batches.find(principal_of(request).tenant, _id(request)))


async def cancel(request: Request) -> Response:
    """`POST /v1/batches/{id}/cancel`."""
    return _shown(request, await process_of(request).batches.cancel(principal_of(request).tenant, _id(request)))


def _id(request: Request) -> str:
    batch_id: str = request.path_params["id"]
    return batch_id


def _shown(request: Request, batch: Batch) -> Response:
    return _json(wire.batch_object(batch, process_of(request).batches.waits_for(batch)))


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), headers={"Cache-Control": "no-store"}, media_type="application/json")
