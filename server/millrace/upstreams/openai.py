"""OpenAI-compatible chat completions over aiohttp."""

import asyncio
import io
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import aiohttp

from millrace import log
from millrace.errors import EXITS, UpstreamError
from millrace.ports import Clock, Sink
from millrace.types import Aside, Call, Finish, FinishReason, Refusal, Thought, Usage
from millrace.upstreams import asides, chat
from millrace.upstreams.cap import OutputCap
from millrace.upstreams.sse import EventStream
from millrace.upstreams.tool_calls import CallReader

KERNEL_BYTES = 32 * 1024  # read ahead by the system: enough for 300 kB/s over a round trip of 0.1 s
READ_BYTES = 16 * 1024  # taken at once; then a pause is heeded
DRAIN_S = 1.0  # to read the rest of a finished answer's body, so that the connection can be reused
TAIL_S = 2.0  # to wait for usage after the finish reason
LONG_PROMPT = 64 * 1024  # characters; encoding more takes over a millisecond
LARGE_BODY = 2**20  # bytes of a request; a larger one is not written at once
MAX_ERROR_BODY = 64 * 1024  # bytes of a refusal that are read


def upstream_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket for an upstream, which reads ahead little: a model that is paused must not fill the memory."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
    return made


def marking_sent() -> aiohttp.TraceConfig:
    """Return the tracing by which the HTTP session sets `sent` of an attempt when its request headers are sent."""

    async def mark_sent(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceRequestHeadersSentParams) -> None:
        if isinstance(context.trace_request_ctx, ChatAttempt):
            context.trace_request_ctx.sent = True

    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(mark_sent)
    return tracing


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamEndpoint:
    """Where a model is served, and its timeouts in seconds."""

    base_url: str
    api_key: str | None
    max_tokens_field: str
    connect_timeout_s: float
    first_token_timeout_s: float
    stall_timeout_s: float

    def __repr__(self) -> str:  # keeps the key out of logs
        return f"UpstreamEndpoint({self.base_url})"


class OpenAIUpstream:
    """Calls of one model at its endpoint."""

    def __init__(
        self, http: aiohttp.ClientSession, endpoint: UpstreamEndpoint, clock: Clock, wall: Clock = time.time
    ) -> None:
        self._http = http
        self.endpoint = endpoint
        self.clock = clock
        self.wall = wall
        self._url = endpoint.base_url.rstrip("/") + "/chat/completions"
        self._timeout = aiohttp.ClientTimeout(total=None, connect=endpoint.connect_timeout_s)
        self._headers = {
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",  # a compressor would buffer tokens
            "Content-Type": "application/json",
        }
        if endpoint.api_key:
            self._headers["Authorization"] = f"Bearer {endpoint.api_key}"
        self._attempts: set[ChatAttempt] = set()

    @property
    def bytes_used(self) -> int:
        """Bytes of what is read ahead for all calls, about."""
        return len(self._attempts) * 3 * READ_BYTES

    def open(self, call: Call) -> "ChatAttempt":
        """Start a call on a task of its own."""
        attempt = ChatAttempt(self, call)
        self._attempts.add(attempt)
        attempt.task.add_done_callback(lambda _: self._attempts.discard(attempt))
        return attempt

    def sweep(self, now: float) -> None:
        """Time out calls that have been silent too long. The sweeper calls it regularly."""
        for attempt in tuple(self._attempts):
            attempt.expire_if_silent(now)

    async def post(self, body: bytes, attempt: "ChatAttempt") -> aiohttp.ClientResponse:
        """Send a request and return the response, whose body is not read yet."""
        return await self._http.post(
            self._url,
            data=io.BytesIO(body) if len(body) > LARGE_BODY else body,  # in pieces
            headers=self._headers,
            timeout=self._timeout,
            allow_redirects=False,
            trace_request_ctx=attempt,
        )


