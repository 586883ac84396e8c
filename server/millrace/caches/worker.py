"""One thread for what must not overlap. What somebody waits for goes before what nobody waits for."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_Line = deque[tuple["Future[Any]", Callable[[], Any]]]


class StoppedError(RuntimeError):
    """The worker was stopped before it came to this."""


class Worker:
    """Two lines before one thread. A daemon, so that work which hangs cannot keep the process alive."""

    def __init__(self, name: str) -> None:
        self._first: _Line = deque()
        self._later: _Line = deque()
        self._news = threading.Condition()
        self._ends: float | None = None  # monotonic; nothing is begun from then on
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def first(self, work: Callable[[], T]) -> "Future[T]":
        """Do this before all that can wait. Cancelled before its turn, it is never begun."""
        return self._put(self._first, work)

    def later(self, work: Callable[[], T]) -> "Future[T]":
        """Do this when nobody waits for anything."""
        return self._put(self._later, work)

    def stop(self, seconds: float) -> None:
        """Work on for so many seconds at most, then drop the rest. Blocks, but not for work that hangs."""
        with self._news:
            self._ends = time.monotonic() + seconds
            self._news.notify()
        self._thread.join(1.5 * seconds)  # the half is for what is being done when the time is up
        with self._news:
            for line in (self._first, self._later):
                while line:
                    _refuse(line.popleft()[0])

    def _put(self, line: _Line, work: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()
        with self._news:
            if self._ends is None:
                line.append((future, work))
                self._news.notify()
                return future
        _refuse(future)
        return future

    def _run(self) -> None:
        while (taken := self._next()) is not None:
            future, work = taken
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # the thread must go on, whatever this was
                future.set_exception(error)
            del taken, future, work  # not to be kept alive while waiting

    def _next(self) -> "tuple[Future[Any], Callable[[], Any]] | None":
        with self._news:
            self._news.wait_for(lambda: self._first or self._later or self._ends is not None)
            line = self._first or self._later
            if not line or (self._ends is not None and time.monotonic() >= self._ends):
                return None
            return line.popleft()


def _refuse(future: "Future[Any]") -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(StoppedError())
