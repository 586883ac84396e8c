"""`GET /v1/ledger`: what requests have cost and why, for admins, of their tenant."""

import asyncio
import math

import msgspec
from starlette.requests import Request

from millrace.errors import MillraceError, invalid
from millrace.types import Entry, Selection
from millrace.web.admins import for_admins
from millrace.web.process import principal_of, process_of
from millrace.wire import ledger as wire

ORDERS = ("desc", "asc")


@for_admins
async def show(request: Request) -> wire.LedgerEntry:
    """`GET /v1/ledger/{id}`."""
    _, row = await _found(request, request.path_params["id"])
    return wire.entry(row)


@for_admins
async def rows(request: Request) -> msgspec.Raw:
    """`GET /v1/ledger?after=&limit=&order=`: requests in the order in which they have ended."""
    given = request.query_params
    limit, order, after = given.get("limit", "100"), given.get("order", ORDERS[0]), given.get("after")
    is_number = limit.isascii() and limit.isdigit() and len(limit) <= len(str(wire.MAX_LIMIT))
    if not (is_number and 1 <= int(limit) <= wire.MAX_LIMIT):
        raise invalid("limit", f"limit: expected a number from 1 to {wire.MAX_LIMIT}")
    if order not in ORDERS:
        raise invalid("order", "order: expected desc (the latest first) or asc")
    most = int(limit) + 1
    selection = Selection(tenant=principal_of(request).tenant)
    number = None if after is None else (await _found(request, after, "after"))[0]
    read = process_of(request).ledger
    if order == "desc":
        found, _ = await read.latest(selection, most, before=math.inf if number is None else number)
    else:
        found, _ = await read.after(number or 0, selection, most)
    return await asyncio.to_thread(_document, found, most)


def _document(found: list[Entry], most: int) -> msgspec.Raw:
    data = [wire.entry(row) for row in found[: most - 1]]
    ends = (data[0].id, data[-1].id) if data else (None, None)
    document = wire.LedgerEntries(data=data, first_id=ends[0], last_id=ends[1], has_more=len(found) == most)
    return msgspec.Raw(msgspec.json.encode(document))


async def _found(request: Request, request_id: str, param: str = "id") -> tuple[int, Entry]:
    found = await process_of(request).ledger.find(request_id, principal_of(request).tenant)
    if found is None:
        message = (
            f"{param}: the ledger has no request {request_id[:80]!r}; it is written some milliseconds after its end"
        )
        raise MillraceError("entry_not_found", message, param=param)
    return found
