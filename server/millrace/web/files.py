"""`/v1/files`: files are uploaded in pieces to the disk, listed, read and deleted."""

import asyncio
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from millrace.batches.files import Files, Upload, file_not_found
from millrace.errors import MillraceError, invalid, slow_consumer
from millrace.runs.intake import draining
from millrace.types import KeptFile
from millrace.web import compressed
from millrace.web.arrivals import Arrival, arriving
from millrace.web.http1 import TimedHttp
from millrace.web.multipart import Form, Part
from millrace.web.process import principal_of, process_of
from millrace.web.sse import until_gone
from millrace.web.websocket import EXTENSION
from millrace.wire import batches as wire, limits
from millrace.wire.reading import convert

MAX_FIELD = 1024  # bytes of a field of the form that is not the file
AROUND_FILE = 64 * 1024  # bytes of the form beside the file
PIECE = 256 * 1024  # bytes that are read and sent at once
FILE, PURPOSE, EXPIRES = "file", "purpose", "expires_after[seconds]"


async def upload(request: Request) -> Response:
    """`POST /v1/files`: a form with `file` and `purpose`."""
    process, tenant = process_of(request), principal_of(request).tenant
    files = process.batches.files
    if process.intake.closed:
        raise draining()
    if compressed.check_encoding(request.headers.get("content-encoding", "")) not in ("", "identity"):
        message = "Content-Encoding: a file is uploaded as it is; send no encoding"
        raise MillraceError("unsupported_encoding", message, param="Content-Encoding")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limits.BATCH_BYTES + AROUND_FILE:
        raise wire.too_big(f"{limits.BATCH_BYTES // 10**6} MB")
    connection: TimedHttp | None = request.scope.get("extensions", {}).get(EXTENSION)
    if connection is not None:
        connection.expect_longer(limits.BATCH_BYTES)
    form = Form(request.headers.get("content-type", ""))
    async with files.receiving(tenant) as receiving, arriving(request, process) as arrival:
        file = await _received(arrival, form, receiving)
    return _json(wire.file_object(file))


async def _received(arrival: Arrival, form: Form, upload: Upload) -> KeptFile:
    """Take the parts of a form as they come, in any order; return the file that was kept."""
    fields: dict[str, bytearray] = {}
    name: str | None = None
    at = ""  # the field that comes now
    async for piece in arrival.pieces(limits.BATCH_BYTES + AROUND_FILE):
        for found in form.feed(piece):
            if isinstance(found, Part):
                at = found.name
                if at == FILE:
                    if name is not None:
                        raise invalid(FILE, "file: there are two; send one at a time")
                    name = found.filename or ""
                elif at:
                    fields[at] = bytearray()
            elif at == FILE:
                await upload.add(found)
            else:
                fields[at] += found
                if len(fields[at]) > MAX_FIELD:
                    raise invalid(at[:40], f"{at[:40]}: longer than {MAX_FIELD} bytes")
    form.end()
    purpose = fields.get(PURPOSE, bytearray()).decode("utf-8", "replace").strip()
    if purpose != "batch":
        shown = repr(purpose[:40]) if purpose else "missing"
        raise invalid(PURPOSE, f'purpose: {shown}; write "batch", there is no other one')
    if name is None:
        raise invalid(FILE, "file: missing; send the file in a field of this name")
    expires_after_s = None
    if EXPIRES in fields:
        seconds = fields[EXPIRES].decode("utf-8", "replace")
        expires = convert({"seconds": seconds}, wire.ExpiresAfter, "expires_after", strict=False)
        expires_after_s = expires.seconds
    return await upload.keep(name, expires_after_s)


async def listed(request: Request) -> Response:
    """`GET /v1/files`: a page of the tenant's files, the newest first."""
    given = request.query_params
    order = given.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid("order", "order: write asc or desc")
    limit, after = page_of(request, wire.MAX_FILES, wire.MAX_FILES)
    found, has_more = await process_of(request).batches.files.page(
        principal_of(request).tenant, after, limit, oldest_first=order == "asc", purpose=given.get("purpose")
    )
    data = [wire.file_object(file) for file in found]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return _json(wire.FileObjects(data=data, first_id=first, last_id=last, has_more=has_more))


async def show(request: Request) -> Response:
    """`GET /v1/files/{id}`."""
    file = await process_of(request).batches.files.find(principal_of(request).tenant, request.path_params["id"])
    return _json(wire.file_object(file))


async def content(request: Request) -> Response:
    """`GET /v1/files/{id}/content`: its bytes."""
    process = process_of(request)
    files = process.batches.files
    file = await files.find(principal_of(request).tenant, request.path_params["id"])
    if file.size and not await files.piece(file, 0, 1):
        raise file_not_found(file.id)  # it was deleted just now
    return _Content(file, files, process.stuck_s)


async def delete(request: Request) -> Response:
    """`DELETE /v1/files/{id}`."""
    file_id = request.path_params["id"]
    await process_of(request).batches.delete_file(principal_of(request).tenant, file_id)
    return _json(wire.FileDeleted(id=file_id))


class _Content(Response):
    """The bytes of a file, piece by piece. It ends when its client goes away, or takes nothing for too long."""

    media_type = "application/octet-stream"

    def __init__(self, file: KeptFile, files: Files, stuck_s: float) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "Content-Disposition": "attachment"})
        self.headers["Content-Length"] = str(file.size)
        self._file = file
        self._files = files
        self._stuck_s = stuck_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end."""
        await until_gone(asyncio.get_running_loop().create_task(self._send_all(send)), receive)

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": self.raw_headers})
        at = 0
        while at < self._file.size:
            piece = await self._files.piece(self._file, at, min(PIECE, self._file.size - at))
            if not piece:  # it was deleted meanwhile, and its client sees that it is not whole
                return
            try:
                async with asyncio.timeout(self._stuck_s):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except TimeoutError:
                raise slow_consumer(self._stuck_s) from None
            at += len(piece)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def page_of(request: Request, default: int, most: int) -> tuple[int, str | None]:
    """Return how many are wanted, and after which one."""
    given = request.query_params
    limit = given.get("limit", str(default))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= len(str(most)) and 1 <= int(limit) <= most):
        raise invalid("limit", f"limit: expected a number from 1 to {most}")
    return int(limit), given.get("after")


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), headers={"Cache-Control": "no-store"}, media_type="application/json")
