"""Every response that runs in this process or has ended lately: who listens, who may stop it, how long it is kept.

A run outlives the connection it came by where its request says so; then it waits for someone to resume it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar, cast

from millrace import log
from millrace.dialects.event_log import Dialect, Projection
from millrace.errors import MillraceError
from millrace.funnel.funnel import Funnel
from millrace.funnel.response_log import ResponseLog
from millrace.ports import Admission, Clock
from millrace.runs.sweeper import each
from millrace.types import OnDisconnect, Request

KEPT_S = 600.0  # after its end
DETACHED_S = 60.0  # while it runs and nobody listens
MAX_LOG = 2**20  # bytes of a response that can be told again
MAX_KEPT = 64 * 2**20  # bytes of all that has ended
FACT_SIZE = 200  # bytes of a fact beside its words, about
WORD_SIZE = 56  # bytes of what was told once, beside its words
RUN_SIZE = 4 * 1024  # bytes of a run with nothing in it

P = TypeVar("P", bound=Projection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """What two requests must have in common to be one."""

    place: tuple[str, str, str]  # tenant, key, idempotency key
    digest: bytes  # SHA-256 of the body


class Run:
    """One response on its way through the funnel, and after it. `task` is done when it has ended."""

    def __init__(self, request: Request, clock: Clock, created_at: int) -> None:
        self.request = request  # as it came: with all its history
        self.created_at = created_at  # Unix seconds
        self.response = ResponseLog(request, clock)
        self.stream_id: str | None = None  # the lane it came by
        self.refused: MillraceError | None = None  # why it never became a response
        self.task: asyncio.Task[None] | None = None
        self.ended_at: float | None = None
        self.left_at: float | None = None  # when the last listener went away
        self.projections: dict[Dialect[Any], Projection] = {}
        self.repeat: Repeat | None = None
        self.admission: Admission | None = None
        self.kept_bytes = 0
        self.on_go: Callable[[], None] | None = None  # once it has ended: someone who listened to it has gone
        self.deleted = False  # by its owner
        self.abandoned = False  # cancelled because nobody listened any more
        self._clock = clock
        self.present = 0  # clients
        self._stopped = False

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or never began."""
        return self.ended_at is not None

    @property
    def log_bytes(self) -> int:
        """Bytes of the longest event log that it keeps, about."""
        return max((projection.event_log.log for projection in self.projections.values()), default=0)

    def projection(self, dialect: Dialect[P]) -> P:
        """Return what shows it in a dialect; the first who asks has it shown from the beginning."""
        found = self.projections.get(dialect)
        if found is None:
            found = self.projections[dialect] = dialect.make(self.response, self.created_at)
            self.response.subscribe(found)
        return cast("P", found)

    def come(self) -> None:
        """Count one more client that listens."""
        self.present += 1
        self.left_at = None

    def go(self) -> None:
        """Count one client less; when the last has gone, the request is cancelled or waits for another."""
        self.present -= 1
        if self.on_go is not None:
            self.on_go()
        if self.present == 0:
            self.left_at = self._clock()
            if self.request.on_disconnect is OnDisconnect.CANCEL:
                self.abandoned = not self.is_over
                self.cancel()

    @property
    def size(self) -> int:
        """Bytes that it keeps, about; those who came after its end may have had it told in another dialect."""
        facts, prompt = self.response.facts, self.request.prompt
        words = sum(len(fact) for fact in facts if isinstance(fact, str))
        event_logs = [projection.event_log for projection in self.projections.values()]
        told = sum(event_log.log + len(event_log.written) * WORD_SIZE for event_log in event_logs)
        asked = prompt.size + 2 * sum(map(len, self.request.context))  # in chunks and as it was sent
        return RUN_SIZE + words + len(facts) * FACT_SIZE + told + asked

    @property
    def alone(self) -> bool:
        """Whether no more than one client listens."""
        return self.present <= 1

    def cancel(self) -> None:
        """End it for all. Idempotent: a second cancel would break into the settling of the first."""
        if self.task is not None and not self._stopped:
            self._stopped = True
            self.task.cancel()

    def halt(self, error: MillraceError) -> None:
        """End it for all, for a reason of ours."""
        if not self._stopped and not self.is_over:
            self.response.halt = error
            self.cancel()


