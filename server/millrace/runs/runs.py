"""Every response that runs in this process or has ended lately: begun, found again, kept for a while, forgotten.

A run outlives the connection it came by where its request says so; then it waits for someone to resume it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from millrace import log
from millrace.errors import EXITS, MillraceError, internal_error
from millrace.funnel.bill import NOTHING
from millrace.funnel.funnel import Funnel
from millrace.funnel.response_log import Ended
from millrace.ports import Admission, Clock
from millrace.pricing import ZERO
from millrace.runs.run import Phase, Run
from millrace.runs.sweeper import call_each
from millrace.types import Request, Status
from millrace.wire import limits

MAX_KEPT = 64 * 2**20  # bytes of all runs that have ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """What two requests must have in common to be one."""

    place: tuple[str, str, str]  # tenant, key, idempotency key
    digest: bytes  # SHA-256 of the body


@dataclass(slots=True)
class _Kept:
    """A run that has ended, under which key it is repeated, and the bytes it was last counted with."""

    run: Run
    repeat: Repeat | None
    size: int = 0


class Runs:
    """The runs of this process, by response id."""

    def __init__(self, funnel: Funnel, clock: Clock, wall: Clock) -> None:
        self._funnel = funnel
        self._clock = clock
        self._wall = wall
        self._live: dict[str, Run] = {}
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # those that have ended, the oldest first
        self._kept_bytes = 0
        self._repeats: dict[tuple[str, str, str], tuple[Repeat, Run]] = {}
        self.on_end: Callable[[Run], None] = lambda _: None

    @property
    def running(self) -> list[Run]:
        """Those that have not ended."""
        return [*self._live.values()]

    def find(self, tenant: str, response_id: str) -> Run | None:
        """Return a tenant's run, if it is still kept."""
        run = self._live.get(response_id)
        if run is None and (kept := self._kept.get(response_id)) is not None:
            run = kept.run
        return run if run is not None and run.request.tenant == tenant else None

    def start(
        self,
        request: Request,
        admission: Admission | None = None,
        repeat: Repeat | None = None,
        *,
        cancelled: bool = False,
    ) -> Run:
        """Start a request in the funnel. One that was cancelled in its queue gets its first event and its terminal."""
        run = Run(request, self._clock, int(self._wall()), self._count_bytes)
        run.start(self._lead(run, admission, cancelled=cancelled), partial(self._on_task_done, run, admission, repeat))
        self._live[request.id] = run
        if repeat is not None:
            self._repeats[repeat.place] = (repeat, run)
        _halt_if_late(run, self._clock())  # it may have waited in its lane for all the time it had
        return run

    def repeated(self, repeat: Repeat) -> Run | None:
        """Return the run of the same request, asked before under the same idempotency key."""
        first, run = self._repeats.get(repeat.place, (None, None))
        if first is not None and first.digest != repeat.digest:
            minutes = f"{limits.KEPT_S / 60:g} minutes"
            message = f"idempotency_key: it was used for another request within the last {minutes}; choose a new one"
            raise MillraceError("idempotency_mismatch", message, param="millrace.idempotency_key")
        return None if run is not None and run.was_abandoned else run  # one that is being cancelled has no answer

    async def _lead(self, run: Run, admission: Admission | None, *, cancelled: bool) -> None:
        if cancelled:
            self._funnel.drop(run.response, admission)
            return
        try:
            await self._funnel.answer(run.response, admission)
        except MillraceError as error:  # refused before it became a response
            run.set_phase(Phase.REFUSED, error)

    def _on_task_done(
        self, run: Run, admission: Admission | None, repeat: Repeat | None, task: asyncio.Task[None]
    ) -> None:
        """Keep or forget a run whose task is done. It leaves the live runs whatever is wrong with it."""
        try:
            self._end_if_broken(run, admission, task)
        finally:
            if not run.is_over:
                run.set_phase(Phase.ENDED)
            del self._live[run.request.id]
            if run.response.ended is None or run.was_abandoned:
                self._forget_repeat(repeat, run)  # whoever asks again wants an answer
            if run.response.ended is not None:
                self._keep(run, repeat)
        self.on_end(run)

    def _end_if_broken(self, run: Run, admission: Admission | None, task: asyncio.Task[None]) -> None:
        """End a run that has no end. One that was cancelled before its first step still gets its first event."""
        error = None if task.cancelled() else task.exception()
        if task.cancelled() and run.response.started_at is None:
            try:
                self._funnel.drop(run.response, admission)
            except EXITS:
                raise
            except BaseException as error_of_drop:
                error = error_of_drop
        if error is not None:
            log.get().error("request crashed outside the funnel", id=run.request.id, exc_info=error)
            if admission is not None:
                admission.settle(ZERO, 0)  # the bill has done it, unless it was never made
        if run.response.ended is not None or run.is_over:
            return
        if run.response.started_at is None:
            run.set_phase(Phase.REFUSED, internal_error())
        else:
            run.response.end(Ended(status=Status.FAILED, error=internal_error(), statement=NOTHING))

    def _keep(self, run: Run, repeat: Repeat | None) -> None:
        self._kept[run.request.id] = _Kept(run, repeat)
        run.response.pack()
        self._count_bytes(run)

    def _count_bytes(self, run: Run) -> None:
        """Count what a kept run keeps now, and forget the oldest where all together keep too much."""
        kept = self._kept.get(run.request.id)
        if kept is None:
            return
        size = run.size
        self._kept_bytes += size - kept.size
        kept.size = size
        while self._kept_bytes > MAX_KEPT and len(self._kept) > 1:
            self.forget(self._oldest)

    @property
    def _oldest(self) -> Run:
        """The kept run that ended first."""
        return next(iter(self._kept.values())).run

    def forget(self, run: Run) -> None:
        """Keep an ended run no longer. Idempotent."""
        kept = self._kept.pop(run.request.id, None)
        if kept is not None:
            self._kept_bytes -= kept.size
            self._forget_repeat(kept.repeat, run)

    def _forget_repeat(self, repeat: Repeat | None, run: Run) -> None:
        if repeat is not None and self._repeats.get(repeat.place, (None, None))[1] is run:
            del self._repeats[repeat.place]

    async def stop(self) -> None:
        """End all that runs, and wait until it is settled."""
        tasks = [run.task for run in self.running]
        for run in self.running:
            run.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def sweep(self, now: float) -> None:
        """Halt what is past its deadline, cancel what nobody came back for, forget what has ended long ago."""
        call_each(self.running, lambda run: self._end_if_due(run, now))
        while self._kept and now - self._oldest.state.since >= limits.KEPT_S:
            self.forget(self._oldest)

    def _end_if_due(self, run: Run, now: float) -> None:
        _halt_if_late(run, now)
        if run.left_at is not None and now - run.left_at >= limits.DETACHED_S:
            run.cancel()
        if not self._funnel.covers(run.response):
            message = "dollars_per_day of this key is used up until 0:00 UTC; raise it, or ask for less"
            run.halt(MillraceError("budget_exceeded", message))


def _halt_if_late(run: Run, now: float) -> None:
    deadline = run.request.deadline_at
    if deadline is not None and now >= deadline:
        run.halt(MillraceError("deadline_exceeded", "deadline_ms: the time for this request is over"))
