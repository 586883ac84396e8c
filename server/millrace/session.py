"""One WebSocket: read frames, run lanes, cancel. Everything it writes goes through its outbox."""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from millrace import __version__, lanes, log
from millrace.catalog import Catalog
from millrace.checks import form
from millrace.errors import MillraceError
from millrace.funnel import Funnel
from millrace.lanes import Lanes, Place
from millrace.outbox import FrameWriter, Outbox
from millrace.ports import Clock
from millrace.projection import Projection
from millrace.response import Response
from millrace.types import Delivery, Request
from millrace.wire import requests, responses

MAX_MESSAGE = 2**20  # bytes of an inbound frame
PING_S = 20.0
WHILE_PAUSED = 32  # frames that are read from a peer that does not read
REMEMBERED = 256  # ended responses of a connection that a late cancel may still name
ANONYMOUS = "anonymous"  # the tenant of everyone while there are no keys

Receive = Callable[[], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What every session of this process shares."""

    funnel: Funnel
    catalog: Catalog
    clock: Clock
    wall: Clock
    epoch: str


@dataclass(slots=True)
class Job:
    """A request of this connection, waiting or running."""

    response: Response
    event_id: str | None
    task: asyncio.Task[None] | None = None
    cancelled: bool = False


class UnreadableMessage(Exception):  # noqa: N818 - the peer's fault, answered by a close
    """A message that ends the connection; `code` is the close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Session:
    """One accepted connection, from its first frame to its last."""

    def __init__(self, process: Process, writer: FrameWriter, *, negotiated: bool) -> None:
        self._process = process
        self._negotiated = negotiated
        self._outbox = Outbox(writer, self._pause, self._resume)
        self._lanes = Lanes()
        self._jobs: dict[Place, Job] = {}
        self._ended: deque[str] = deque(maxlen=REMEMBERED)
        self._paused = False
        self._unheeded = 0  # frames read while paused
        self._going = asyncio.Event()
        self._closing = False

    async def run(self, receive: Receive) -> None:
        """Read until the peer is gone; then cancel what still runs, and wait until it is settled."""
        if self._negotiated:
            self._outbox.put(self._hello())
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                if (text := message.get("text")) is None:
                    raise UnreadableMessage(1003, "text frames only")
                self._take(text)
                await self._heed_the_pause()
        finally:
            await self._close()

    async def _heed_the_pause(self) -> None:
        """Read on while the peer keeps up; one that does not may still send a few frames: it may want to cancel."""
        self._unheeded = self._unheeded + 1 if self._paused else 0
        if self._unheeded > WHILE_PAUSED:
            await self._going.wait()

    def _take(self, text: str) -> None:
        """Act on one frame; whatever is wrong with it is answered on its lane, and the connection goes on."""
        envelope = None
        try:
            envelope = requests.open_frame(text)
            requests.check_ids(envelope)
            match envelope.type:
                case "response.create":
                    self._create(envelope)
                case "response.cancel":
                    self._cancel(requests.read_cancel(envelope))
                case unknown:
                    message = f"type: {unknown[:80]!r} is not known; write response.create or response.cancel"
                    raise MillraceError("unknown_event", message, param="type")
        except MillraceError as error:
            self._refuse(error, envelope.stream_id if envelope else None, envelope.event_id if envelope else None)
        except Exception as error:  # one request's fault must not end the other lanes
            log.get().error("frame crashed", exc_info=error)
            self._refuse(MillraceError("internal_error", "a fault in Millrace; it has been logged"))

    def _create(self, envelope: requests.Envelope) -> None:
        request = self._request(requests.read_create(envelope.fields))
        place = Place(request.id, envelope.stream_id)
        self._lanes.join(place)
        response = Response(request, self._process.clock)
        self._jobs[place] = Job(response, envelope.event_id)
        if self._paused:
            response.pause()
        response.subscribe(
            Projection(
                response,
                self._outbox.put,
                created_at=int(self._process.wall()),
                stream_id=envelope.stream_id,
                negotiated=self._negotiated,
            )
        )
        self._start_ready()

    def _request(self, create: requests.Create) -> Request:
        model, strategy = self._process.catalog.resolve(create.model, create.strategy)
        form.check_schema(create.prompt.format)
        return Request(
            id="resp_" + secrets.token_hex(16),
            tenant=ANONYMOUS,
            model=model,
            strategy=strategy,
            delivery=self._delivery(create),
            cache=create.cache,
            prompt=create.prompt,
            metadata=create.metadata,
            context=create.context,
            context_budget=create.context_budget,
            grace_ms=create.grace_ms,
            hedge_ms=create.hedge_ms,
        )

    def _delivery(self, create: requests.Create) -> Delivery:
        """Return what was asked for; but a client that did not negotiate never sees a word that may be taken back."""
        if create.delivery is None and create.prompt.format is not None:
            return Delivery.COMMIT
        asked = create.delivery or Delivery.SPECULATE
        return Delivery.PREFIX if asked is Delivery.SPECULATE and not self._negotiated else asked

    def _start_ready(self) -> None:
        while not self._closing and (place := self._lanes.start_next()) is not None:
            task = asyncio.get_running_loop().create_task(self._answer(place))
            self._jobs[place].task = task
            task.add_done_callback(partial(self._after, place))

    async def _answer(self, place: Place) -> None:
        job = self._jobs[place]
        try:
            await self._process.funnel.answer(job.response)
        except MillraceError as error:  # refused before it became a response
            self._refuse(error, place.stream_id, job.event_id)

    def _after(self, place: Place, task: asyncio.Task[None]) -> None:
        """See a request out; one that was cancelled before its task ran still gets its beginning and its end."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.get().error("request crashed outside the funnel", id=place.response_id, exc_info=error)
        response = self._jobs[place].response
        if task.cancelled() and response.started_at is None:
            self._process.funnel.drop(response)
        self._leave(place)
        self._start_ready()

    def _leave(self, place: Place) -> None:
        self._lanes.leave(place)
        self._ended.append(place.response_id)
        del self._jobs[place]
        self._drop_cancelled(place.stream_id)

    def _cancel(self, cancel: requests.Cancel) -> None:
        for place in self._named(cancel):
            job = self._jobs[place]
            job.cancelled = True
            if job.task is not None:
                job.task.cancel()
            else:
                self._drop_cancelled(place.stream_id)

    def _drop_cancelled(self, stream_id: str | None) -> None:
        """End cancelled requests whose turn it is in a lane: what is before them in it comes to its end first."""
        for place in self._lanes.in_lane(stream_id)[:1]:
            job = self._jobs[place]
            if job.cancelled and job.task is None:
                self._process.funnel.drop(job.response)
                self._leave(place)

    def _named(self, cancel: requests.Cancel) -> list[Place]:
        if cancel.response_id is None:
            return self._lanes.in_lane(cancel.stream_id)
        places = [place for place in self._jobs if place.response_id == cancel.response_id]
        if not places and cancel.response_id not in self._ended:
            message = f"response_id: {cancel.response_id[:80]!r} is not a response of this connection"
            raise MillraceError("response_not_found", message, param="response_id")
        return places

    def _refuse(self, error: MillraceError, stream_id: str | None = None, event_id: str | None = None) -> None:
        self._outbox.put(responses.error_event(error, stream_id, event_id))

    def _pause(self) -> None:
        self._paused = True
        self._going.clear()
        for job in self._jobs.values():
            job.response.pause()

    def _resume(self) -> None:
        self._paused = False
        self._going.set()
        for job in self._jobs.values():
            job.response.resume()

    async def _close(self) -> None:
        self._closing = True
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for job in list(self._jobs.values()):  # those that waited never ran, and have a row all the same
            if job.response.started_at is None:
                self._process.funnel.drop(job.response)
        self._outbox.flush()

    def _hello(self) -> bytes:
        limits = responses.Limits(
            in_flight=lanes.MAX_RUNNING,
            queued=lanes.MAX_WAITING,
            lanes=lanes.MAX_NAMED,
            max_message_bytes=MAX_MESSAGE,
        )
        return responses.encode(
            responses.Hello(
                connection_id="conn_" + secrets.token_hex(8),
                epoch=self._process.epoch,
                version=__version__,
                limits=limits,
                heartbeat_s=PING_S,
            )
        )
