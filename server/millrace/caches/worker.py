"""One thread for work that must not run concurrently, with two queues: work that a caller waits for goes first.

While much of it comes, the other gets a share of the time, because it takes the CPU from all that runs beside it.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

SHARE = 0.1  # of the time, for work in the background while many lookups come
MANY, WITHIN_S = 4, 0.05  # lookups, in seconds
REST_S = 0.02  # that the other queue rests at once, at least: to wake the thread costs as much as a small piece of work
A_LITTLE = 2  # pieces of work

T = TypeVar("T")
_Item = tuple["Future[Any]", Callable[[], Any], float]  # the last is when it is too late to begin, monotonic
_Queue = deque[_Item]


class StoppedError(RuntimeError):
    """The worker was stopped before it started this work."""


class Worker:
    """Two queues and one daemon thread, so that work which hangs cannot keep the process alive."""

    def __init__(self, name: str) -> None:
        self._first: _Queue = deque()
        self._later: _Queue = deque()
        self._changed = threading.Condition()  # guards both queues and `_stop_at`
        self._stop_at: float | None = None  # monotonic; no work starts from then on
        self._looked_up_at: deque[float] = deque(maxlen=MANY)  # when the latest lookups ended
        self._later_from = 0.0  # when more work in the background has its turn, if many lookups come
        self._owed_s = 0.0  # rest that is not long enough yet to be taken
        self._is_resting = False  # the thread wakes by itself when the background has its turn
        self.at_work = threading.Lock()  # held while work is done; whoever takes it may do some elsewhere
        self._is_lookup, self._began_at = False, time.monotonic()  # what runs now
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit_lookup(self, work: Callable[[], T], by: float = math.inf) -> "Future[T]":
        """Queue work before all in the background, but for a little where few lookups come: what it stores is found.

        If its future is cancelled in time, it never starts. If its turn comes at `by` (monotonic) or later, it fails
        with `TimeoutError`.
        """
        is_calm = len(self._later) <= A_LITTLE and time.monotonic() >= self._quiet_from
        return self._put(self._later if is_calm and self._later and not self._first else self._first, work, by)

    def submit_background(self, work: Callable[[], T]) -> "Future[T]":
        """Queue work that runs once no lookup is waiting, and in its share of the time."""
        return self._put(self._later, work, math.inf)

    def note_lookup(self) -> None:
        """Note one that was done elsewhere."""
        self._looked_up_at.append(time.monotonic())

    def stop(self, seconds: float) -> None:
        """Keep working for at most `seconds`, then fail the rest with `StoppedError`.

        Blocks, but not for work that hangs: the thread gets half of `seconds` more to end what it has started, and is
        abandoned after that.
        """
        with self._changed:
            self._stop_at = time.monotonic() + seconds
            self._changed.notify()
        self._thread.join(1.5 * seconds)
        with self._changed:
            for queue in (self._first, self._later):
                while queue:
                    _fail(queue.popleft()[0])

    def _put(self, queue: _Queue, work: Callable[[], T], by: float) -> "Future[T]":
        future: Future[T] = Future()
        with self._changed:
            if self._stop_at is None:
                queue.append((future, work, by))
                if queue is self._first or not self._is_resting:
                    self._changed.notify()
                return future
        _fail(future)
        return future

    def _run(self) -> None:
        result: Any = None
        while (item := self._next()) is not None:
            future, work, by = item
            if not future.set_running_or_notify_cancel():
                continue
            if time.monotonic() >= by:
                future.set_exception(TimeoutError())
                continue
            try:
                with self.at_work:
                    result = work()
                future.set_result(result)
            except BaseException as error:  # the thread must survive whatever the work raises
                future.set_exception(error)
            result = None
            del item, future, work  # or they would stay alive while the thread waits

    def _next(self) -> _Item | None:
        now = time.monotonic()
        if self._is_lookup:
            self._looked_up_at.append(now)
        else:
            self._owed_s += (now - self._began_at) * (1 / SHARE - 1)
            if self._owed_s >= REST_S:
                self._later_from, self._owed_s = now + self._owed_s, 0.0
        with self._changed:
            while (queue := self._queue(now := time.monotonic())) is None:
                self._is_resting = bool(self._later)
                self._changed.wait(max(0.0, min(self._later_from, self._quiet_from) - now) if self._later else None)
            self._is_resting = False
            if not queue or (self._stop_at is not None and now >= self._stop_at):
                return None
            self._is_lookup, self._began_at = queue is self._first, now
            return queue.popleft()

    @property
    def _quiet_from(self) -> float:
        """When few lookups will have come lately, if no more do."""
        return self._looked_up_at[0] + WITHIN_S if len(self._looked_up_at) == MANY else 0.0

    def _queue(self, now: float) -> _Queue | None:
        """Return the queue that has its turn, an empty one at the end; None if none has."""
        if self._first or self._stop_at is not None:
            return self._first or self._later
        is_turn = now >= min(self._later_from, self._quiet_from)
        return self._later if self._later and is_turn else None


def _fail(future: "Future[Any]") -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(StoppedError())
