"""HTTP connections to providers: pooled ones, and new ones for a second try."""

import io
import os
import socket
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from millrace.errors import UpstreamError

KERNEL_BYTES = 32 * 1024  # read ahead by the system: enough for 300 kB/s over a round trip of 0.1 s
READ_BYTES = 16 * 1024  # taken at once; then a pause is heeded
LARGE_BODY = 2**20  # bytes of a request; a larger one is not written at once
MAX_HEADER = 64 * 1024  # bytes of a line of a response's head, and of a header
TRANSIENT = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
CLOSED = "closed the connection before it answered"


class Traced(Protocol):
    """A call whose way over its connection is noted."""

    sent: bool  # its request's headers have left
    is_reused: bool  # its connection has been used before


class Connections:
    """Sends requests. Heeds HTTP_PROXY, HTTPS_PROXY and NO_PROXY. Must be made in a running loop."""

    def __init__(self) -> None:
        self._pooled = _session(force_close=False)
        self._new = _session(force_close=True)

    async def post(
        self, url: str, body: bytes, headers: dict[str, str], call: Traced, *, connect_timeout_s: float, new: bool
    ) -> aiohttp.ClientResponse:
        """Send a request and return the response, whose body is not read yet; `new`: not on a pooled connection."""
        return await (self._new if new else self._pooled).post(
            url,
            data=io.BytesIO(body) if len(body) > LARGE_BODY else body,  # in pieces
            headers=headers,
            proxy=_proxy_of(url),
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout_s),
            allow_redirects=False,
            trace_request_ctx=call,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._pooled.close()
        await self._new.close()


def transient(error: Exception) -> str:
    """Return what happened, if nothing of a response came and another connection may fare better; else nothing.

    A host that cannot be found or reached, or that is too slow to connect, is not tried again: that would take as long.
    """
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"could not be reached: the proxy answered HTTP {error.status}" if error.status in TRANSIENT else ""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"could not be reached: {reason_of(error)}" if isinstance(error.os_error, ConnectionError) else ""
    is_timeout = isinstance(error, aiohttp.ServerTimeoutError)
    return CLOSED if isinstance(error, aiohttp.ClientConnectionError) and not is_timeout else ""


def is_not_now(headers: Mapping[str, str]) -> bool:
    """Whether a provider asks not to be asked again at once."""
    return retry_after(headers) is not None or headers.get("x-should-retry", "").lower() == "false"


def retry_after(headers: Mapping[str, str]) -> str | None:
    """Return when a provider may be asked again, as `Retry-After` gives it: seconds or a date."""
    try:
        return str(float(headers["retry-after-ms"]) / 1000)  # of Azure and OpenAI
    except (KeyError, ValueError):
        return headers.get("Retry-After")


def reason_of(error: aiohttp.ClientConnectorError) -> str:
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


@lru_cache
def _proxy_of(url: str) -> str | None:
    """Return the URL of the proxy that the environment names for a URL, as it was when that was first asked for.

    aiohttp can find it too (`trust_env`), but looks anew for every request, on a thread, and reads ~/.netrc each time.
    """
    parts = urlsplit(url)
    if parts.hostname is None or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return getproxies().get(parts.scheme)


def connection_error(model: str, error: Exception, *, has_begun: bool) -> UpstreamError:
    """Return the error for a broken connection to a model, by when it broke."""
    if isinstance(error, aiohttp.ServerTimeoutError):
        return UpstreamError("upstream_timeout", f"{model} could not be reached in time", billable=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamError("upstream_error", f"{model} could not be reached: {reason_of(error)}", billable=False)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        message = f"{model} could not be reached: the proxy answered HTTP {error.status}"
        return UpstreamError("upstream_error", message, billable=False)
    if isinstance(error, aiohttp.ClientResponseError):
        return UpstreamError("upstream_error", f"{model} sent an HTTP response that cannot be read")
    if not has_begun:
        return UpstreamError("upstream_error", f"{model} {CLOSED}")
    message = f"the connection to {model} broke in mid-answer"
    return UpstreamError("upstream_truncated", message, cause="the connection broke in mid-answer")


def _session(*, force_close: bool) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=force_close, socket_factory=_socket),
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
