"""OpenAI-compatible chat completions over aiohttp: the plain reader, reference and fallback for any quicker one."""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from millrace import log
from millrace.errors import UpstreamError
from millrace.ports import Clock, Sink
from millrace.types import Aside, Call, Finish, FinishReason, Refusal, Thought, Usage
from millrace.upstreams import asides, chat
from millrace.upstreams.sse import EventStream
from millrace.upstreams.tool_calls import CallReader

DRAIN_S = 1.0  # how long a finished answer's connection may take to become reusable
TAIL_S = 2.0  # how long usage may lag behind the finish reason
MAX_ERROR_BODY = 64 * 1024
BYTES_PER_TOKEN, MIN_ANSWER = 32, 64 * 1024  # characters an answer may have, for a model that ignores its cap


def noting_sent() -> aiohttp.TraceConfig:
    """Return what the HTTP session needs, so that an attempt learns when its request has left."""

    async def note(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceRequestHeadersSentParams) -> None:
        if isinstance(context.trace_request_ctx, ChatAttempt):
            context.trace_request_ctx.sent = True

    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(note)
    return tracing


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamEndpoint:
    """Where a model is served, and how patient to be with it."""

    base_url: str
    api_key: str | None
    max_tokens_field: str
    connect_timeout_s: float
    first_token_timeout_s: float
    stall_timeout_s: float

    def __repr__(self) -> str:  # a key must not get into a log by way of a repr
        return f"Endpoint({self.base_url})"


class OpenAIUpstream:
    """One model's endpoint."""

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
            "Accept-Encoding": "identity",  # compression holds tokens back
            "Content-Type": "application/json",
        }
        if endpoint.api_key:
            self._headers["Authorization"] = f"Bearer {endpoint.api_key}"
        self._live: set[ChatAttempt] = set()

    def open(self, call: Call) -> "ChatAttempt":
        """Start a call."""
        attempt = ChatAttempt(self, call)
        self._live.add(attempt)
        attempt.task.add_done_callback(lambda _: self._live.discard(attempt))
        return attempt

    def sweep(self, now: float) -> None:
        """Give up on calls that say nothing any more. Called by the sweeper."""
        for attempt in tuple(self._live):
            attempt.expire_if_silent(now)

    async def post(self, body: bytes, attempt: "ChatAttempt") -> aiohttp.ClientResponse:
        """Send a request and note when it has left; the answer's body is still to be read."""
        return await self._http.post(
            self._url,
            data=body,
            headers=self._headers,
            timeout=self._timeout,
            allow_redirects=False,
            trace_request_ctx=attempt,
        )


class ChatAttempt:
    """One call being read by one task; its words go to the sink, what is no text to `aside`, its end to `done`."""

    def __init__(self, upstream: OpenAIUpstream, call: Call) -> None:
        loop = asyncio.get_running_loop()
        self.sink: Sink = _nowhere
        self.aside: Callable[[Aside], None] = _nowhere
        self.done: asyncio.Future[Finish] = loop.create_future()
        self.parts: list[str] = []
        self.asides: list[Aside] = []
        self.usage: Usage | None = None
        self._upstream = upstream
        self._model = call.model.id
        self.sent = False  # the request has left; before that no provider can charge for it
        self._spoke_at = upstream.clock()  # comments that keep a connection alive are no speech
        self._spoken = False
        self._bytes_left = max(MIN_ANSWER, call.max_output_tokens * BYTES_PER_TOKEN)
        self._response: aiohttp.ClientResponse | None = None
        self._reason: FinishReason | None = None
        self._finished_at = 0.0
        self._refused = False
        self._tools_offered = bool(call.prompt.tools)
        self._calls = CallReader(call.model.id)
        self._terminated = False  # the provider said [DONE]
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.task = loop.create_task(self._run(chat.body(call, upstream.endpoint.max_tokens_field)))

    def abort(self) -> None:
        """Close the socket at once unless the answer is whole; `done` is cancelled if it is open.

        Whoever is cancelled while awaiting `done` has cancelled it, so that alone does not mean that reading is over.
        """
        self.done.cancel()
        if self.done.cancelled() or self.done.exception() is not None:
            self._close()

    def pause(self) -> None:
        """Read no further; aiohttp stops the socket when its buffer is full."""
        self._flowing.clear()

    def resume(self) -> None:
        """Read on."""
        self._spoke_at = self._upstream.clock()
        self._flowing.set()

    def expire_if_silent(self, now: float) -> None:
        """Fail the call if it has been silent for longer than its endpoint allows."""
        if self.done.done() or not self._flowing.is_set():
            return
        endpoint = self._upstream.endpoint
        if self._reason is not None:
            if now - self._finished_at > TAIL_S:
                self._finish()
                self._close()
        elif not self._spoken and now - self._spoke_at > endpoint.first_token_timeout_s:
            self._fail_silent(f"gave no word in {endpoint.first_token_timeout_s:g} s")
        elif self._spoken and now - self._spoke_at > endpoint.stall_timeout_s:
            self._fail_silent(f"fell silent in mid-stream for {endpoint.stall_timeout_s:g} s")

    def _fail_silent(self, what: str) -> None:
        self.done.set_exception(UpstreamError("upstream_timeout", f"{self._model} {what}"))
        self._close()

    def _close(self) -> None:
        self.task.cancel()
        if self._response is not None:
            self._response.close()

    async def _run(self, body: bytes) -> None:
        try:
            await self._read(body)
        except UpstreamError as error:
            self._fail(error)
        except (aiohttp.ClientError, OSError) as error:
            self._fail(self._broken(error))
        except Exception as error:  # whoever waits for `done` must not wait for ever
            log.get().error("upstream reader crashed", model=self._model, exc_info=error)
            self._fail(UpstreamError("upstream_error", f"the answer of {self._model} could not be read"))
        else:
            self._finish()
            await self._drain()
        finally:
            if self._response is not None:
                self._response.close()

    async def _read(self, body: bytes) -> None:
        response = self._response = await self._upstream.post(body, self)
        if response.status != 200:  # noqa: PLR2004 - the only status that carries a stream
            answer = await self._error_body(response)
            retry_after = response.headers.get("Retry-After")
            raise chat.refused(response.status, retry_after, answer, self._model, self._upstream.wall)
        if response.content_type in ("application/json", "text/html"):
            raise UpstreamError(
                "upstream_error", f"{self._model} answered {response.content_type}, not an event stream"
            )
        events = EventStream()
        async for chunk in response.content.iter_any():
            self._take(events.feed(chunk))
            if self._terminated or (self._reason is not None and self.usage is not None):
                break  # whole and counted: nothing more is worth waiting for
            if not self._flowing.is_set():
                await self._flowing.wait()
        else:
            with suppress(chat.UnreadableError):  # half an event is a broken stream, and that is said below
                self._take(events.feed(b"\n\n"))
        if self._reason is None:
            raise UpstreamError("upstream_truncated", f"{self._model} ended its stream without finishing the answer")

    async def _error_body(self, response: aiohttp.ClientResponse) -> bytes:
        """Return what a refusal says, from its first bytes to its end, its break or the limit."""
        answer = b""
        with suppress(aiohttp.ClientError, OSError):
            while len(answer) < MAX_ERROR_BODY and (piece := await response.content.readany()):
                answer += piece
        return answer[:MAX_ERROR_BODY]

    def _take(self, events: list[bytes]) -> None:
        """Take the events of one read; what they say leaves together, also when a later event is a fault."""
        deltas: list[str] = []
        beside: list[asides.Placed] = []
        try:
            for data in events:
                if data.startswith(b"[DONE]"):
                    self._terminated = True
                    return
                if data:
                    self._take_chunk(data, deltas, beside)
        finally:
            if events:
                self._spoken, self._spoke_at = True, self._upstream.clock()
            if beside:
                self._tell(deltas, beside)
            elif deltas:
                self.parts += deltas
                self.sink(deltas)

    def _tell(self, deltas: list[str], beside: list[asides.Placed]) -> None:
        """Pass on the text and what stands between it, in order."""
        for said in asides.in_order(deltas, beside):
            if isinstance(said, list):
                self.parts += said
                self.sink(said)
            else:
                self.asides.append(said)
                self.aside(said)

    def _take_chunk(self, data: bytes, deltas: list[str], beside: list[asides.Placed]) -> None:
        try:
            chunk = chat.read_chunk(data, self._model)
        except chat.UnreadableError:
            if self._reason is None:
                raise
            return  # the answer is whole; what follows it need not be
        for choice in chunk.choices or ():
            if choice.delta is not None:
                self._take_delta(choice.delta, deltas, beside)
            if choice.finish_reason:
                self._reason = chat.finish_reason(choice.finish_reason, self._model)
                self._finished_at = self._upstream.clock()
        if self._reason is not None:  # what was counted before the end is not the count
            self.usage = chat.usage(chunk.usage) or self.usage

    def _take_delta(self, delta: chat.ChatDelta, deltas: list[str], beside: list[asides.Placed]) -> None:
        if words := delta.content:
            self._bytes_left -= len(words)
            if self._bytes_left < 0:
                raise self._too_much()
            deltas.append(words)
        if delta.reasoning_content or delta.reasoning or delta.refusal or delta.tool_calls or delta.function_call:
            self._take_beside(delta, len(deltas), beside)

    def _take_beside(self, delta: chat.ChatDelta, after: int, beside: list[asides.Placed]) -> None:
        """Take what is not text; thoughts come before the text of the same chunk, all else after it."""
        before = after - 1 if delta.content else after
        thought = delta.reasoning_content or delta.reasoning
        if thought and isinstance(thought, str):
            self._spend(thought)
            beside.append((before, Thought(thought)))
        if delta.refusal:
            self._refused = True
            self._spend(delta.refusal)
            beside.append((after, Refusal(delta.refusal)))
        if (delta.tool_calls or delta.function_call) and not self._tools_offered:
            raise UpstreamError("upstream_error", f"{self._model} called a tool that nobody offered")
        if delta.function_call:
            raise UpstreamError("upstream_error", f"{self._model} sent a function_call; only tool_calls are read")
        for given in delta.tool_calls or ():
            if (piece := self._calls.read(given)) is not None:
                self._spend(piece.id + piece.name + piece.arguments)
                beside.append((after, piece))

    def _spend(self, words: str) -> None:
        self._bytes_left -= len(words)
        if self._bytes_left < 0:
            raise self._too_much()

    def _too_much(self) -> UpstreamError:
        return UpstreamError("upstream_error", f"{self._model} sent far more than it was allowed")

    def _broken(self, error: Exception) -> UpstreamError:
        """Say what a broken connection means: where it broke decides."""
        if isinstance(error, aiohttp.ServerTimeoutError):
            return UpstreamError("upstream_timeout", f"{self._model} could not be reached in time", billable=False)
        if isinstance(error, aiohttp.ClientConnectorError):
            reason = os.strerror(error.os_error.errno) if error.os_error.errno else "no connection"
            return UpstreamError("upstream_error", f"{self._model} could not be reached: {reason}", billable=False)
        if self._response is None:
            return UpstreamError("upstream_error", f"{self._model} closed the connection before it answered")
        return UpstreamError("upstream_truncated", f"the connection to {self._model} broke in mid-answer")

    def _fail(self, error: UpstreamError) -> None:
        if self._reason is not None and error.code == "upstream_truncated":
            self._finish()  # the answer was whole; only what follows it is missing
        elif not self.done.done():
            if self._upstream.endpoint.api_key:  # a provider's words may repeat it
                error.message = error.message.replace(self._upstream.endpoint.api_key, "[key]")
            self.done.set_exception(error)

    def _finish(self) -> None:
        if self.done.done() or self._reason is None:
            return
        reason, called = self._reason, self._calls.any
        if reason is FinishReason.TOOL_CALLS and not called:
            message = f"{self._model} ended with a tool call, and called none"
            self.done.set_exception(UpstreamError("upstream_error", message))
            return
        if called and reason is FinishReason.STOP:  # some servers say so although they have called a tool
            reason = FinishReason.TOOL_CALLS
        self.done.set_result(Finish(reason=reason, refused=self._refused))

    async def _drain(self) -> None:
        """Read to the end of the body, so that the connection can be used again."""
        if self._response is None:
            return
        try:
            async with asyncio.timeout(DRAIN_S):
                while await self._response.content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError, OSError):
            self._response.close()


def _nowhere(_: object) -> None:
    """Take words before anybody listens."""
