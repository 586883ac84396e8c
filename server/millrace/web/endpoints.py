"""The endpoints under /v1: responses over WebSocket and HTTP, chat completions; cancel, replay, delete; tickets."""

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from millrace import log
from millrace.dialects.chat import completion_of, in_chat
from millrace.dialects.event_log import Codec, EventLog
from millrace.dialects.responses import EventCodec, body_of, in_responses
from millrace.errors import EXITS, FailedWithUsage, invalid
from millrace.runs.conversations import not_found
from millrace.runs.intake import TakenElsewhereError, repeat_of
from millrace.runs.kept import Repeat
from millrace.runs.run import Run
from millrace.types import Trace
from millrace.web import compressed
from millrace.web.arrivals import Arrival, arriving
from millrace.web.outbox import AsgiWriter, FrameWriter
from millrace.web.process import Process, principal_of, process_of
from millrace.web.session import Session
from millrace.web.socket_session import FAULT, Closed, SocketSession, close
from millrace.web.sse import SseResponse, WholeResponse
from millrace.web.trace_headers import trace_headers
from millrace.web.websocket import EXTENSION
from millrace.wire import chunks, completions, documents, limits, reading, requests, responses as wire, stored_items
from millrace.wire.sessions import naming, session_of
from millrace.wire.trace_context import trace_of

T = TypeVar("T")
ReadCreate = Callable[[dict[str, Any], Collection[str]], requests.Create]

MAX_TICKET_BODY = 4096  # bytes
MAX_PAGE = 100  # items
MAX_DIGITS = 12  # of the number of an event


async def websocket_responses(websocket: WebSocket) -> None:
    """`GET /v1/responses` with an upgrade: the Responses WebSocket mode."""
    offered = wire.SUBPROTOCOL in websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=wire.SUBPROTOCOL if offered else None)
    writer = websocket.scope["extensions"].get(EXTENSION) or AsgiWriter(websocket.send)
    negotiated = offered or websocket.query_params.get("millrace") == "1"
    state = websocket.state
    headers = naming(websocket.headers) | trace_headers(websocket.headers)
    session = Session(
        state.process, cast("FrameWriter", writer), state.principal, negotiated=negotiated, headers=headers
    )
    await converse(websocket, writer, session)


async def converse(websocket: WebSocket, writer: FrameWriter, session: SocketSession) -> None:
    """Let a session run to its end, and close the connection as it says."""
    try:
        await session.run(cast("Any", websocket.receive))
    except Closed as end:
        await close(websocket, writer, end.code, end.reason)
    except EXITS:
        raise
    except BaseException as error:
        log.get().error("session crashed", exc_info=error)
        await close(websocket, writer, limits.CloseCode.FAULT, FAULT)


async def create_response(request: Request) -> Response:
    """`POST /v1/responses`."""
    create, run = await started(request, requests.read_create)
    if create.stream:
        return _events(request, run)
    return WholeResponse(run, partial(_response, run))


async def create_completion(request: Request) -> Response:
    """`POST /v1/chat/completions`."""
    create, run = await started(request, completions.read_completion)
    if not create.stream:
        return WholeResponse(run, partial(_completion, run))
    process = process_of(request)
    shown = run.projection(in_chat(include_usage=create.include_usage))
    return streamed(process, run, shown.event_log, chunks.ChatCodec(), partial(_completion, run))


async def cancel(request: Request) -> Response:
    """`POST /v1/responses/{id}/cancel`: the response as it ended, with what it cost."""
    run = _found(request)
    run.cancel()
    return WholeResponse(run, lambda: wire.encode(body_of(run.response, run.created_at)))


async def retrieve(request: Request) -> Response:
    """`GET /v1/responses/{id}`: as it is, or its events after a number (`?stream=true&starting_after=N`)."""
    process, principal = process_of(request), principal_of(request)
    response_id = request.path_params["id"]
    if request.query_params.get("stream", "false").lower() not in ("true", "1"):
        body = await process.conversations.body(principal.tenant, response_id)
        return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")
    run = _found(request)
    after = _after(request.query_params.get("starting_after"))
    run.check_replay(in_responses(negotiated=False), after, "starting_after")
    return _events(request, run, after + 1)


async def input_items(request: Request) -> Response:
    """`GET /v1/responses/{id}/input_items`: what it was made from, a page at a time, the latest first."""
    given = request.query_params
    order, limit, after = given.get("order", "desc"), given.get("limit", "20"), given.get("after")
    if order not in ("asc", "desc"):
        raise invalid("order", "order: write asc or desc")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= MAX_DIGITS and 1 <= int(limit) <= MAX_PAGE):
        raise invalid("limit", f"limit: expected a number from 1 to {MAX_PAGE}")
    pieces = await process_of(request).conversations.input_items(
        principal_of(request).tenant, request.path_params["id"]
    )
    ids = [*pieces] if order == "asc" else [*pieces][::-1]
    if after is not None and after not in pieces:
        raise invalid("after", f"after: {after[:80]!r} is no item of this list")
    rest = ids if after is None else ids[ids.index(after) + 1 :]
    page = rest[: int(limit)]
    answer = stored_items.InputItems(
        data=[stored_items.listed(item_id, pieces[item_id]) for item_id in page],
        first_id=page[0] if page else None,
        last_id=page[-1] if page else None,
        has_more=len(page) < len(rest),
    )
    return Response(wire.encode(answer), headers={"Cache-Control": "no-store"}, media_type="application/json")


