"""One thread for work that must not run concurrently, with two queues: work that a caller waits for goes first."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_Queue = deque[tuple["Future[Any]", Callable[[], Any]]]


class StoppedError(RuntimeError):
    """The worker was stopped before it started this work."""


class Worker:
    """Two queues and one daemon thread, so that work which hangs cannot keep the process alive."""

    def __init__(self, name: str) -> None:
        self._first: _Queue = deque()
        self._later: _Queue = deque()
        self._changed = threading.Condition()  # guards both queues and `_stop_at`
        self._stop_at: float | None = None  # monotonic; no work starts from then on
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit_lookup(self, work: Callable[[], T]) -> "Future[T]":
        """Queue work before everything given to `later`. If its future is cancelled in time, it never starts."""
        return self._put(self._first, work)

    def submit_background(self, work: Callable[[], T]) -> "Future[T]":
        """Queue work that runs once nothing given to `first` is waiting."""
        return self._put(self._later, work)

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

    def _put(self, queue: _Queue, work: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()
        with self._changed:
            if self._stop_at is None:
                queue.append((future, work))
                self._changed.notify()
                return future
        _fail(future)
        return future

    def _run(self) -> None:
        while (item := self._next()) is not None:
            future, work = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # the thread must survive whatever the work raises
                future.set_exception(error)
            del item, future, work  # or they would stay alive while the thread waits

    def _next(self) -> "tuple[Future[Any], Callable[[], Any]] | None":
        with self._changed:
            self._changed.wait_for(lambda: self._first or self._later or self._stop_at is not None)
            queue = self._first or self._later
            if not queue or (self._stop_at is not None and time.monotonic() >= self._stop_at):
                return None
            return queue.popleft()


def _fail(future: "Future[Any]") -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(StoppedError())
