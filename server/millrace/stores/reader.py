"""Lookups in a SQLite file: one connection that only reads, on one thread. It never waits behind a write."""

import queue
import sqlite3
import threading
from concurrent.futures import Future
from typing import Any

from millrace.stores.writer import Operation

MAX_WAITING = 1000  # lookups; more can only be late


class Reader:
    """Runs lookups one after the other. One that was cancelled in time never starts."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        connection.execute("PRAGMA query_only = 1")
        self._connection = connection
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Operation] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> "Future[Any]":
        """Queue a lookup. Raises `TimeoutError` if too many wait."""
        if self._waiting.qsize() >= MAX_WAITING:
            raise TimeoutError("too many lookups wait for the disk")
        future: Future[Any] = Future()
        self._waiting.put((future, operation))
        return future

    def close(self, within_s: float) -> None:
        """Run what is queued, then close. A lookup that hangs for longer is abandoned."""
        self._waiting.put(None)
        self._thread.join(within_s)
        if not self._thread.is_alive():
            self._connection.close()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            future, operation = item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(operation(self._connection))
                except BaseException as error:  # also MemoryError: whoever waits must be told
                    future.set_exception(error)
            del item, future, operation  # or they would stay alive while the thread waits