class ChatAttempt:
    """One call, read by one task. Text goes to `sink`, anything else to `aside`, the end to `done`."""

    def __init__(self, upstream: OpenAIUpstream, call: Call) -> None:
        loop = asyncio.get_running_loop()
        self.sink: Sink = _discard
        self.aside: Callable[[Aside], None] = _discard
        self.done: asyncio.Future[Finish] = loop.create_future()
        self.parts: list[str] = []
        self.asides: list[Aside] = []
        self.usage: Usage | None = None
        self._upstream = upstream
        self._model = call.model.id
        self._key = upstream.endpoint.api_key  # a provider's words may repeat it
        self._context_window = call.model.context_window
        self.sent = False  # the request headers are sent; before that no provider can charge for it
        self._last_event_at = upstream.clock()  # comments and empty deltas only keep it open
        self._has_event = False
        self._cap = OutputCap(call.most_output_tokens)
        self._is_cut = False  # it has passed its cap
        self._response: aiohttp.ClientResponse | None = None
        self._finish_reason: FinishReason | None = None
        self._finished_at = 0.0
        self._refused = False
        self._tools_offered = bool(call.prompt.tools)
        self._calls = CallReader(call.model.id)
        self._terminated = False  # the provider sent [DONE]
        self._unpaused = asyncio.Event()
        self._unpaused.set()
        self.task = loop.create_task(self._run(call))

    def abort(self) -> None:
        """Cancel `done` if it is pending, and close the socket unless the answer is complete.

        A caller that is cancelled while awaiting `done` cancels the future with it. So a cancelled `done` does not mean
        that the socket is closed, and it is closed here (PROTOCOL.md, What always holds, 7: within 250 ms). After a
        complete answer `_drain` keeps the connection for reuse.
        """
        self.done.cancel()
        if self.done.cancelled() or self.done.exception() is not None:
            self._close()

    def pause(self) -> None:
        """Stop reading. aiohttp stops the socket when its own buffer is full, which is the provider's backpressure."""
        self._unpaused.clear()

    def resume(self) -> None:
        """Continue reading; the pause does not count as silence of the provider."""
        self._last_event_at = self._upstream.clock()
        self._unpaused.set()

    def expire_if_silent(self, now: float) -> None:
        """Fail the call if the provider has been silent too long; finish it if only usage is still missing."""
        if self.done.done() or not self._unpaused.is_set():
            return
        endpoint = self._upstream.endpoint
        if self._finish_reason is not None:
            if now - self._finished_at > TAIL_S:
                self._finish()
                self._close()
        elif not self._has_event and now - self._last_event_at > endpoint.first_token_timeout_s:
            self._fail_silent(f"sent no first token within {endpoint.first_token_timeout_s:g} s")
        elif self._has_event and now - self._last_event_at > endpoint.stall_timeout_s:
            self._fail_silent(f"sent nothing in mid-stream for {endpoint.stall_timeout_s:g} s")

    def _fail_silent(self, what: str) -> None:
        self.done.set_exception(UpstreamError("upstream_timeout", f"{self._model} {what}"))
        self._close()

    def _close(self) -> None:
        self.task.cancel()
        if self._response is not None:
            self._response.close()

    async def _run(self, call: Call) -> None:
        make = partial(chat.body, call, self._upstream.endpoint.max_tokens_field)
        try:
            await self._read(await asyncio.to_thread(make) if call.prompt.whole_size > LONG_PROMPT else make())
        except UpstreamError as error:
            self._fail(error)
        except asyncio.CancelledError:  # by `_close` alone
            return  # raised, its traceback would keep this frame, the body and the attempt until the next collection
        except (aiohttp.ClientError, OSError) as error:
            self._fail(self._connection_error(error))
        except EXITS:
            raise
        except BaseException as error:  # else the caller would wait for `done` forever
            log.get().error("upstream reader crashed", model=self._model, exc_info=error)
            self._fail(UpstreamError("upstream_error", f"the answer of {self._model} could not be read"))
        else:
            self._finish()
            if not self._is_cut:
                await self._drain()
        finally:
            if self._response is not None:
                self._response.close()

    async def _read(self, body: bytes) -> None:
        response = self._response = await self._upstream.post(body, self)
        if response.status != 200:  # noqa: PLR2004 - the only status that carries a stream
            error_body = await self._error_body(response)
            retry_after = response.headers.get("Retry-After")
            raise chat.refused(response.status, retry_after, error_body, self._model, self._upstream.wall, self._key)
        if response.content_type in ("application/json", "text/html"):
            raise UpstreamError(
                "upstream_error", f"{self._model} answered {response.content_type}, not an event stream"
            )
        events = EventStream()
        async for chunk in response.content.iter_chunked(READ_BYTES):
            self._take(events.feed(chunk))
            if self._terminated or self._is_cut or (self._finish_reason is not None and self.usage is not None):
                break  # the answer and its usage are complete
            if not self._unpaused.is_set():
                await self._unpaused.wait()
        else:
            with suppress(chat.UnreadableError):  # an incomplete event: the stream was cut, which is raised below
                self._take(events.feed(b"\n\n"))
        if self._finish_reason is None:  # PROTOCOL.md, What always holds, 4: never completed without the provider's end
            raise UpstreamError("upstream_truncated", f"{self._model} ended its stream without finishing the answer")

    async def _error_body(self, response: aiohttp.ClientResponse) -> bytes:
        """Return the body of an error response, until its end, a broken connection or `MAX_ERROR_BODY`."""
        body = b""
        with suppress(aiohttp.ClientError, OSError):
            while len(body) < MAX_ERROR_BODY and (chunk := await response.content.readany()):
                body += chunk
        return body[:MAX_ERROR_BODY]

    def _take(self, events: list[bytes]) -> None:
        """Take the events of one read and pass on what they bring, even if a later event of the read raises."""
        deltas: list[str] = []
        placed: list[asides.Placed] = []
        try:
            for data in events:
                if data.startswith(b"[DONE]"):
                    self._terminated = True
                    return
                if data:
                    self._take_chunk(data, deltas, placed)
                    if self._is_cut:
                        self._finish_reason, self.usage = FinishReason.LENGTH, None  # what it reports is not shown
                        return
        finally:
            if deltas or placed or self._finish_reason is not None:  # a delta that brings nothing is silence
                self._has_event, self._last_event_at = True, self._upstream.clock()
            if placed:
                self._pass_on(deltas, placed)
            elif deltas:
                self.parts += deltas
                self.sink(deltas)

    def _pass_on(self, deltas: list[str], placed: list[asides.Placed]) -> None:
        """Pass on text and asides in the order of the stream."""
        for run in asides.in_order(deltas, placed):
            if isinstance(run, list):
                self.parts += run
                self.sink(run)
            else:
                self.asides.append(run)
                self.aside(run)

    def _take_chunk(self, data: bytes, deltas: list[str], placed: list[asides.Placed]) -> None:
        try:
            chunk = chat.read_chunk(data, self._model, self._key)
        except chat.UnreadableError:
            if self._finish_reason is None:
                raise
            return  # the answer is complete, so nothing after it has to be readable
        for choice in chunk.choices or ():
            if choice.index:  # another answer than the one that was asked for
                continue
            if choice.delta is not None:
                self._take_delta(choice.delta, deltas, placed)
            if choice.finish_reason:
                self._finish_reason = chat.finish_reason(choice.finish_reason, self._model, self._key)
                self._finished_at = self._upstream.clock()
        if self._finish_reason is not None:  # usage before the finish reason is not final
            self.usage = chat.usage(chunk.usage, self._context_window) or self.usage

    def _take_delta(self, delta: chat.ChatDelta, deltas: list[str], placed: list[asides.Placed]) -> None:
        thought = delta.reasoning_content or delta.reasoning
        if thought and isinstance(thought, str) and (fitting := self._fitting(thought)):
            placed.append((len(deltas), Thought(fitting)))  # it goes before the text of the same chunk
        if text := delta.content:
            cap = self._cap
            if text.isascii() and (free_bytes := cap.free_bytes - len(text)) >= 0:  # as in `_fitting`, without a call
                cap.free_bytes = free_bytes
                cap.uncounted.append(text)
                deltas.append(text)
            elif fitting := self._fitting(text):
                deltas.append(fitting)
        if delta.refusal or delta.tool_calls or delta.function_call:
            self._take_asides(delta, len(deltas), placed)

    def _take_asides(self, delta: chat.ChatDelta, after: int, placed: list[asides.Placed]) -> None:
        """Take a refusal and pieces of tool calls, which go after the text of the same chunk."""
        if delta.refusal and (fitting := self._fitting(delta.refusal)):
            self._refused = True
            placed.append((after, Refusal(fitting)))
        if (delta.tool_calls or delta.function_call) and not self._tools_offered:
            raise UpstreamError("upstream_error", f"{self._model} called a tool that nobody offered")
        if delta.function_call:
            raise UpstreamError("upstream_error", f"{self._model} sent a function_call; only tool_calls are read")
        for given in delta.tool_calls or ():
            if (piece := self._calls.read(given)) is None:
                continue
            fitting = self._fitting(piece.name + piece.arguments)
            if len(fitting) > len(piece.name) or not self._is_cut:
                placed.append((after, replace(piece, arguments=fitting[len(piece.name) :])))

    def _fitting(self, text: str) -> str:
        """Return as much of a text as the cap has room for; if that is not all, the answer ends with it."""
        if self._is_cut:
            return ""
        fitting = self._cap.fitting(text)
        self._is_cut = len(fitting) < len(text)
        return fitting

    def _connection_error(self, error: Exception) -> UpstreamError:
        """Return the error for a broken connection, by when it broke."""
        if isinstance(error, aiohttp.ServerTimeoutError):
            return UpstreamError("upstream_timeout", f"{self._model} could not be reached in time", billable=False)
        if isinstance(error, aiohttp.ClientConnectorError):
            reason = os.strerror(error.os_error.errno) if error.os_error.errno else "no connection"
            return UpstreamError("upstream_error", f"{self._model} could not be reached: {reason}", billable=False)
        if self._response is None:
            return UpstreamError("upstream_error", f"{self._model} closed the connection before it answered")
        return UpstreamError("upstream_truncated", f"the connection to {self._model} broke in mid-answer")

    def _fail(self, error: UpstreamError) -> None:
        if self._finish_reason is not None and error.code == "upstream_truncated":
            self._finish()  # the answer was complete before the connection broke
        elif not self.done.done():
            error.message = chat.masked(error.message, self._key)
            self.done.set_exception(error)

    def _finish(self) -> None:
        if self.done.done() or self._finish_reason is None:
            return
        reason, called = self._finish_reason, self._calls.any
        if reason is FinishReason.TOOL_CALLS and not called:
            message = f"{self._model} ended with finish_reason tool_calls, but called none"
            self.done.set_exception(UpstreamError("upstream_error", message))
            return
        if called and reason is FinishReason.STOP:  # some servers send `stop` after a tool call
            reason = FinishReason.TOOL_CALLS
        self.done.set_result(Finish(reason=reason, refused=self._refused))

    async def _drain(self) -> None:
        """Read to the end of the body, so that the connection can be reused."""
        if self._response is None:
            return
        try:
            async with asyncio.timeout(DRAIN_S):
                while await self._response.content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError, OSError):
            self._response.close()


def _discard(_: object) -> None:
    """Take what arrives before the caller has set `sink` and `aside`."""
