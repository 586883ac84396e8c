"""One answer over HTTP, as server-sent events or as one document. It ends when its client goes away."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from millrace import log
from millrace.dialects.event_log import Codec, EventLog
from millrace.errors import EXITS, MillraceError, internal_error, slow_consumer
from millrace.ports import Clock
from millrace.runs.run import Run
from millrace.web.limit_headers import limit_headers
from millrace.web.websocket import EXTENSION
from millrace.wire import limits

MAX_PIECE = 64 * 1024  # bytes sent at once
LOOK_S = 1.0  # from one look at whether the peer is still there to the next


class HttpConnection(Protocol):
    """The connection that carries an answer, where the server gives access to it."""

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the peer has not taken."""
        ...

    @property
    def unheard_s(self) -> float:
        """Seconds for which the peer's system has not acknowledged what was sent."""
        ...

    def abort(self) -> None:
        """Close the connection at once; what was not sent is lost."""
        ...


class SseResponse(Response):
    """A run shown as server-sent events, from an event's number on, until its end or until its client has gone."""

    media_type = "text/event-stream"

    def __init__(
        self,
        run: Run,
        event_log: EventLog,
        codec: Codec,
        *,
        streams: "set[SseResponse]",
        clock: Clock,
        stuck_s: float,
        make: Callable[[], bytes],
        start: int = 0,
    ) -> None:
        super().__init__(headers=response_headers(run) | {"X-Accel-Buffering": "no"})
        del self.headers["Content-Length"]
        self._run = run
        self._event_log = event_log
        self._codec = codec
        self._streams = streams
        self._clock = clock
        self._stuck_s = stuck_s
        self._make = make  # the answer in one piece, or raises why there is none
        self._at = start
        self._waiting_bytes = 0  # not yet sent, about
        self._new_events = asyncio.Event()
        self._sent_at = self._moved_at = self._looked_at = clock()
        self._sending = False
        self._has_failed = False  # it has raised
        self._connection: HttpConnection | None = None
        self._unsent = 0
        self._task: asyncio.Task[None] | None = None
        run.done.add_done_callback(lambda _: self._new_events.set())
        run.add_listener()
        event_log.join(self)

    @property
    def ready(self) -> bool:
        """Whether the client has taken everything so far."""
        return not self._sending

    @property
    def congested(self) -> bool:
        """Whether too much waits for the client."""
        return self._sending and self._waiting_bytes > limits.WAITING_BYTES

    def show(self, deltas: list[str], number: int) -> bool:
        """Write nothing now: its task does, in its turn."""
        return False

    def notify(self, size: int) -> None:
        """Wake the sender. If the client does not keep up, the model may have to wait too."""
        was_congested = self.congested
        self._waiting_bytes += size
        self._new_events.set()
        if self.congested is not was_congested:
            self._event_log.response.apply_backpressure()

    def sweep(self, now: float) -> None:
        """Have something sent after a silence; give up a client that takes nothing, or is dead. Called by the sweeper.

        What is sent after silences shows that one is dead that has nothing else to acknowledge.
        """
        unsent = 0 if self._connection is None else self._connection.unsent
        if not self._sending or unsent < self._unsent:
            self._moved_at = now
        self._unsent = unsent
        if now - self._moved_at >= self._stuck_s:
            self.give_up(slow_consumer(self._stuck_s))
        elif now - self._sent_at >= limits.SILENT_S:
            self._new_events.set()
        if self._connection is not None and now - self._looked_at >= LOOK_S:
            self._looked_at = now
            if self._connection.unheard_s >= self._stuck_s:
                self._connection.abort()

    def fail(self) -> None:
        """End with `internal_error`."""
        self._has_failed = True
        self._new_events.set()

    def give_up(self, error: MillraceError) -> None:
        """Drop a client that takes nothing, and end the run if nobody else listens to it."""
        if self._run.listeners <= 1:
            self._run.halt(error)
        if self._connection is not None:
            self._connection.abort()
        elif self._task is not None:
            self._task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the client has gone."""
        self._connection = scope.get("extensions", {}).get(EXTENSION)
        self._streams.add(self)
        self._task = asyncio.get_running_loop().create_task(self._send_all(send))
        try:
            await until_gone(self._task, receive)
        finally:
            self._task = None
            self._streams.discard(self)
            self._event_log.leave(self)
            self._run.remove_listener()

    async def _send_all(self, send: Send) -> None:
        await self._until_begun()
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        while not self._is_at_end:
            self._new_events.clear()
            while piece := self._piece():
                await self._send(send, piece)
            if self._is_silent:
                await self._send(send, self._codec.keep_alive)
            if not self._is_at_end:
                await self._new_events.wait()
        if self._has_failed or self._event_log.is_broken:
            await self._send(send, self._codec.failure(internal_error()))
        elif self._at == 0:
            await self._send(send, self._codec.failure(self._why_none()))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_begun(self) -> None:
        """Wait for the first event. What fails before it is an HTTP error, which clients know how to repeat.

        After a silence the stream begins without an event, and what fails from then on is an error in the stream.
        """
        while not self._event_log.is_begun and not self._is_silent:
            if self._is_at_end or self._run.is_over:
                raise self._why_none()
            await self._new_events.wait()
            self._new_events.clear()

    @property
    def _is_silent(self) -> bool:
        """Whether nothing was sent for so long that a proxy might close the connection."""
        return self._clock() - self._sent_at >= limits.SILENT_S

    @property
    def _is_at_end(self) -> bool:
        """Whether there is no event after those sent. A run that was refused has none at all."""
        is_refused = self._run.is_over and not self._event_log.is_begun
        return self._has_failed or is_refused or self._event_log.ends_at(self._at)

    def _why_none(self) -> MillraceError:
        """Return why there is no event."""
        if self._run.error is not None:
            return self._run.error
        if self._run.response.ended is not None and not self._event_log.is_broken:
            try:
                self._make()
            except MillraceError as error:
                error.has_run = True
                return error
        return internal_error()

    def _piece(self) -> bytes:
        try:
            frames = self._event_log.frames(self._at, self._codec, MAX_PIECE)
        except EXITS:
            raise
        except BaseException as error:
            log.get().error("event not encoded", id=self._run.request.id, exc_info=error)
            self._has_failed = True
            return b""
        self._at += len(frames)
        return b"".join(frames)

    async def _send(self, send: Send, piece: bytes) -> None:
        self._waiting_bytes = 0
        self._sent_at = self._moved_at = self._clock()
        self._sending = True
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        was_congested, self._sending = self.congested, False
        if was_congested:
            self._event_log.response.apply_backpressure()


class WholeResponse(Response):
    """A run's answer as one document, once it has ended: `make` returns it, or raises why there is none."""

    def __init__(self, run: Run, make: Callable[[], bytes]) -> None:
        super().__init__()
        self._run = run
        self._make = make
        run.add_listener()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the end, or until the client has gone."""
        task = asyncio.get_running_loop().create_task(self._send_all(scope, receive, send))
        try:
            await until_gone(task, receive)
        finally:
            self._run.remove_listener()

    async def _send_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._run.wait()
        try:
            body = self._make()
        except MillraceError as error:
            error.has_run = True
            if self._run.admitted is not None:
                error.left = self._run.admitted.left()
            raise
        answer = Response(body, headers=response_headers(self._run), media_type="application/json")
        await answer(scope, receive, send)


def response_headers(run: Run) -> dict[str, str]:
    """Return the headers of a run's answer. Its id stands under the names that OpenAI and Anthropic give it.

    Those of its limits say what is left now.
    """
    headers = {"Cache-Control": "no-store", "X-Request-Id": run.request.id, "Request-Id": run.request.id}
    return headers if run.admitted is None else headers | limit_headers(run.admitted.left())


async def until_gone(task: "asyncio.Task[None]", receive: Receive) -> None:
    """Wait for a task, or until the client has gone; then the task is cancelled."""
    gone = asyncio.get_running_loop().create_task(_gone(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.wait((task, gone))
    for each in (task, gone):
        if not each.cancelled():
            each.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
