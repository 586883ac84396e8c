"""How a script goes over the socket: as a stream or whole, to the end or to its fault."""

import asyncio
import socket
import struct
from typing import NoReturn

from aiohttp import web

from millrace.simulator.faults import REFUSALS, SERVER_ERROR, Fault, Kind, Refusal
from millrace.simulator.script import Script
from millrace.simulator.shapes import Envelope, event
from millrace.simulator.stats import Call

_EVENT_STREAM = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
_MALFORMED = b'data: {"choices": [{"index": 0, "delta": {"cont\n\n'
_WEB_PAGE = "<!doctype html><title>Welcome</title><p>Please sign in to the network. (simulated)</p>"


def json_response(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A response with an encoded JSON document."""
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


async def deliver_instead(fault: Fault, ttft_s: float | None, call: Call) -> web.Response:
    """Send what a fault puts in place of an answer."""
    await asyncio.sleep(ttft_s or 0)  # refusals are quick, unless the caller asks for a slow one
    if refusal := REFUSALS.get(fault.kind):
        return _refuse(refusal, call)
    if fault.kind is Kind.SILENT:
        await _until_client_leaves()
    call.fail()
    return web.Response(text=_WEB_PAGE, content_type="text/html")


async def deliver_stream(request: web.Request, script: Script, envelope: Envelope, call: Call) -> web.StreamResponse:
    """Send server-sent events, one for each token, each at its time."""
    start = asyncio.get_running_loop().time()
    await _sleep_until(start + script.pace.ttft_s)  # headers come with the first token, as from a real provider
    response = web.StreamResponse(headers=_EVENT_STREAM)
    await response.prepare(request)
    await response.write(envelope.opening())
    for delta, offset in zip(script.spoken, script.pace.offsets(), strict=False):
        await _sleep_until(start + offset)
        await response.write(envelope.token(delta))
        call.sent()
    if script.fault and script.fault.breaks_off:
        await _break_off(script.fault.kind, request, response, call)
    else:
        await response.write_eof(envelope.ending(script.finish_reason))
    return response


async def deliver_whole(request: web.Request, script: Script, envelope: Envelope, call: Call) -> web.StreamResponse:
    """Send one JSON document when its last token would have come."""
    await asyncio.sleep(script.pace.after(len(script.spoken)))
    document = envelope.completion(script.deltas, script.finish_reason)
    if not (script.fault and script.fault.breaks_off):
        call.sent(len(script.deltas))
        return json_response(document)
    if script.fault.kind is Kind.ERROR:
        return _refuse(SERVER_ERROR, call)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(document[: len(document) // 2])
    await _break_off(script.fault.kind, request, response, call)
    return response


def _refuse(refusal: Refusal, call: Call) -> web.Response:
    call.fail()
    return json_response(refusal.body(), refusal.status, refusal.headers)


async def _break_off(kind: Kind, request: web.Request, response: web.StreamResponse, call: Call) -> None:
    """End a response that has begun in the way of a fault."""
    if kind is Kind.STALL:
        await _until_client_leaves()
    call.fail()  # first: closing our side cancels this task just as the client's leaving does
    match kind:
        case Kind.HANGUP:
            _transport(request).close()
        case Kind.RESET:
            _reset(_transport(request))
        case Kind.ERROR | Kind.MALFORMED:
            response.force_close()
            await response.write_eof(event(SERVER_ERROR.body()) if kind is Kind.ERROR else _MALFORMED)
        case _:
            await response.write_eof()


def _reset(transport: asyncio.Transport) -> None:
    """Close with a TCP RST: that is what close() sends when it may not linger."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _transport(request: web.Request) -> asyncio.Transport:
    if request.transport is None:
        raise ConnectionResetError("the client has gone")
    return request.transport


async def _until_client_leaves() -> NoReturn:
    """Wait to be cancelled, which is how the server passes on that the client has gone."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable")


async def _sleep_until(moment: float) -> None:
    """Sleep; even a token that is late lets the other calls have a turn."""
    await asyncio.sleep(max(0, moment - asyncio.get_running_loop().time()))
