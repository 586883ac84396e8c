"""Every response that runs in this process or has ended lately: begun, found again, kept for a while, forgotten.

A run outlives the connection it came by where its request says so; then it waits for someone to resume it.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from millrace import log
from millrace.errors import EXITS, MillraceError, internal_error
from millrace.funnel.bill import NOTHING
from millrace.funnel.facts import Ended
from millrace.funnel.funnels import Funnels
from millrace.memory import Hold
from millrace.ports import Admission, Admitted, Clock
from millrace.pricing import ZERO
from millrace.runs.kept import Kept, Repeat
from millrace.runs.run import Phase, Run
from millrace.runs.sweeper import Rounds, call_each
from millrace.types import Request, Status
from millrace.wire import limits


class Runs:
    """The runs of this process, by response id."""

    def __init__(self, funnel: Funnels, clock: Clock, wall: Clock, *, kept_bytes: int) -> None:
        self.kept = Kept(kept_bytes, self._forget_repeat)
        self._count = self.kept.count  # one method for all runs, not one for each
        self._rounds: Rounds[Run] = Rounds()
        self._funnel = funnel
        self._clock = clock
        self._wall = wall
        self._live: dict[str, Run] = {}
        self._limited: dict[Run, None] = {}  # in their time or their cost, the oldest first
        self._repeats: dict[tuple[str, str, str], tuple[Repeat, Run]] = {}
        self.on_end: Callable[[Run], None] = lambda _: None

    @property
    def running(self) -> list[Run]:
        """Those that have not ended."""
        return [*self._live.values()]

    def find(self, tenant: str, response_id: str) -> Run | None:
        """Return a tenant's run, if it is still kept."""
        run = self._live.get(response_id) or self.kept.find(response_id)
        return run if run is not None and run.request.tenant == tenant else None

    def start(
        self,
        request: Request,
        admission: Admitted | None = None,
        repeat: Repeat | None = None,
        *,
        held: Hold | None = None,
        cancelled: bool = False,
    ) -> Run:
        """Start a request in the funnel. One that was cancelled in its queue gets its first event and its terminal.

        What is held for the request is the run's from now on.
        """
        run = Run(request, self._clock, int(self._wall()), self._count, held and held.move())
        run.admitted = admission
        if request.deadline_at is not None or (admission is not None and admission.limits_cost):
            self._limited[run] = None
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
            raise mismatch()
        return None if run is not None and run.was_abandoned else run  # one that is being cancelled has no answer

    async def _lead(self, run: Run, admission: Admission | None, *, cancelled: bool) -> None:
        log.request_id.set(run.request.id)
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
            self._limited.pop(run, None)
            if run.response.ended is None or run.was_abandoned:
                self._forget_repeat(run, repeat)  # whoever asks again wants an answer
                repeat = None
            try:
                if run.response.ended is not None:
                    run.pack()
                    self.kept.add(run, repeat)
            finally:
                run.set_done()  # whoever waits for it is told in any case
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

    def _forget_repeat(self, run: Run, repeat: Repeat | None) -> None:
        if repeat is not None and self._repeats.get(repeat.place, (None, None))[1] is run:
            del self._repeats[repeat.place]

    async def stop(self) -> None:
        """End all that runs, and wait until it is settled."""
        done = [run.done for run in self.running]
        for run in self.running:
            run.cancel()
        if done:
            await asyncio.wait(done)

    def sweep(self, now: float) -> None:
        """Halt what is past its deadline or its budget, cancel what nobody came back for, forget what has ended.

        What has a limit is looked at for that at each beat; all are in turn, for what they hold, who listens, and what
        is booked for them.
        """
        call_each(tuple(self._limited), lambda run: self._end_if_due(run, now))
        call_each(self._rounds.next(self._live.values()), lambda run: self._look(run, now))
        self.kept.expire(now)

    def _look(self, run: Run, now: float) -> None:
        """Look at a run, which may have ended since the round began."""
        run.measure()
        if run.left_at is not None and now - run.left_at >= limits.DETACHED_S:
            run.cancel()
        if run not in self._limited:
            self._funnel.covers(run.response)

    def _end_if_due(self, run: Run, now: float) -> None:
        _halt_if_late(run, now)
        if not self._funnel.covers(run.response) and run.admitted is not None:
            run.halt(run.admitted.used_up())


def mismatch() -> MillraceError:
    """Return the error of a request whose idempotency key another one has."""
    minutes = f"{limits.KEPT_S / 60:g} minutes"
    message = f"idempotency_key: it was used for another request within the last {minutes}; choose a new one"
    return MillraceError("idempotency_mismatch", message, param="millrace.idempotency_key")


def deadline_exceeded() -> MillraceError:
    """Return the error of a request that has had all the time it may take."""
    return MillraceError("deadline_exceeded", "deadline_ms: the time for this request is over")


def _halt_if_late(run: Run, now: float) -> None:
    deadline = run.request.deadline_at
    if deadline is not None and now >= deadline:
        run.halt(deadline_exceeded())
