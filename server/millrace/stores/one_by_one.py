"""Operations on a connection that only one thread may use: one after the other, on a thread of their own."""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

Operation = Callable[[Any], Any]  # takes a connection

MAX_WAITING = 1000  # operations; more can only be late


class OneByOne:
    """Runs operations in their order. One that was cancelled in time never starts."""

    def __init__(self, name: str, run: Callable[[Operation], Any], whom: str) -> None:
        """`run` runs one, on the thread. `whom` they wait for is said where too many do."""
        self._run = run
        self._whom = whom
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Operation] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> "Future[Any]":
        """Queue an operation. Raises `TimeoutError` if too many wait."""
        if self._waiting.qsize() >= MAX_WAITING:
            raise TimeoutError(f"too many lookups wait for {self._whom}")
        future: Future[Any] = Future()
        self._waiting.put((future, operation))
        return future

    def end(self, within_s: float) -> bool:
        """Run what is queued; whether that has ended in so many seconds. What hangs for longer is abandoned."""
        self._waiting.put(None)
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            future, operation = item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._run(operation))
                except BaseException as error:  # also MemoryError: whoever waits must be told
                    future.set_exception(error)
            del item, future, operation  # or they would stay alive while the thread waits


async def within(future: "Future[Any]", seconds: float) -> Any:
    """Return what comes of an operation, or raise its error, or `TimeoutError`: then it has not begun, or is late."""
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(future)
    except TimeoutError:
        if not future.cancel() and future.done():  # it was in time, and only the loop was late
            return future.result()
        raise


def waited_for(future: "Future[Any]", seconds: float) -> Any:
    """Return the same, and block meanwhile."""
    try:
        return future.result(seconds)
    except TimeoutError:
        future.cancel()
        raise
