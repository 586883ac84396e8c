"""Requests to providers: over connections of our own, or over aiohttp through a proxy or where a setting says so."""

from collections.abc import Collection, Coroutine, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from millrace.errors import UpstreamError
from millrace.upstreams.exchange import ConnectError, Response, ResponseError, Traced
from millrace.upstreams.pushing import PushingConnections

if TYPE_CHECKING:
    from millrace.upstreams.pulling import PullingConnections

CLOSED = "closed the connection before it answered"
FAULTS = (ConnectError, ResponseError)


def traced(traceparent: str, tracestate: str) -> dict[str, str]:
    """Return the headers that tell a provider of the trace that a call belongs to."""
    if not traceparent:
        return {}
    return {"traceparent": traceparent, "tracestate": tracestate} if tracestate else {"traceparent": traceparent}


class Connections:
    """Sends requests. Heeds HTTP_PROXY, HTTPS_PROXY and NO_PROXY. Must be made in a running loop."""

    def __init__(self, *, pulls: bool = False) -> None:
        self._pulls = pulls  # always over aiohttp
        self._pushing = PushingConnections()
        self._pulling: PullingConnections | None = None
        if pulls or getproxies().keys() & {"http", "https"}:
            self._make_pulling()  # now, since aiohttp is a slow import

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], call: Traced, *, connect_timeout_s: float, new: bool
    ) -> Coroutine[Any, Any, Response]:
        """Send a request and return the response, whose body is not read yet; `new`: not on a pooled connection.

        Raises one of `FAULTS`.
        """
        proxy = _proxy_of(url)
        if not self._pulls and proxy is None:
            return self._pushing.post(url, body, headers, call, connect_timeout_s=connect_timeout_s, new=new)
        pulling = self._pulling or self._make_pulling()
        return pulling.post(url, body, headers, call, proxy=proxy, connect_timeout_s=connect_timeout_s, new=new)

    def _make_pulling(self) -> "PullingConnections":
        from millrace.upstreams.pulling import PullingConnections  # noqa: PLC0415 - most servers do without

        self._pulling = PullingConnections()
        return self._pulling

    def close_idle(self, but: Collection[str]) -> None:
        """Close the idle connections but those to the hosts of some URLs. Those of aiohttp close by themselves."""
        self._pushing.close_idle(but)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        self._pushing.close()
        if self._pulling is not None:
            await self._pulling.close()


def transient(error: Exception) -> str:
    """Return what happened, if nothing of a response came and another connection may fare better; else nothing.

    A host that cannot be found or reached, or that is too slow to connect, is not tried again: that would take as long.
    """
    if isinstance(error, ConnectError):
        return f"could not be reached: {error}" if error.may_pass else ""
    return CLOSED if isinstance(error, ResponseError) and error.is_readable else ""


def is_not_now(headers: Mapping[str, str]) -> bool:
    """Whether a provider asks not to be asked again at once."""
    return retry_after(headers) is not None or headers.get("x-should-retry", "").lower() == "false"


def retry_after(headers: Mapping[str, str]) -> str | None:
    """Return when a provider may be asked again, as `Retry-After` gives it: seconds or a date."""
    try:
        return str(float(headers["retry-after-ms"]) / 1000)  # of Azure and OpenAI
    except (KeyError, ValueError):
        return headers.get("Retry-After")


@lru_cache
def _proxy_of(url: str) -> str | None:
    """Return the URL of the proxy that the environment names for a URL, as it was when that was first asked for.

    aiohttp can find it too (`trust_env`), but looks anew for every request, on a thread, and reads ~/.netrc each time.
    """
    parts = urlsplit(url)
    if parts.hostname is None or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = getproxies().get(parts.scheme)
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"  # as curl takes it
    try:
        is_usable = urlsplit(proxy).scheme in ("http", "https") and bool(urlsplit(proxy).hostname)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConnectError(f"the proxy of {parts.scheme.upper()}_PROXY is no http:// or https:// URL")
    return proxy


def connection_error(model: str, error: ConnectError | ResponseError, *, has_begun: bool) -> UpstreamError:
    """Return the error for a broken connection to a model, by when it broke."""
    if isinstance(error, ConnectError):
        if error.is_timeout:
            return UpstreamError("upstream_timeout", f"{model} could not be reached in time", billable=False)
        return UpstreamError("upstream_error", f"{model} could not be reached: {error}", billable=False)
    if not error.is_readable:
        return UpstreamError("upstream_error", f"{model} sent an HTTP response that cannot be read")
    if not has_begun:
        return UpstreamError("upstream_error", f"{model} {CLOSED}")
    message = f"the connection to {model} broke in mid-answer"
    return UpstreamError("upstream_truncated", message, cause="the connection broke in mid-answer")
