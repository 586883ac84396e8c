"""`POST /v1/messages` and `/v1/messages/count_tokens`: the Messages API of Anthropic."""

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from millrace import tokens
from millrace.dialects.messages import in_messages, message_of
from millrace.funnel.offload import in_thread_if_long
from millrace.runs.run import Run
from millrace.web.arrivals import arriving
from millrace.web.endpoints import read_body, started, streamed
from millrace.web.process import Process
from millrace.web.sse import WholeResponse
from millrace.wire import message_events as wire
from millrace.wire.messages import HEADERS, read_count, read_messages
from millrace.wire.reading import decode
from millrace.wire.requests import Create

ReadMessages = Callable[[dict[str, Any], Collection[str], Mapping[str, str]], Create]


async def create_message(request: Request) -> Response:
    """`POST /v1/messages`."""
    process: Process = request.state.process
    create, run = await started(request, _reader(request, read_messages))
    make = partial(_message, run, create.model)
    if not create.stream:
        return WholeResponse(run, make)
    shown = run.projection(in_messages(create.model))
    codec = wire.MessagesCodec(run.request.id)
    return streamed(process, run, shown.event_log, codec, make)


async def count_tokens(request: Request) -> Response:
    """`POST /v1/messages/count_tokens`: the tokens of a request that is not made, as its model would count them.

    Where the choice is left to the router, that is the large model.
    """
    process: Process = request.state.process
    read = _reader(request, read_count)

    def read_all(body: bytes) -> Create:
        return read(decode(body, "the body"), process.funnel.checks.names)

    async with arriving(request, process) as arrival:
        asked = await read_body(request, arrival, process.max_message_bytes, read_all)
        catalog = process.funnel.catalog
        _, strategy = catalog.resolve(asked.model, asked.strategy)
        model = catalog.bound_by(strategy)[0]
        count = partial(tokens.count_prompt, asked.prompt, by=model.encoding.name)
        counted = await in_thread_if_long(request.state.principal.tenant, asked.prompt.size, count)
        counted = math.ceil(counted * catalog.ratios.of(model))
    return Response(
        msgspec.json.encode(wire.TokenCount(counted)),
        headers={"Cache-Control": "no-store"},
        media_type="application/json",
    )


def _reader(request: Request, read: ReadMessages) -> Callable[[dict[str, Any], Collection[str]], Create]:
    """Return a reader of the body that knows the headers for a model of this API."""
    given = {name: ",".join(request.headers.getlist(name)) for name in HEADERS if name in request.headers}
    return lambda fields, names: read(fields, names, given)


def _message(run: Run, model: str) -> bytes:
    return msgspec.json.encode(message_of(run.response, model))