class Runs:
    """The runs of this process, by response id."""

    def __init__(self, funnel: Funnel, clock: Clock, wall: Clock) -> None:
        self._funnel = funnel
        self._clock = clock
        self._wall = wall
        self._live: dict[str, Run] = {}
        self._kept: OrderedDict[str, Run] = OrderedDict()  # those that have ended; the oldest is found at once
        self._kept_bytes = 0
        self._repeats: dict[tuple[str, str, str], Run] = {}
        self.on_end: Callable[[Run], None] = lambda _: None

    @property
    def running(self) -> list[Run]:
        """Those that have not ended."""
        return [*self._live.values()]

    def find(self, tenant: str, response_id: str) -> Run | None:
        """Return a tenant's run, if it is still kept."""
        run = self._live.get(response_id) or self._kept.get(response_id)
        return run if run is not None and run.request.tenant == tenant else None

    def start(
        self,
        request: Request,
        admission: Admission | None = None,
        repeat: "Repeat | None" = None,
        *,
        cancelled: bool = False,
    ) -> Run:
        """Lead a request through the funnel; one that was cancelled while it waited gets its beginning and its end."""
        run = Run(request, self._clock, int(self._wall()))
        run.task = asyncio.get_running_loop().create_task(self._lead(run, cancelled=cancelled))
        run.task.add_done_callback(partial(self._after, run))
        run.admission = admission
        self._live[request.id] = run
        if repeat is not None:
            run.repeat = repeat
            self._repeats[repeat.place] = run
        _halt_if_late(run, self._clock())  # in its lane others may have taken all its time
        return run

    def repeated(self, repeat: "Repeat") -> Run | None:
        """Return the run of the same request, asked before under the same idempotency key."""
        run = self._repeats.get(repeat.place)
        if run is None or run.repeat is None:
            return None
        if run.repeat.digest != repeat.digest:
            message = "idempotency_key: it was used for another request within the last 10 minutes; choose a new one"
            raise MillraceError("idempotency_mismatch", message, param="millrace.idempotency_key")
        return run

    async def _lead(self, run: Run, *, cancelled: bool) -> None:
        if cancelled:
            self._funnel.drop(run.response)
            return
        try:
            await self._funnel.answer(run.response)
        except MillraceError as error:  # refused before it became a response
            run.refused = error

    def _after(self, run: Run, task: asyncio.Task[None]) -> None:
        """See a run out; whatever is wrong with it, it is over."""
        try:
            self._settle(run, task)
        finally:
            run.ended_at = self._clock()
            del self._live[run.request.id]
            if run.response.ended is None or run.abandoned:
                self._unlist(run)  # whoever asks again wants an answer
            if run.response.ended is not None:
                self._keep(run)
        self.on_end(run)

    def _settle(self, run: Run, task: asyncio.Task[None]) -> None:
        """One that was cancelled before its task ran still gets its beginning and its end."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.get().error("request crashed outside the funnel", id=run.request.id, exc_info=error)
            run.refused = MillraceError("internal_error", "a fault in Millrace; it has been logged")
        if task.cancelled() and run.response.started_at is None:
            self._funnel.drop(run.response)
        if run.admission is not None:
            run.admission.settle(*_came_to(run.response))

    def _keep(self, run: Run) -> None:
        self._kept[run.request.id] = run
        run.response.pack()
        run.on_go = partial(self._weigh, run)
        self._weigh(run)

    def _weigh(self, run: Run) -> None:
        """Note what a kept run keeps now, and let the oldest go where that is too much."""
        if run.request.id not in self._kept:
            return
        size = run.size
        self._kept_bytes += size - run.kept_bytes
        run.kept_bytes = size
        while self._kept_bytes > MAX_KEPT and len(self._kept) > 1:
            self.forget(self._oldest)

    @property
    def _oldest(self) -> Run:
        """The one kept that has ended first."""
        return next(iter(self._kept.values()))

    def forget(self, run: Run) -> None:
        """Keep an ended run no longer. Idempotent."""
        if self._kept.pop(run.request.id, None) is not None:
            self._kept_bytes -= run.kept_bytes
            self._unlist(run)

    def _unlist(self, run: Run) -> None:
        if run.repeat is not None and self._repeats.get(run.repeat.place) is run:
            del self._repeats[run.repeat.place]

    async def stop(self) -> None:
        """End all that runs, and wait until it is settled."""
        for run in self.running:
            run.cancel()
        if tasks := [run.task for run in self.running if run.task is not None]:
            await asyncio.wait(tasks)

    def sweep(self, now: float) -> None:
        """Halt what is past its deadline, cancel what nobody came back for, forget what has ended long ago."""
        each(self.running, lambda run: _end_if_due(run, now))
        while self._kept and (ended_at := self._oldest.ended_at) is not None and now - ended_at >= KEPT_S:
            self.forget(self._oldest)


def _end_if_due(run: Run, now: float) -> None:
    _halt_if_late(run, now)
    if run.left_at is not None and now - run.left_at >= DETACHED_S:
        run.cancel()


def _halt_if_late(run: Run, now: float) -> None:
    deadline = run.request.deadline_at
    if deadline is not None and now >= deadline:
        run.halt(MillraceError("deadline_exceeded", "deadline_ms: the time for this request is over"))


def _came_to(response: ResponseLog) -> tuple[Decimal, int]:
    """Return what a response cost, in dollars and tokens."""
    if response.ended is None:
        return Decimal(0), 0
    statement = response.ended.statement
    used = sum(charge.usage.input_tokens + charge.usage.output_tokens for charge in statement.charges)
    return statement.cost, used
