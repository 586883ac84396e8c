"""Requests over aiohttp, whose responses are pulled: the reference for our own reader, and the way through a proxy."""

import asyncio
import io
import os
import socket
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from millrace.upstreams.exchange import KERNEL_BYTES, READ_BYTES, TRANSIENT, ConnectError, ResponseError, Take, Traced

LARGE_BODY = 2**20  # bytes of a request; a larger one is not written at once
MAX_HEADER = 64 * 1024  # bytes of a line of a response's head, and of a header
HEAD_END = b"\r\n\r\n"


class PullingConnections:
    """The connections of aiohttp: pooled ones, and new ones for a second try. Must be made in a running loop."""

    def __init__(self) -> None:
        self._pooled = _session(force_close=False)
        self._new = _session(force_close=True)

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        call: Traced,
        *,
        proxy: str | None,
        connect_timeout_s: float,
        new: bool,
    ) -> "PulledResponse":
        """Send a request; return its response once the head has come. Raises `ConnectError` or `ResponseError`."""
        try:
            response = await (self._new if new else self._pooled).post(
                url,
                data=io.BytesIO(body) if len(body) > LARGE_BODY else body,  # in pieces
                headers=headers,
                proxy=proxy,
                timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout_s),
                allow_redirects=False,
                trace_request_ctx=call,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _fault(error) from error
        return PulledResponse(response)

    async def close(self) -> None:
        """Close all connections."""
        await self._pooled.close()
        await self._new.close()


class PulledResponse:
    """A response of aiohttp."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._unpaused = asyncio.Event()
        self._unpaused.set()

    async def push(self, take: Take) -> None:
        """Push the body to a reader, until it has had enough or the body ends."""
        chunks = self._response.content.iter_chunked(READ_BYTES)
        while True:
            try:
                chunk = await anext(chunks, None)
            except (aiohttp.ClientError, OSError) as error:
                if (rest := self._response.content._read_nowait(-1)) and take(rest):  # came before it
                    return
                raise _fault(error) from error
            if chunk is None or take(chunk):
                return
            if not self._unpaused.is_set():
                await self._unpaused.wait()

    async def finish(self, within_s: float) -> None:
        """Read the rest, which nobody gets."""
        try:
            async with asyncio.timeout(within_s):
                while await self._response.content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError, OSError):
            self._response.close()

    def pause(self) -> None:
        """Read no more. aiohttp stops the socket when its own buffer is full."""
        self._unpaused.clear()

    def resume(self) -> None:
        """Read on."""
        self._unpaused.set()

    def close(self) -> None:
        """Close the connection, unless the body has ended."""
        self._response.close()


class _Handler(ResponseHandler):
    """Reads responses, and loses nothing of one to what comes after it and cannot be parsed.

    aiohttp drops a response whose head comes in one read with such bytes, and does not end a body that has such bytes
    in it. A second response to one request it keeps for the next request.
    """

    _awaits_head = True

    def set_response_params(self, *args: Any, **params: Any) -> None:
        """Note that a request is sent."""
        self._awaits_head = True
        super().set_response_params(*args, **params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take a response, whose head has come."""
        message, _ = data
        if not self._awaits_head:  # nobody asked for it
            self._end()
            return
        self._awaits_head = message.code < HTTPStatus.OK  # else it is informational
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Hand on what has come, the head alone."""
        while self._awaits_head and (at := data.find(HEAD_END)) >= 0:
            end = at + len(HEAD_END)
            head, data = data[:end], data[end:]
            super().data_received(head)
            if not data:
                return
        super().data_received(data)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Note what ends the connection; it ends the body too."""
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError(str(exc)))
        super().set_exception(exc, *(() if exc_cause is None else (exc_cause,)))

    def _end(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.close()


def _fault(error: Exception) -> ConnectError | ResponseError:
    """Return the fault that an error of aiohttp tells of."""
    match error:
        case aiohttp.ServerTimeoutError():
            return ConnectError("no connection in time", is_timeout=True)
        case aiohttp.ClientConnectorError():
            return ConnectError(_reason(error), may_pass=isinstance(error.os_error, ConnectionError))
        case aiohttp.ClientHttpProxyError():
            return ConnectError(f"the proxy answered HTTP {error.status}", may_pass=error.status in TRANSIENT)
        case aiohttp.ClientResponseError():
            return ResponseError(str(error), is_readable=False)
    return ResponseError(str(error))


def _reason(error: aiohttp.ClientConnectorError) -> str:
    """Return why a connection could not be made."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the name of its host, {error.host}, was not found (DNS)"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not valid (TLS): {str(error.certificate_error)[:200]}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "the TLS handshake failed; is it http:// rather than https://?"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy {error.host}:{error.port} did not answer"
    number = error.os_error.errno
    return os.strerror(number) if number and number > 0 else "no connection"


def _session(*, force_close: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, force_close=force_close, socket_factory=_socket)
    connector._factory = partial(_Handler, loop=asyncio.get_running_loop())  # type: ignore[assignment]
    return aiohttp.ClientSession(
        connector=connector,
        read_bufsize=READ_BYTES,  # twice as much is read ahead, beside what one read brings
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=MAX_HEADER,
        max_field_size=MAX_HEADER,
        trace_configs=[_tracing()],
    )


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket for an upstream, which reads ahead little: a model that is paused must not fill the memory."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
    return made


def _tracing() -> aiohttp.TraceConfig:
    async def mark_sent(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceRequestHeadersSentParams) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx.sent = True

    async def mark_reused(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceConnectionReuseconnParams) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx.is_reused = True

    traced = aiohttp.TraceConfig()
    traced.on_request_headers_sent.append(mark_sent)
    traced.on_connection_reuseconn.append(mark_reused)
    return traced
