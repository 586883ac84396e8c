"""One response of this process, from its request until it is forgotten: who listens, who may stop it, how it ended."""

import asyncio
from collections.abc import Callable, Coroutine
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar, cast

from millrace.dialects.projection import Dialect, Projection
from millrace.errors import MillraceError
from millrace.funnel.response_log import ResponseLog
from millrace.memory import Hold
from millrace.ports import Admitted, Clock
from millrace.types import OnDisconnect, Request, Status
from millrace.wire import limits

# What it keeps, in bytes, about; a test holds them against what Python allocates.
RUN_SIZE = 4 * 1024  # with nothing in it
SENT_COPIES = 2  # of the prompt, while it runs: the body of the upstream call, before and after it is handed over

P = TypeVar("P", bound=Projection)


@lru_cache(maxsize=1)
def _over(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """Return one future that is done, for all runs that have ended."""
    over = loop.create_future()
    over.set_result(None)
    return over


class Phase(StrEnum):
    """Where a run is in its life."""

    RUNNING = "running"
    REFUSED = "refused"  # it never became a response
    ENDED = "ended"


def bytes_while_running(asked_bytes: int) -> int:
    """Return what a run of a request of so many bytes holds, before it has an answer."""
    return RUN_SIZE + (1 + SENT_COPIES) * asked_bytes


class Run:
    """One response on its way through the funnel, and after it."""

    __slots__ = (
        "_clock",
        "_held",
        "_is_stopped",
        "_on_listener_gone",
        "_projections",
        "_task",
        "admitted",
        "asked_bytes",
        "created_at",
        "done",
        "error",
        "left_at",
        "listeners",
        "phase",
        "request",
        "response",
        "since",
        "stream_id",
        "was_abandoned",
    )

    def __init__(
        self,
        request: Request,
        clock: Clock,
        created_at: int,
        on_listener_gone: "Callable[[Run], None]",
        held: Hold | None = None,
    ) -> None:
        self.request = request  # as it came: with all its history
        self.response = ResponseLog(request, clock)
        self.created_at = created_at  # Unix seconds
        self.stream_id: str | None = None  # the lane it came by
        self.phase = Phase.RUNNING
        self.since = clock()  # by the clock: when it reached its phase
        self.error: MillraceError | None = None  # why it was refused
        self.listeners = 0  # clients
        self.left_at: float | None = None  # when the last listener went away
        self.admitted: Admitted | None = None  # within its limits, if it has any
        self.was_abandoned = False  # it was cancelled because nobody listened any more
        self._clock = clock
        self._on_listener_gone = on_listener_gone
        self._projections: tuple[tuple[Dialect[Any], Projection], ...] = ()  # nearly always one
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # when it has ended
        self.asked_bytes = request.memory_bytes
        self._held = held  # what it holds of its tenant's share until it ends
        self._task: asyncio.Task[None] | None = None  # leads it through the funnel
        self._is_stopped = False

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or never began."""
        return self.phase is not Phase.RUNNING

    @property
    def size(self) -> int:
        """Bytes that it keeps, about. A listener that comes later in another dialect adds to them."""
        shown = sum([projection.event_log.size for _, projection in self._projections])
        return RUN_SIZE + self.response.size + self.asked_bytes + shown

    @property
    def has_answer(self) -> bool:
        """Whether there is an answer, even a cut one, that stands and that a client may have seen."""
        ended = self.response.ended
        return ended is not None and (ended.accepted or (ended.status is not Status.FAILED and self.response.seen))

    def measure(self) -> None:
        """Count the bytes that it holds while it runs."""
        if self._held is not None:
            self._held.count(self.size + SENT_COPIES * self.asked_bytes)

    def pack(self) -> None:
        """Drop what nobody needs of a run that has ended. What it was asked stays if it can be continued."""
        self.request = self.response.request = self.request.kept(continued=self.has_answer)
        self.asked_bytes = self.request.memory_bytes
        self.response.pack(next((text for _, projection in self._projections if (text := projection.whole_text)), ""))
        self._pack_shown()

    def _pack_shown(self) -> None:
        """Keep what was shown in less memory, unless somebody listens. Resumed, it is told from there."""
        event_logs = [projection.event_log for _, projection in self._projections]
        if not all(event_log.is_packed for event_log in event_logs):
            text = max((fact for fact in self.response.facts if type(fact) is str), key=len, default="")
            for event_log in event_logs:
                event_log.pack(text)

    def start(self, work: Coroutine[Any, Any, None], on_done: Callable[[asyncio.Task[None]], None]) -> None:
        """Run `work` in a task. `on_done` is called before any `wait` returns."""
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(on_done)

    def set_done(self) -> None:
        """Note that its task is done. The task goes: with its traceback it would keep all that it held."""
        self._task = None
        if self._held is not None:
            self._held.close()
            self._held = None  # who still has it in hand must not count on it any more
        if not self.done.done():
            self.done.set_result(None)
        self.done = _over(self.done.get_loop())

    def set_phase(self, phase: Phase, error: MillraceError | None = None) -> None:
        """Note that it has reached another phase."""
        self.phase, self.since, self.error = phase, self._clock(), error or self.error

    async def wait(self) -> None:
        """Wait until it has ended. Raises the error of a request that was refused."""
        if not self.done.done():
            await asyncio.wait((self.done,))
        if self.error is not None:
            raise self.error

    def add_listener(self) -> None:
        """Count one more client that listens."""
        self.listeners += 1
        self.left_at = None

    def remove_listener(self) -> None:
        """Count one client less; when the last has gone, the request is cancelled or waits for another."""
        self.listeners -= 1
        if self.is_over:
            self._pack_shown()
        self._on_listener_gone(self)
        if self.listeners == 0:
            self.left_at = self._clock()
            if self.request.on_disconnect is OnDisconnect.CANCEL:
                self.was_abandoned = self.response.ended is None and not self.is_over
                self.cancel()

    def cancel(self) -> None:
        """End it for all who listen. Idempotent.

        Every cancel of the task goes through here. A second `Task.cancel` would interrupt the `finally` in which the
        first one settles the bill, and what was spent would be lost (PROTOCOL.md, What always holds, 5).
        """
        if self._task is not None and not self._is_stopped:
            self._is_stopped = True
            self._task.cancel()

    def halt(self, error: MillraceError) -> None:
        """End it for all who listen, for a reason that is not theirs: a deadline, a drain, a slow reader."""
        if not self._is_stopped and not self.is_over:
            self.response.halt = error
            self.cancel()

    def projection(self, dialect: Dialect[P]) -> P:
        """Return its projection in a dialect. The first call makes it, and replays the log into it."""
        found = self._projection(dialect)
        if found is None:
            found = dialect.make(self.response, self.created_at)
            self._projections = (*self._projections, (dialect, found))
            self.response.subscribe(found)
        return cast("P", found)

    def _projection(self, dialect: Dialect[Any]) -> Projection | None:
        for shown, projection in self._projections:
            if shown == dialect:
                return projection
        return None

    def is_shown(self, *dialects: Dialect[Any]) -> bool:
        """Whether it has been shown in one of these dialects; without any, whether in one at all."""
        if not dialects:
            return bool(self._projections)
        return any(self._projection(dialect) is not None for dialect in dialects)

    def check_replay(self, dialect: Dialect[Any], after: int, param: str) -> None:
        """Check that the events after a number can be sent again as they were; raise `resume_gap`, naming the field."""
        event_logs = [projection.event_log for _, projection in self._projections]
        if max((event_log.log_bytes for event_log in event_logs), default=0) > limits.REPLAY_BYTES:
            raise MillraceError("resume_gap", "the response is too long to be sent again", param="response_id")
        projection = self._projection(dialect)
        written = 0 if projection is None else len(projection.event_log.written)
        if after >= written:
            raise MillraceError("resume_gap", f"{param}: event {after} was never sent in this dialect", param=param)