async def delete(request: Request) -> Response:
    """`DELETE /v1/responses/{id}`."""
    response_id = request.path_params["id"]
    await process_of(request).conversations.delete(principal_of(request).tenant, response_id)
    return Response(msgspec.json.encode(wire.Deleted(id=response_id)), media_type="application/json")


async def tickets(request: Request) -> Response:
    """`POST /v1/tickets`: exchange a key for a ticket."""
    process: Process = request.state.process

    def read(body: bytes) -> documents.TicketRequest:
        return reading.convert(reading.decode(body or b"{}", "the body"), documents.TicketRequest)

    asked = await opened(request, MAX_TICKET_BODY, read)
    origin = asked.origin or request.headers.get("origin")
    if origin is None:
        raise invalid("origin", 'origin: missing; name the page that will connect: {"origin": "https://app.example"}')
    ticket = process.gate.ticket(request.state.principal, origin)
    await process.gate.tickets.share(ticket, origin)
    answer = documents.TicketAnswer(ticket=ticket, expires_at=int(process.wall() + limits.TICKET_S))
    return Response(msgspec.json.encode(answer), 201, {"Cache-Control": "no-store"}, media_type="application/json")


class AnsweredElsewhere(Exception):  # noqa: N818 - no error
    """Another replica has the answer to a request."""

    def __init__(self, answer: Response) -> None:
        super().__init__("another replica answers")
        self.answer = answer


async def answered_elsewhere(_: Request, found: Exception) -> Response:
    """Return the answer of another replica."""
    assert isinstance(found, AnsweredElsewhere), "it is called for these"
    return found.answer


async def started(request: Request, read: ReadCreate) -> tuple[requests.Create, Run]:
    """Read a request's body, off the loop if it is long, and start it. Raises `AnsweredElsewhere`."""
    process, principal = process_of(request), principal_of(request)

    def read_all(body: bytes) -> tuple[requests.Create, Repeat | None, bytes, str, Trace | None]:
        fields = reading.decode(body, "the body")
        create = read(fields, process.funnel.checks.names)
        named = session_of(fields, request.headers), trace_of(fields, trace_headers(request.headers))
        repeat = repeat_of(create, fields, principal)
        return create, repeat, body if repeat else b"", *named

    async with arriving(request, process) as arrival:
        create, repeat, kept, session, trace = await read_body(request, arrival, process.max_message_bytes, read_all)
        asked = process.intake.read(
            create, principal, arrival.held, negotiated=False, session=session, streamed=create.stream, trace=trace
        )
        try:
            run = await process.intake.start(asked, principal, arrival.held, repeat)
        except asyncio.CancelledError:  # its client has gone; it still gets its row in the ledger
            process.intake.drop(asked, arrival.held)
            raise
        except TakenElsewhereError as taken:
            if process.elsewhere is None:
                raise
            scope, receive = request.scope, request.receive
            answer = await process.elsewhere.repeated(taken.response_id, kept, scope, request.url.path, receive)
            raise AnsweredElsewhere(answer) from None
    request.state.request_id = run.request.id
    return create, run


def _events(request: Request, run: Run, start: int = 0) -> SseResponse:
    process = process_of(request)
    shown = run.projection(in_responses(negotiated=False))
    return streamed(process, run, shown.event_log, EventCodec(shown, sse=True), partial(_response, run), start)


def streamed(
    process: Process,
    run: Run,
    event_log: EventLog,
    codec: Codec,
    make: Callable[[], bytes],
    start: int = 0,
) -> SseResponse:
    """Return a run as server-sent events; `make` returns the answer in one piece, or raises why there is none."""
    return SseResponse(
        run,
        event_log,
        codec,
        streams=process.streams,
        clock=process.clock,
        stuck_s=process.stuck_s,
        make=make,
        start=start,
    )


def _completion(run: Run) -> bytes:
    return msgspec.json.encode(completion_of(run.response, run.created_at))


def _response(run: Run) -> bytes:
    ended = run.response.ended
    assert ended is not None, "it has ended"
    body = body_of(run.response, run.created_at)
    if body.error is not None and ended.error is not None:
        raise FailedWithUsage(ended.error, body.usage)
    return wire.encode(body)


async def opened(request: Request, limit: int, work: Callable[[bytes], T]) -> T:
    """Return what `work` makes of a request's body, which may be compressed, off the loop if it is long."""
    async with arriving(request, process_of(request)) as arrival:
        return await read_body(request, arrival, limit, work)


async def read_body(request: Request, arrival: Arrival, limit: int, work: Callable[[bytes], T]) -> T:
    """Return what `work` makes of the body of a request on its way."""
    encoding = compressed.check_encoding(request.headers.get("content-encoding", ""))
    body = await arrival.body(limit)
    return await compressed.read(principal_of(request).tenant, body, encoding, limit, work)


def _found(request: Request) -> Run:
    response_id = request.path_params["id"]
    run = process_of(request).conversations.run(principal_of(request).tenant, response_id)
    if run is None:
        raise not_found(response_id)
    return run


def _after(given: str | None) -> int:
    if given is None:
        return -1
    if not (given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS):
        raise invalid("starting_after", "starting_after: expected the number of the last event that was seen")
    return int(given)
