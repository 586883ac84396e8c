"""One WebSocket: read frames, run lanes, cancel, resume. Everything it writes goes through its outbox."""

import asyncio
import itertools
import random
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from millrace import __version__, log
from millrace.dialects.responses import EventCodec, in_responses
from millrace.errors import MillraceError
from millrace.funnel import checks
from millrace.principal import Principal
from millrace.runs import runs
from millrace.runs.conversations import not_found
from millrace.runs.intake import draining, repeat_of
from millrace.runs.runs import Run
from millrace.types import OnDisconnect, Request
from millrace.web import lanes
from millrace.web.lanes import Lanes, Place
from millrace.web.outbox import Feed, FrameWriter, Outbox
from millrace.web.process import Process
from millrace.web.sse import slow_consumer
from millrace.wire import requests, responses

PING_S = 20.0
LINGER_S = 1.0  # that a connection stays open at least when the server drains
LAST_WORDS_S = 2.0  # that a peer may take to read how what was given up has ended
WHILE_PAUSED = 32  # frames that are read from a peer that does not read
REMEMBERED = 256  # ended responses of a connection that a late cancel may still name
TURN = 64  # frames that are read before others get a turn
MAX_BAD, BAD_WITHIN_S = 1000, 10.0  # frames that were refused

Receive = Callable[[], Awaitable[dict[str, Any]]]
Begin = Callable[[], Awaitable[tuple[Run, int]]]  # its run, and the number of the first event to be told


@dataclass(slots=True, eq=False)
class Job:
    """A request of this connection, or a replay, waiting for its turn or having it."""

    response_id: str
    begin: Begin
    event_id: str | None
    request: Request | None = None  # None: a replay
    task: asyncio.Task[None] | None = None
    run: Run | None = None  # a replay listens, and may be cancelled, while it still waits
    cancelled: bool = False
    present: bool = False

    def listen(self, run: Run) -> None:
        """Listen to a run. Idempotent."""
        if not self.present:
            self.run, self.present = run, True
            run.come()

    def stop_listening(self) -> None:
        """Listen no more. Idempotent."""
        if self.present and self.run is not None:
            self.present = False
            self.run.go()

    def names(self, response_id: str) -> bool:
        """Whether this is the job of a response; a repeat has the id of the one it repeats."""
        return response_id == (self.response_id if self.run is None else self.run.request.id)


@dataclass(slots=True)
class Closing:
    """How a connection ends that takes no new requests. All times by the clock."""

    since: float
    by: float  # what runs then is failed
    spread_s: float  # so that not all connections close, and come back, at once
    close_at: float | None = None  # once nothing runs


class Closed(Exception):  # noqa: N818 - an end, not an error
    """The connection is to be closed; `code` is the close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Session:
    """One accepted connection, from its first frame to its last."""

    def __init__(self, process: Process, writer: FrameWriter, principal: Principal, *, negotiated: bool) -> None:
        self._process = process
        self._principal = principal
        self._negotiated = negotiated
        self._dialect = in_responses(negotiated=negotiated)
        self._outbox = Outbox(writer)
        self._lanes = Lanes()
        self._jobs: dict[Place, Job] = {}
        self._numbers = itertools.count()
        self._ended: deque[str] = deque(maxlen=REMEMBERED)
        self._last: dict[str | None, Run] = {}  # by lane, the latest at the end
        self._read_while_paused = 0  # frames read while the peer does not read
        self._bad: deque[float] = deque(maxlen=MAX_BAD)  # when frames were refused
        self._opened_at = process.clock()
        self._unsent, self._moved_at = 0, self._opened_at
        self._closing: Closing | None = None  # no new requests
        self._gone = False
        self._close: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()

    async def run(self, receive: Receive) -> None:
        """Read until the peer is gone, or raise `Closed`; then let go of what still runs."""
        self._process.sessions.add(self)
        if self._negotiated:
            self._outbox.put(self._hello())
        reading = asyncio.get_running_loop().create_task(self._read(receive))
        try:
            await asyncio.wait((reading, self._close), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            else:
                raise self._close.result()
        finally:
            self._process.sessions.discard(self)
            self._process.busy.discard(self)
            reading.cancel()
            await self._release_runs()

    def close(self, code: int, reason: str) -> None:
        """End the connection soon. Only the first call counts."""
        if not self._close.done():
            self._close.set_result(Closed(code, reason))

    def start_closing(self, by: float, spread_s: float = 0.0) -> None:
        """Take no new requests, and say so; what runs may go on until then. Only the first call counts."""
        if self._closing is not None:
            return
        now = self._process.clock()
        self._process.busy.add(self)
        self._closing = Closing(since=now, by=by, spread_s=spread_s)
        if self._negotiated:
            message = responses.Draining(
                deadline_ms=max(0, round((by - now) * 1000)),
                reconnect_after_ms=round(1000 * random.uniform(0, spread_s)),
            )
            self._outbox.put(responses.encode(message))

    def sweep(self, now: float) -> None:
        """See whether it is time to leave, or to give up on a peer that takes nothing. Called by the sweeper."""
        if not self._jobs and self._closing is None and self._outbox.writable.is_set():
            self._process.busy.discard(self)
        if not self._process.gate.keyring.holds(self._principal.key_id):
            self.close(1008, "this key is good no more")
        elif self._closing is not None:
            self._close_when_idle(self._closing, now)
        elif now - self._opened_at >= self._process.max_age_s:
            self.start_closing(now + self._process.drain_s)
        if self._outbox.writable.is_set():
            self._moved_at, self._unsent = now, 0
        else:
            self._give_up_if_stuck(now)

    def _give_up_if_stuck(self, now: float) -> None:
        """See whether a peer that does not keep up takes anything at all."""
        unsent = self._outbox.unsent
        if unsent < self._unsent:
            self._moved_at = now
        self._unsent = unsent
        if now - self._moved_at >= self._process.stuck_s:
            self._halt(slow_consumer(self._process.stuck_s))
            self.close(1013, "slow consumer")

    def _close_when_idle(self, closing: Closing, now: float) -> None:
        """Close when nothing runs any more, but not before a request on its way has been answered.

        What may go on without this connection is not ended for it; who wants its end resumes it elsewhere.
        """
        if self._jobs or self._outbox.unsent:
            if now >= closing.by:
                self._halt(draining(), also_detached=False)
            if now >= closing.by + LAST_WORDS_S:
                self.close(1012, "connect again")
        elif closing.close_at is None:
            closing.close_at = max(closing.since + LINGER_S, now) + random.uniform(0, closing.spread_s)
        elif now >= closing.close_at:
            self.close(1012, "connect again")

    def _halt(self, error: MillraceError, *, also_detached: bool = True) -> None:
        """End what runs for this connection alone; what others listen to goes on for them."""
        mine = Counter(job.run for job in self._jobs.values() if job.run is not None and job.present)
        for run, times in mine.items():
            ends = also_detached or run.request.on_disconnect is OnDisconnect.CANCEL
            if ends and run.present <= times:
                run.halt(error)

    async def _read(self, receive: Receive) -> None:
        for count in itertools.count(1):
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            if (text := message.get("text")) is None:
                raise Closed(1003, "text frames only")
            self._take(text)
            await self._wait_while_paused()
            if count % TURN == 0:
                await asyncio.sleep(0)

    async def _wait_while_paused(self) -> None:
        """Read on while the peer keeps up; one that does not may still send a few frames: it may want to cancel."""
        if self._outbox.writable.is_set():
            self._read_while_paused = 0
            return
        self._process.busy.add(self)
        self._read_while_paused += 1
        if self._read_while_paused > WHILE_PAUSED:
            await self._outbox.writable.wait()

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
                case "response.steer":
                    self._outbox.put(responses.steer_failed(envelope.fields, envelope.stream_id, envelope.event_id))
                case "millrace.resume":
                    self._resume(envelope, requests.read_resume(envelope))
                case "millrace.ping":
                    self._outbox.put(responses.encode(responses.Pong(t=requests.read_ping(envelope).t)))
                case unknown:
                    message = f"type: {unknown[:80]!r} is not known; write one of {', '.join(requests.TYPES)}"
                    raise MillraceError("unknown_event", message, param="type")
        except MillraceError as error:
            self._refuse_frame(error, envelope)
            self._count_bad()
        except Exception as error:  # one request's fault must not end the other lanes
            log.get().error("frame crashed", exc_info=error)
            self._refuse_frame(_fault(), envelope)

    def _create(self, envelope: requests.Envelope) -> None:
        if self._closing is not None:
            raise draining()
        create = requests.read_create(envelope.fields, checks.NAMES)
        request = self._process.intake.read(create, self._principal, negotiated=self._negotiated)
        repeat = repeat_of(create, envelope.fields, self._principal)

        async def begin() -> tuple[Run, int]:
            if self._closing is not None and self._process.clock() >= self._closing.by:
                raise draining()
            return await self._process.intake.start(
                request, self._principal, repeat, self._last.get(envelope.stream_id)
            ), 0

        self._queue(Job(request.id, begin, envelope.event_id, request), envelope.stream_id)

    def _resume(self, envelope: requests.Envelope, asked: requests.Resume) -> None:
        run = self._resumable(asked)
        stream_id, start = envelope.stream_id or run.stream_id, asked.after + 1

        async def begin() -> tuple[Run, int]:
            if self._negotiated:
                self._outbox.put(responses.encode(self._resumed(run, start, stream_id)))
            return run, start

        job = Job(asked.response_id, begin, envelope.event_id)
        self._queue(job, stream_id)
        job.listen(run)

    def _resumable(self, asked: requests.Resume) -> Run:
        run = self._process.runs.find(self._principal.tenant, asked.response_id)
        if asked.epoch != self._process.epoch or run is None:
            message = "the response is not kept here (any more); ask again, with the same idempotency_key"
            raise MillraceError("resume_expired", message, param="response_id")
        known = run.projections.get(self._dialect)
        if known is None:
            raise MillraceError("resume_gap", "connect in the way the request was made, with or without millrace.v1")
        if run.log_bytes > runs.MAX_LOG:
            raise MillraceError("resume_gap", "the response is too long to be told again", param="response_id")
        if asked.after >= len(known.event_log.written):
            raise MillraceError("resume_gap", f"after: event {asked.after} was never sent", param="after")
        return run

    def _resumed(self, run: Run, start: int, stream_id: str | None) -> responses.Resumed:
        event_log = run.projection(self._dialect).event_log
        return responses.Resumed(
            response_id=run.request.id,
            from_=start,
            through=len(event_log.written) - 1,
            stream_id=responses.lane(stream_id),
        )

    def _queue(self, job: Job, stream_id: str | None) -> None:
        place = Place(next(self._numbers), stream_id)
        self._lanes.join(place)
        self._jobs[place] = job
        self._process.busy.add(self)
        self._start_ready()

    def _start_ready(self) -> None:
        while not self._gone and (place := self._lanes.start_next()) is not None:
            self._start(place)

    def _start(self, place: Place) -> None:
        job = self._jobs[place]
        job.task = asyncio.get_running_loop().create_task(self._serve(place, job))

    def _start_cancelled(self, stream_id: str | None) -> None:
        """Give a cancelled request that is the first of its lane its turn at once, however many run."""
        for place in self._lanes.in_lane(stream_id)[:1]:
            job = self._jobs[place]
            if job.cancelled and job.task is None and not self._gone:
                self._lanes.start(place)
                self._start(place)

    async def _serve(self, place: Place, job: Job) -> None:
        """Give a job its turn: tell its run to the end, or say why it never became a response."""
        try:
            if job.cancelled and job.request is not None:
                run, start = self._process.intake.drop(job.request), 0
            else:
                run, start = await job.begin()
            job.listen(run)
            if job.cancelled:
                run.cancel()
            await self._tell(place, run, start)
        except MillraceError as error:
            self._refuse(error, place.stream_id, job.event_id)
        except Exception as error:  # the lane must go on
            log.get().error("job crashed", id=job.response_id, exc_info=error)
            self._refuse(_fault(), place.stream_id, job.event_id)
        finally:
            job.stop_listening()
            self._lanes.leave(place)
            self._ended.append(job.response_id if job.run is None else job.run.request.id)
            if not self._gone:
                del self._jobs[place]
            self._start_cancelled(place.stream_id)
            self._start_ready()

    async def _tell(self, place: Place, run: Run, start: int) -> None:
        """Write a run's events as they come, until the last has been written or there is nobody to write to."""
        if run.stream_id is None and not run.projections:
            run.stream_id = place.stream_id
        shown = run.projection(self._dialect)
        feed = Feed(shown.event_log, self._outbox, EventCodec(shown, place.stream_id), start)
        try:
            assert run.task is not None, "it has been started"
            await asyncio.wait((run.task,))
            if run.refused is not None:
                raise run.refused
            await feed.finished
            self._remember(place.stream_id, run)
        finally:
            feed.close()

    def _remember(self, stream_id: str | None, run: Run) -> None:
        """Note what a lane told last; of the lanes that were used, only the latest are known."""
        self._last.pop(stream_id, None)
        self._last[stream_id] = run
        if len(self._last) > lanes.MAX_NAMED + 1:
            del self._last[next(iter(self._last))]

    def _cancel(self, cancel: requests.Cancel) -> None:
        for place in self._named(cancel):
            job = self._jobs[place]
            job.cancelled = True
            if job.run is not None:
                job.run.cancel()
            self._start_cancelled(place.stream_id)

    def _named(self, cancel: requests.Cancel) -> list[Place]:
        if cancel.response_id is None:
            return self._lanes.in_lane(cancel.stream_id)
        places = [place for place, job in self._jobs.items() if job.names(cancel.response_id)]
        if places or cancel.response_id in self._ended:
            return places
        run = self._process.runs.find(self._principal.tenant, cancel.response_id)
        if run is None:
            raise not_found(cancel.response_id)
        run.cancel()
        return []

    def _refuse_frame(self, error: MillraceError, envelope: requests.Envelope | None) -> None:
        """Refuse with the frame's ids, where it could be read that far."""
        if envelope is None:
            self._refuse(error)
        else:
            self._refuse(error, envelope.stream_id, envelope.event_id)

    def _refuse(self, error: MillraceError, stream_id: str | None = None, event_id: str | None = None) -> None:
        self._outbox.put(responses.error_event(error, stream_id, event_id))

    def _count_bad(self) -> None:
        """Close on a peer that sends hardly anything else than what has to be refused."""
        now = self._process.clock()
        self._bad.append(now)
        if len(self._bad) == MAX_BAD and now - self._bad[0] < BAD_WITHIN_S:
            self.close(1008, "too many bad frames")

    async def _release_runs(self) -> None:
        """Leave all runs; those that waited never ran, and have a row all the same."""
        self._gone = True
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for job in self._jobs.values():
            job.stop_listening()
            if job.run is None and job.request is not None:
                self._process.intake.drop(job.request)
        self._outbox.flush()

    def _hello(self) -> bytes:
        limits = responses.ConnectionLimits(
            in_flight=lanes.MAX_RUNNING,
            queued=lanes.MAX_WAITING,
            lanes=lanes.MAX_NAMED,
            max_message_bytes=self._process.max_message_bytes,
            max_age_s=self._process.max_age_s,
        )
        return responses.encode(
            responses.Hello(
                connection_id="conn_" + secrets.token_hex(8),
                epoch=self._process.epoch,
                version=__version__,
                limits=limits,
                heartbeat_s=PING_S,
                resume=responses.ResumeLimits(ttl_s=runs.KEPT_S, detached_s=runs.DETACHED_S, bytes=runs.MAX_LOG),
            )
        )


def _fault() -> MillraceError:
    return MillraceError("internal_error", "a fault in Millrace; it has been logged")
