"""The requests of one connection: each waits for its turn in its lane, is shown to its end, and can be cancelled."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from msgspec import Struct

from millrace import log
from millrace.dialects.event_log import EventLog, FrameCodec
from millrace.errors import EXITS, MillraceError, internal_error
from millrace.memory import Hold
from millrace.runs.conversations import not_found
from millrace.runs.run import Run
from millrace.types import OnDisconnect, Request
from millrace.web.lanes import Lanes, Place
from millrace.web.outbox import Feed, Outbox
from millrace.web.process import Process
from millrace.wire import limits
from millrace.wire.requests import Cancel

REMEMBERED = 256  # ended responses of a connection that a late cancel may still name

# Its run, and the number of the first event to be sent. It is given what is held for the request.
Begin = Callable[[Hold], Awaitable[tuple[Run, int]]]
Refuse = Callable[[MillraceError, str | None, str | None], None]  # an error, its lane, the id of its frame
# The events of a run and how they are encoded, for a lane and the id of the frame that asked for it.
Show = Callable[[Run, str | None, str | None], tuple[EventLog, FrameCodec]]


class Job(Struct, eq=False):
    """A request of this connection, or a replay, waiting for its turn or having it."""

    response_id: str
    begin: Begin
    event_id: str | None
    held: Hold  # of what the client may hold, until the run has it
    request: Request | None = None  # None: a replay
    waiting_bytes: int = 0  # while it waits for its turn
    task: asyncio.Task[None] | None = None
    is_beginning: bool = False  # `begin` runs, and a cancel interrupts it
    run: Run | None = None  # a replay listens, and may be cancelled, while it still waits
    is_cancelled: bool = False
    is_listening: bool = False

    def listen(self, run: Run) -> None:
        """Listen to a run. Idempotent."""
        if not self.is_listening:
            self.run, self.is_listening = run, True
            run.add_listener()

    def stop_listening(self) -> None:
        """Listen no more. Idempotent."""
        if self.is_listening and self.run is not None:
            self.is_listening = False
            self.run.remove_listener()

    def is_of(self, response_id: str) -> bool:
        """Whether this is the job of a response; a repeat has the id of the one it repeats."""
        return response_id == self.shown_id

    @property
    def shown_id(self) -> str:
        """The id of the response as the client knows it."""
        return self.response_id if self.run is None else self.run.request.id


class Jobs:
    """All jobs of one connection, by their place in its lanes."""

    __slots__ = (
        "_end",
        "_ended",
        "_is_released",
        "_jobs",
        "_lanes",
        "_last",
        "_outbox",
        "_process",
        "_refuse",
        "_show_run",
        "_waiting_bytes",
    )

    def __init__(
        self, process: Process, outbox: Outbox, show: Show, refuse: Refuse, end: "Callable[[Job], None]"
    ) -> None:
        """`end` is called with each job whose last event has been written."""
        self._process = process
        self._outbox = outbox
        self._show_run = show
        self._refuse = refuse
        self._end = end
        self._lanes = Lanes()
        self._jobs: dict[Place, Job] = {}
        self._ended: list[str] = []
        self._last: dict[str | None, str] = {}  # ids of runs by lane, the latest at the end
        self._waiting_bytes = 0
        self._is_released = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs or waits."""
        return not self._jobs

    def last_of(self, stream_id: str | None) -> Run | None:
        """Return the run that a lane has shown last, unless it had to be dropped."""
        return self._process.runs.kept.last_of_lane(self._last.get(stream_id, ""))

    def add(self, job: Job, stream_id: str | None) -> None:
        """Let a job wait for its turn. Raises `queue_full` or `websocket_stream_limit_reached`."""
        place = Place(stream_id)
        size = job.request.memory_bytes if job.request is not None and self._lanes.must_wait(place) else 0
        if size and self._waiting_bytes and self._waiting_bytes + size > limits.QUEUED_BYTES:
            message = f"{self._waiting_bytes} bytes of requests wait on this connection already"
            raise MillraceError("queue_full", message, retry_after_ms=1000)
        self._lanes.join(place)
        job.waiting_bytes = size
        self._waiting_bytes += size
        self._jobs[place] = job
        self._start_ready()

    def cancel(self, cancel: Cancel, tenant: str) -> None:
        """Cancel a response, or a lane's running request and those queued behind it; raise `response_not_found`.

        The terminal event is the acknowledgement (PROTOCOL.md, Client to server). So a request that still waits is
        started as soon as it is the first of its lane, however many run, and gets its first event and its terminal.
        """
        self._cancel(self._named(cancel, tenant))

    def cancel_asked(self, event_id: str) -> None:
        """Cancel what a frame has asked for. Nothing happens if it has ended, or was never asked for."""
        self._cancel([place for place, job in self._jobs.items() if job.event_id == event_id])

    def _cancel(self, places: list[Place]) -> None:
        for place in places:
            job = self._jobs[place]
            job.is_cancelled = True
            if job.run is not None:
                job.run.cancel()
            elif job.is_beginning and job.task is not None:
                job.is_beginning = False
                job.task.cancel()
            self._start_cancelled(place.stream_id)

    def halt(self, error: MillraceError, *, also_detached: bool = True) -> None:
        """End what runs for this connection alone; what others listen to goes on for them."""
        mine = Counter(job.run for job in self._jobs.values() if job.run is not None and job.is_listening)
        for run, times in mine.items():
            ends = also_detached or run.request.on_disconnect is OnDisconnect.CANCEL
            if ends and run.listeners <= times:
                run.halt(error)

    async def release(self) -> None:
        """Stop listening to all runs. Those that waited never ran, and get their row in the ledger all the same."""
        self._is_released = True
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for job in self._jobs.values():
            job.stop_listening()
            self._stop_waiting(job)
            if job.run is None and job.request is not None:
                self._process.intake.drop(job.request, job.held)
            job.held.close()
        self._jobs.clear()
        for stream_id in tuple(self._last):
            self._release_last(stream_id)

    def _named(self, cancel: Cancel, tenant: str) -> list[Place]:
        if cancel.response_id is None:
            return self._lanes.in_lane(cancel.stream_id)
        places = [place for place, job in self._jobs.items() if job.is_of(cancel.response_id)]
        if places or cancel.response_id in self._ended:
            return places
        run = self._process.runs.find(tenant, cancel.response_id)
        if run is None:
            raise not_found(cancel.response_id)
        run.cancel()
        return []

    def _start_ready(self) -> None:
        while not self._is_released and (place := self._lanes.start_next()) is not None:
            self._start(place)

    def _start(self, place: Place) -> None:
        job = self._jobs[place]
        self._stop_waiting(job)
        job.task = asyncio.get_running_loop().create_task(self._serve(place, job))

    def _stop_waiting(self, job: Job) -> None:
        self._waiting_bytes -= job.waiting_bytes
        job.waiting_bytes = 0

    def _start_cancelled(self, stream_id: str | None) -> None:
        """Give a cancelled request that is the first of its lane its turn at once, however many run."""
        for place in self._lanes.in_lane(stream_id)[:1]:
            job = self._jobs[place]
            if job.is_cancelled and job.task is None and not self._is_released:
                self._lanes.start(place)
                self._start(place)

    async def _serve(self, place: Place, job: Job) -> None:
        """Give a job its turn: show its run to the end, or say why it never became a response."""
        try:
            run, start = await self._begun(job)
            job.listen(run)
            if job.is_cancelled:
                run.cancel()
            await self._show(place, job, run, start)
        except MillraceError as error:
            self._refuse(error, place.stream_id, job.event_id)
        except EXITS:
            raise
        except BaseException as error:  # the lane must go on
            log.get().error("job crashed", id=job.response_id, exc_info=error)
            self._refuse(internal_error(), place.stream_id, job.event_id)
        finally:
            job.task = None  # its traceback, if it is cancelled, has this frame, and so the job
            job.stop_listening()
            if not self._is_released:
                job.held.close()
            self._lanes.leave(place)
            self._ended.append(job.shown_id)
            del self._ended[:-REMEMBERED]
            if not self._is_released:
                del self._jobs[place]
            self._start_cancelled(place.stream_id)
            self._start_ready()

    async def _begun(self, job: Job) -> tuple[Run, int]:
        """Begin a job. A request that is cancelled before its run has begun gets its terminal at once."""
        if job.request is None:
            return await job.begin(job.held)
        if not job.is_cancelled:
            job.is_beginning = True
            try:
                return await job.begin(job.held)
            except asyncio.CancelledError:
                if not job.is_cancelled or (job.task is not None and job.task.uncancel()):
                    raise  # the connection ends
            finally:
                job.is_beginning = False
        return self._process.intake.drop(job.request, job.held), 0

    async def _show(self, place: Place, job: Job, run: Run, start: int) -> None:
        """Write a run's events as they come, until the last one has been written or the peer has gone."""
        if run.stream_id is None and not run.is_shown():
            run.stream_id = place.stream_id
        event_log, codec = self._show_run(run, place.stream_id, job.event_id)
        feed = Feed(event_log, self._outbox, codec, start, run.done)
        try:
            await feed.finished
            await run.wait()  # it is over; raises why it never became a response
            self._remember(place.stream_id, run)
            self._end(job)
        except MillraceError:  # this view of it has failed
            if run.response.ended is not None:
                await run.wait()
            raise
        finally:
            feed.close()

    def _remember(self, stream_id: str | None, run: Run) -> None:
        """Note what a lane has shown last; of the lanes that were used, only the latest are remembered."""
        self._release_last(stream_id)
        self._last[stream_id] = run.request.id
        self._process.runs.kept.hold(run.request.id)
        if len(self._last) > limits.MAX_LANES + 1:
            self._release_last(next(iter(self._last)))

    def _release_last(self, stream_id: str | None) -> None:
        if (response_id := self._last.pop(stream_id, None)) is not None:
            self._process.runs.kept.release(response_id)
