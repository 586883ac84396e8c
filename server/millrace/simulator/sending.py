"""Sends a script over the socket: streamed or as one document, to its end or to its fault."""

import asyncio
import socket
import struct
from typing import NoReturn

from aiohttp import web

from millrace.simulator.faults import HTTP_ERRORS, SERVER_ERROR, Fault, HttpError, Kind
from millrace.simulator.script import Script
from millrace.simulator.shapes import Envelope, event
from millrace.simulator.stats import Call

SOCKET_BYTES = 32 * 1024  # that the system takes ahead of a reader: one that does not read soon stops the answer
_EVENT_STREAM = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
_MALFORMED = b'data: {"choices": [{"index": 0, "delta": {"cont\n\n'
_WEB_PAGE = "<!doctype html><title>Welcome</title><p>Please sign in to the network. (simulated)</p>"


def json_response(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a response with an encoded JSON document."""
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


async def deliver_instead(fault: Fault, ttft_s: float | None, call: Call) -> web.Response:
    """Send what the fault puts in place of an answer: an error, a web page, or nothing."""
    await asyncio.sleep(ttft_s or 0)  # errors are sent at once, unless the caller sets `ttft`
    if error := HTTP_ERRORS.get(fault.kind):
        return _send_error(error, call)
    if fault.kind is Kind.SILENT:
        await _wait_for_disconnect()
    call.fail()
    return web.Response(text=_WEB_PAGE, content_type="text/html")


async def deliver_stream(request: web.Request, script: Script, envelope: Envelope, call: Call) -> web.StreamResponse:
    """Send one server-sent event for each token, paced by the script."""
    start = asyncio.get_running_loop().time()
    await _sleep_until(start + script.pace.ttft_s)  # a real provider also sends headers with the first token
    response = web.StreamResponse(headers=_EVENT_STREAM)
    await response.prepare(request)
    _socket(request).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    await response.write(envelope.opening())
    for delta, offset in zip(script.deltas_before_fault, script.pace.offsets(), strict=False):
        await _sleep_until(start + offset)
        await response.write(envelope.token(delta))
        call.sent()
    if script.fault and script.fault.breaks_off:
        await _break_off(script.fault.kind, request, response, call)
    else:
        await response.write_eof(envelope.ending(script.finish_reason))
    return response


async def deliver_whole(request: web.Request, script: Script, envelope: Envelope, call: Call) -> web.StreamResponse:
    """Send one JSON document at the time of its last token."""
    await asyncio.sleep(script.pace.after(len(script.deltas_before_fault)))
    document = envelope.completion(script.deltas, script.finish_reason)
    if not (script.fault and script.fault.breaks_off):
        call.sent(len(script.deltas))
        return json_response(document)
    if script.fault.kind is Kind.ERROR:
        return _send_error(SERVER_ERROR, call)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(document[: len(document) // 2])
    await _break_off(script.fault.kind, request, response, call)
    return response


def _send_error(error: HttpError, call: Call) -> web.Response:
    call.fail()
    return json_response(error.body(), error.status, error.headers)


async def _break_off(kind: Kind, request: web.Request, response: web.StreamResponse, call: Call) -> None:
    """End a response that has started, in the way of a fault."""
    if kind is Kind.STALL:
        await _wait_for_disconnect()
    call.fail()  # count it first: closing the transport cancels this task like a disconnect, which counts as aborted
    match kind:
        case Kind.HANGUP:
            _transport(request).close()
        case Kind.RESET:
            _reset(request)
        case Kind.ERROR | Kind.MALFORMED:
            response.force_close()
            await response.write_eof(event(SERVER_ERROR.body()) if kind is Kind.ERROR else _MALFORMED)
        case _:
            await response.write_eof()


def _reset(request: web.Request) -> None:
    """Close with a TCP RST: close() sends one if SO_LINGER is on with a timeout of 0."""
    _socket(request).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    _transport(request).abort()


def _socket(request: web.Request) -> socket.socket:
    found: socket.socket = _transport(request).get_extra_info("socket")
    return found


def _transport(request: web.Request) -> asyncio.Transport:
    if request.transport is None:
        raise ConnectionResetError("the client has disconnected")
    return request.transport


async def _wait_for_disconnect() -> NoReturn:
    """Wait until the client disconnects; the server then cancels this task."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable")


async def _sleep_until(moment: float) -> None:
    """Sleep until `moment`; if it has passed, yield to other tasks once."""
    await asyncio.sleep(max(0, moment - asyncio.get_running_loop().time()))
