"""The HTTP side of the same funnel: Responses and chat completions, streamed or whole; cancel, resume, delete."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from millrace.dialects.chat import completion_of, in_chat
from millrace.dialects.event_log import Codec, EventLog
from millrace.dialects.responses import EventCodec, body_of, in_responses
from millrace.errors import MillraceError, Unanswered, invalid
from millrace.funnel import checks
from millrace.principal import Principal
from millrace.runs.conversations import not_found
from millrace.runs.intake import repeat_of
from millrace.runs.runs import MAX_LOG, Run
from millrace.web.middleware import read_body
from millrace.web.process import Process
from millrace.web.sse import SseResponse, WholeResponse
from millrace.wire import chunks, completions, reading, requests, responses as wire

MAX_DIGITS = 12  # of the number of an event


async def create_response(request: Request) -> Response:
    """`POST /v1/responses`."""
    fields = await _body(request)
    create = requests.read_create(fields, checks.NAMES)
    run = await _started(request, create, fields)
    if create.stream:
        return _events(request, run)
    return WholeResponse(run, partial(_response, run))


async def create_completion(request: Request) -> Response:
    """`POST /v1/chat/completions`."""
    fields = await _body(request)
    create = completions.read_completion(fields, checks.NAMES)
    run = await _started(request, create, fields)
    if not create.stream:
        return WholeResponse(run, partial(_completion, run))
    process = _process(request)
    shown = run.projection(in_chat(include_usage=create.include_usage))
    return _stream(process, run, shown.event_log, chunks.ChatCodec(), partial(_completion, run))


async def cancel(request: Request) -> Response:
    """`POST /v1/responses/{id}/cancel`: the response as it ended, with what it cost."""
    run = _found(request)
    run.cancel()
    return WholeResponse(run, lambda: wire.encode(body_of(run.response, run.created_at)))


async def retrieve(request: Request) -> Response:
    """`GET /v1/responses/{id}`: as it is, or told from an event on (`?stream=true&starting_after=N`)."""
    process, principal = _process(request), _principal(request)
    response_id = request.path_params["id"]
    if request.query_params.get("stream", "false").lower() not in ("true", "1"):
        body = await process.conversations.body(principal.tenant, response_id)
        return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")
    run = _found(request)
    after = _after(request.query_params.get("starting_after"))
    known = run.projections.get(in_responses(negotiated=False))
    if run.log_bytes > MAX_LOG:
        raise MillraceError("resume_gap", "the response is too long to be told again")
    if after >= 0 and (known is None or after >= len(known.event_log.written)):
        raise MillraceError("resume_gap", f"starting_after: event {after} was never sent in this dialect")
    return _events(request, run, after + 1)


async def delete(request: Request) -> Response:
    """`DELETE /v1/responses/{id}`."""
    response_id = request.path_params["id"]
    await _process(request).conversations.delete(_principal(request).tenant, response_id)
    return Response(msgspec.json.encode(wire.Deleted(id=response_id)), media_type="application/json")


async def _body(request: Request) -> dict[str, Any]:
    return reading.decode(await read_body(request, _process(request).max_message_bytes), "the body")


async def _started(request: Request, create: requests.Create, fields: dict[str, Any]) -> Run:
    process, principal = _process(request), _principal(request)
    asked = process.intake.read(create, principal, negotiated=False)
    return await process.intake.start(asked, principal, repeat_of(create, fields, principal))


def _events(request: Request, run: Run, start: int = 0) -> SseResponse:
    process = _process(request)
    shown = run.projection(in_responses(negotiated=False))
    return _stream(process, run, shown.event_log, EventCodec(shown, sse=True), partial(_response, run), start)


def _stream(
    process: Process, run: Run, event_log: EventLog, codec: Codec, make: Callable[[], bytes], start: int = 0
) -> SseResponse:
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
        raise Unanswered(ended.error, body.usage)
    return wire.encode(body)


def _found(request: Request) -> Run:
    response_id = request.path_params["id"]
    run = _process(request).conversations.run(_principal(request).tenant, response_id)
    if run is None:
        raise not_found(response_id)
    return run


def _after(given: str | None) -> int:
    if given is None:
        return -1
    if not (given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS):
        raise invalid("starting_after", "starting_after: expected the number of the last event that was seen")
    return int(given)


def _process(request: Request) -> Process:
    process: Process = request.state.process
    return process


def _principal(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal
