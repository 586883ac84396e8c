"""Calls of a model over HTTP, whatever its API: sent, tried once more, read, passed on in order, and closed."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from millrace import log
from millrace.errors import EXITS, UpstreamError
from millrace.ports import Clock, Sink, said
from millrace.types import Api, Aside, Call, Finish, FinishReason, Refusal, Stop, Usage
from millrace.upstreams import asides
from millrace.upstreams.bodies import BodyReader
from millrace.upstreams.cap import OutputCap
from millrace.upstreams.connections import (
    FAULTS,
    Connections,
    connection_error,
    is_not_now,
    retry_after,
    traced,
    transient,
)
from millrace.upstreams.endpoint import UpstreamEndpoint
from millrace.upstreams.exchange import KERNEL_BYTES, READ_BYTES, TRANSIENT, Response, ResponseError, error_body
from millrace.upstreams.provider_api import ProviderApi, UnreadableError
from millrace.upstreams.quirks import Change, Learned
from millrace.upstreams.refusals import Refusals
from millrace.upstreams.said import SaidResponse, unless_said
from millrace.upstreams.stops import StopSequences, stops_of
from millrace.upstreams.template import Template

HEADERS = {
    "Accept": "text/event-stream",
    "Accept-Encoding": "identity",  # a compressor would buffer tokens
    "Content-Type": "application/json",
}
DRAIN_S = 1.0  # to read the rest of a finished answer's body, so that the connection can be reused
RETRY_S = 0.1  # to wait before a transient fault is tried once more; up to twice as long
ACCEPTED = range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)
REFUSED_FIELD = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
MAX_BYTES = 128 * 1024 * 1024  # of one answer, as it comes: what only its API understands is kept, and has no cap
LONG_PROMPT = 64 * 1024  # characters; encoding more takes over a millisecond


class HttpUpstream:
    """Calls of one model at its endpoint, in one API."""

    def __init__(
        self,
        api: ProviderApi,
        connections: Connections,
        endpoint: UpstreamEndpoint,
        clock: Clock,
        wall: Clock = time.time,
    ) -> None:
        self.api = api
        self._connections = connections
        self.endpoint = endpoint
        self.clock = clock
        self.wall = wall
        self._url = api.url(endpoint.base_url)
        self.learned = Learned(endpoint.quirks)
        self._attempts: dict[asyncio.Future[None], HttpAttempt] = {}  # by their tasks
        self._shortest_s = min(endpoint.first_token_timeout_s, endpoint.stall_timeout_s)
        self._none_late_until = -math.inf  # by the clock

    @property
    def bytes_used(self) -> int:
        """Bytes of what is read ahead for all calls, about."""
        return len(self._attempts) * (READ_BYTES + KERNEL_BYTES)

    @property
    def is_idle(self) -> bool:
        """Whether no call runs."""
        return not self._attempts

    def open(self, call: Call) -> "HttpAttempt":
        """Start a call on a task of its own."""
        attempt = HttpAttempt(self, unless_said(call))
        self._attempts[attempt.task] = attempt
        attempt.task.add_done_callback(self._attempts.pop)
        return attempt

    def sweep(self, now: float) -> None:
        """Time out calls that have been silent too long. The sweeper calls it regularly, nearly always in vain."""
        if now <= self._none_late_until:
            return
        shortest_s, attempts = self._shortest_s, self._attempts.values()
        for attempt in [attempt for attempt in attempts if now - attempt.last_event_at > shortest_s]:
            attempt.expire_if_silent(now)
        self._none_late_until = min((attempt.last_event_at for attempt in attempts), default=now) + shortest_s

    def post(self, call: Call, body: bytes, attempt: "HttpAttempt", *, new: bool) -> Coroutine[Any, Any, Response]:
        """Send a request and return the response, whose body is not read yet; `new`: on a new connection.

        Where its provider has answered already, in a batch, nothing is sent.
        """
        before = said.get()
        if before is not None and (answer := before.take(call.model.id)) is not None:
            attempt.sent = True
            return SaidResponse.of(answer)
        headers = HEADERS | self.api.headers(self.endpoint.api_key, call) | traced(call.traceparent, call.tracestate)
        timeout_s = self.endpoint.connect_timeout_s
        return self._connections.post(self._url, body, headers, attempt, connect_timeout_s=timeout_s, new=new)


class HttpAttempt:
    """One call, read by one task. Text goes to `sink`, anything else to `aside`, the end to `done`."""

    __slots__ = (
        "_answer",
        "_body",
        "_bytes",
        "_call",
        "_cap",
        "_has_begun",
        "_is_paused",
        "_is_stopped",
        "_may_retry",
        "_model",
        "_refusals",
        "_refused",
        "_response",
        "_sent_tier",
        "_stops",
        "_template",
        "_upstream",
        "aside",
        "asides",
        "done",
        "is_reused",
        "last_event_at",
        "notes",
        "on_begin",
        "parts",
        "retried_after",
        "sent",
        "sink",
        "task",
        "usage",
    )

    def __init__(self, upstream: HttpUpstream, call: Call) -> None:
        loop = asyncio.get_running_loop()
        self.sink: Sink = _discard
        self.aside: Callable[[Aside], None] = _discard
        self.on_begin: Callable[[], None] = _nothing
        self.done: asyncio.Future[Finish] = loop.create_future()
        self.parts: list[str] = []
        self.asides: list[Aside] = []
        self.usage: Usage | None = None
        self.sent = False  # the request headers are sent; before that no provider can charge for it
        self.is_reused = False  # its connection has been used before
        self._upstream = upstream
        self._model = call.model.id
        self._refusals = Refusals(self._model, upstream.endpoint.api_key, upstream.wall)
        self._answer = upstream.api.reader(call, self._refusals)
        self._body = BodyReader(self._model)
        self.last_event_at = upstream.clock()  # comments and empty deltas only keep it open
        self._template = Template()
        self._cap = OutputCap(call.most_counted, call.model.encoding.name)
        self._is_stopped = False  # it has come to a stop sequence, which its provider has not seen to
        self._stops: StopSequences | None = None  # that are looked for, if there are any
        if stops := stops_of(call.prompt):
            self._stops = StopSequences(stops)
            self._template.close()
        self._has_begun = False  # as `on_begin` counts it
        self._bytes = 0  # of what was read, without plain text
        self._response: Response | None = None
        self._is_paused = False
        self.notes: tuple[str, ...] = ()  # how the call differs from what was asked
        self.retried_after = ""  # why it was tried once more; empty if it was not, or for a stale connection
        self._may_retry = True
        self._refused: bytes | None = None  # the body of an error response, once it is read
        self._call = call
        self._sent_tier = call.service_tier
        self.task: asyncio.Task[None] = loop.create_task(self._run())

    @property
    def input_usage(self) -> Usage | None:
        """The input as the provider has reported it so far."""
        return self._answer.input_usage

    @property
    def service_tier(self) -> str:
        """The service tier that the provider reports, until then the one that it was asked for."""
        return self._answer.service_tier or self._sent_tier

    def abort(self) -> None:
        """Cancel `done` if it is pending, and close the socket unless the answer is complete.

        A caller that is cancelled while awaiting `done` cancels the future with it. So a cancelled `done` does not mean
        that the socket is closed, and it is closed here (PROTOCOL.md, What always holds, 7: within 250 ms). After a
        complete answer `_drain` keeps the connection for reuse.
        """
        self.done.cancel()
        if self.done.cancelled() or self.done.exception() is not None:
            self._close()

    def limit(self, output_tokens: int) -> None:
        """Cut the answer from now on at so many tokens, as its model counts them; the last limit holds."""
        self._cap.change(math.ceil(output_tokens / self._call.counted.ratio))

    def pause(self) -> None:
        """Stop reading, so that the provider has to wait."""
        self._is_paused = True
        if self._response is not None:
            self._response.pause()

    def resume(self) -> None:
        """Continue reading; the pause does not count as silence of the provider."""
        self.last_event_at = self._upstream.clock()
        self._is_paused = False
        if self._response is not None:
            self._response.resume()

    def expire_if_silent(self, now: float) -> None:
        """Fail the call if the provider has been silent too long. An answer that has its finish reason is complete."""
        if self.done.done() or self._is_paused:
            return
        endpoint, silent_s = self._upstream.endpoint, now - self.last_event_at
        if not self._answer.has_begun:
            if silent_s > endpoint.first_token_timeout_s:
                self._fail_silent(f"sent no first token within {endpoint.first_token_timeout_s:g} s")
        elif silent_s > endpoint.stall_timeout_s:
            if self._answer.has_finish and not self._answer.is_half_said:
                self._finish()
                self._close()
            else:
                self._fail_silent(f"sent nothing in mid-stream for {endpoint.stall_timeout_s:g} s")

    def _fail_silent(self, what: str) -> None:
        self._fail(UpstreamError("upstream_timeout", f"{self._model} {what}"))
        self._close()

    def _close(self) -> None:
        self.task.cancel()
        if self._response is not None:
            self._response.close()

    async def _run(self) -> None:
        try:
            await self._read()
            self._finish()
        except UpstreamError as error:
            self._fail(error)
        except asyncio.CancelledError:  # by `_close` alone
            return  # raised, its traceback would keep this frame, the body and the attempt until the next collection
        except FAULTS as error:
            self._fail(connection_error(self._model, error, has_begun=self._response is not None))
        except EXITS:
            raise
        except BaseException as error:  # else the caller would wait for `done` forever
            self._crash(error)
        else:
            if not self._is_cut and self._response is not None:
                await self._response.finish(DRAIN_S)
        finally:
            if self._response is not None:
                self._response.close()

    async def _read(self) -> None:
        response = await self._accepted()
        if self._is_paused:
            response.pause()
        await response.push(self._take_chunk)
        if self._is_over:
            return
        try:
            self._take(self._body.end())
        except UnreadableError as error:  # half an event
            raise self._answer.truncated() from error

    def _take_chunk(self, chunk: bytes) -> bool:
        """Take what one read brings of the body; return whether no more is wanted. The hot path."""
        cap, template = self._cap, self._template
        if (
            self._has_begun
            and (text := template.text_of(chunk))
            and (free_bytes := cap.free_bytes + template.size - len(chunk)) >= 0
        ):
            cap.free_bytes = free_bytes
            cap.uncounted.append(text)
            self.last_event_at = self._upstream.clock()
            self.parts.append(text)
            self.sink([text])
            return False
        self._bytes += len(chunk)
        if self._bytes > MAX_BYTES:
            raise UpstreamError("upstream_error", f"{self._model} sent an answer of more than {MAX_BYTES >> 20} MiB")
        said = len(self.parts)
        events = self._body.feed(chunk)
        self._take(events)
        if template.is_open:
            is_one = len(events) == 1 and len(self.parts) == said + 1 and self._body.is_between
            is_plain = is_one and self._answer.is_plain(events[0], self.parts[-1])
            template.learn(chunk, self.parts[-1] if is_plain else "")
        return self._is_over

    @property
    def _is_cut(self) -> bool:
        """Whether it has passed its cap, or come to a stop sequence: what else comes does not matter."""
        return self._cap.is_passed or self._is_stopped

    @property
    def _is_over(self) -> bool:
        return self._answer.is_terminated or self._is_cut

    async def _accepted(self) -> Response:
        """Return the response that carries the answer.

        A refusal that names a field which the answer does not need is tried once more without it, and remembered.
        """
        changes: list[Change] = []
        while True:
            quirks, self.notes = self._upstream.learned.quirks(self._upstream.clock())
            for change in changes:
                quirks = change.applied(quirks)
            make = self._upstream.api.request
            if self._call.prompt.whole_size > LONG_PROMPT:
                sent, body, left_out = await asyncio.to_thread(make, self._call, quirks)
            else:
                sent, body, left_out = make(self._call, quirks)
            self._note(*[change.what for change in changes], *left_out, *self._retry_notes)
            self._sent_tier = str(sent.get("service_tier", ""))
            response = self._response = await self._respond(body)
            if response.status in ACCEPTED:
                self._learn(changes)
                return response
            refusal = await error_body(response) if self._refused is None else self._refused
            wanted = None
            if response.status in REFUSED_FIELD:
                wanted = self._upstream.api.change_for(refusal.decode("utf-8", "replace"), sent)
            if wanted is None or wanted in changes or wanted.applied(quirks) == quirks:
                raise self._refusals.of_status(response.status, retry_after(response.headers), refusal)
            changes.append(wanted)
            response.close()
            self.sent = self.is_reused = False

    def _note(self, *notes: str) -> None:
        """Add to the notes what they do not have yet."""
        if notes:
            self.notes = tuple(dict.fromkeys((*self.notes, *notes)))

    def _learn(self, changes: list[Change]) -> None:
        """Remember what a refused request needed, now that it is accepted with that."""
        for change in changes:
            if change.is_of_the_provider:
                self._upstream.learned.learn(change, self._upstream.clock())

    async def _respond(self, body: bytes) -> Response:
        """Return the response of the provider. A transient fault is tried once more, on a new connection.

        Nothing of the first try is billed: the provider refused it, or no byte of a response came. A connection that
        was kept alive and brings none was closed before the request arrived. A provider that names a later time is not
        asked again. Nor is one that is silent: it may still work on the first try, so both would be billed. With
        `Call.once` only a stale connection is tried again.
        """
        try:
            response = await self._upstream.post(self._call, body, self, new=False)
        except FAULTS as error:
            is_stale = self.is_reused and self.sent and isinstance(error, ResponseError) and error.is_readable
            why = "" if is_stale or self._call.once else transient(error)
            if not self._may_retry or not (is_stale or why):
                raise
        else:
            is_stale = self.is_reused and response.status == HTTPStatus.REQUEST_TIMEOUT  # it was idle for too long
            is_final = not is_stale and (self._call.once or response.status not in TRANSIENT)
            if not self._may_retry or is_final or is_not_now(response.headers):
                return response
            self._refused = await error_body(response)
            refusal = self._refusals.of_status(response.status, None, self._refused)
            if not refusal.rule.retry or refusal.retry_after_ms is not None:
                return response
            why = "" if is_stale else f"answered HTTP {response.status}"
            response.close()
        self._may_retry = False
        self.retried_after = why
        self.notes += self._retry_notes
        await asyncio.sleep(0 if is_stale else RETRY_S * (1 + random.random()))
        self.sent = self.is_reused = False
        self._refused = None
        return await self._upstream.post(self._call, body, self, new=True)

    @property
    def _retry_notes(self) -> tuple[str, ...]:
        return (f"{self.retried_after} and was tried once more",) if self.retried_after else ()

    def _take(self, events: list[bytes]) -> None:
        """Take the events of one read and pass on what they bring, even if a later event of the read raises."""
        deltas: list[str] = []
        placed: list[asides.Placed] = []
        answer = self._answer
        heard, had_finish = answer.heard, answer.has_finish
        try:
            for data in events:
                if data:
                    answer.take(data, deltas, placed)
                    if answer.is_terminated:
                        return
        finally:
            if answer.heard > heard or answer.has_finish > had_finish:  # a delta that brings nothing is silence
                self.last_event_at = self._upstream.clock()
            self._pass_on(deltas, placed)

    def _pass_on(self, deltas: list[str], placed: list[asides.Placed]) -> None:
        """Pass on text and asides in the order of the stream, up to the cap."""
        for run in asides.in_order(deltas, placed) if placed else (deltas,) if deltas else ():
            if self._is_cut:
                return
            if isinstance(run, list):
                self._pass_on_texts(run if self._stops is None else self._stops.take(run))
                continue
            if self._stops is not None:
                self._pass_on_texts(self._stops.rest())
            if (aside := self._cap.fitting_aside(run)) is not None:
                if not self._has_begun:
                    self._begin()
                self.asides.append(aside)
                self.aside(aside)

    def _pass_on_texts(self, run: list[str]) -> None:
        if run and (texts := self._cap.fitting_texts(run)):
            if not self._has_begun and any(map(str.strip, texts)):
                self._begin()
            self.parts += texts
            self.sink(texts)
        if self._stops is not None and self._stops.found and not self._is_cut:
            self._is_stopped = True

    def _begin(self) -> None:
        self._has_begun = True
        self.on_begin()

    def _fail(self, error: UpstreamError) -> None:
        if self.done.done():
            return
        if self._is_cut:  # what comes after the cap does not matter
            self._finish()
            return
        if error.billable:  # what it has reported so far is better than what is counted here
            self.usage = self._answer.usage
        error.message = self._refusals.masked(error.message)
        error.cause = error.cause.removeprefix(f"{self._model} ")
        self.done.set_exception(error)

    def _crash(self, error: BaseException) -> None:
        log.get().error("upstream reader crashed", model=self._model, exc_info=error)
        message = f"the answer of {self._model} could not be read"
        self._fail(UpstreamError("upstream_error", message, cause="the answer could not be read"))

    def _finish(self) -> None:
        if self.done.done():
            return
        deltas: list[str] = []
        placed: list[asides.Placed] = []
        try:
            finish = self._answer.end(deltas, placed) if not self._is_cut else None
            self._pass_on(deltas, placed)
            if self._stops is not None and not self._is_cut:
                self._pass_on_texts(self._stops.rest())
        except UpstreamError as error:
            is_silent = error.code == "upstream_truncated" and not self._answer.has_begun
            self._fail((is_silent and self._refusals.of_no_answer(self._body.document)) or error)
            return
        except Exception as error:  # also called by the sweep, which must go on
            self._crash(error)
            return
        if finish is None or self._is_cut:  # what it reports is not what is shown
            finish = self._finish_of_cut()
        else:
            self.usage = self._answer.usage
        lacking = self._answer.notes
        if self._call.prompt.wants_logprobs and self.parts and not self._answer.has_scores:
            lacking += ("without logprobs",)
        self._note(*lacking)
        self.done.set_result(finish)

    def _finish_of_cut(self) -> Finish:
        if self._stops is not None and self._is_stopped:
            stop = Stop(api=Api.MESSAGES, reason="stop_sequence", sequence=self._stops.found)
            return Finish(reason=FinishReason.STOP, stop=stop)
        return Finish(reason=FinishReason.LENGTH, refused=any(isinstance(aside, Refusal) for aside in self.asides))


def _discard(_: object) -> None:
    """Take what arrives before the caller has set `sink` and `aside`."""


def _nothing() -> None:
    """Nobody wants to know when it begins."""
