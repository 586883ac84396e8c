"""One SQLite file with one connection on one thread, off the event loop. Caches and stores all use it.

Operations run in the order in which they were queued. Those queued at the same time share one transaction.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from millrace import log

MEMORY = ":memory:"
FILE = "millrace.sqlite3"
BATCH = 500  # operations per transaction, at most

Operation = Callable[[sqlite3.Connection], Any]


class SqliteDatabase:
    """The database in the folder `data_dir`, which is created if needed; ":memory:" writes nothing to disk."""

    def __init__(self, data_dir: str) -> None:
        self._operations: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._connection = _open(data_dir)
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="millrace-sqlite", daemon=True)
        self._thread.start()

    def write(self, operation: Operation) -> None:
        """Queue an operation; never waits. A failure is logged."""
        self._operations.put(operation)

    async def read(self, operation: Operation) -> Any:
        """Run an operation after all queued before it; return its result or raise its error.

        Raises `sqlite3.ProgrammingError` once the database is closed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def run(connection: sqlite3.Connection) -> None:
            try:
                result, error = operation(connection), None
            except Exception as caught:  # the caller would wait forever
                result, error = None, caught
            with suppress(RuntimeError):  # the loop is closed, so nobody awaits the future
                loop.call_soon_threadsafe(_settle, future, result, error)

        if self._closed:
            raise sqlite3.ProgrammingError("the database is closed")
        self._operations.put(run)
        return await future

    def close(self) -> None:
        """Run what is queued, then close. Blocks until that is done."""
        self._closed = True
        self._operations.put(None)
        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        running = True
        while running:
            batch = [self._operations.get()]
            while len(batch) < BATCH and not self._operations.empty():
                batch.append(self._operations.get())
            running = None not in batch
            self._commit([operation for operation in batch if operation is not None])

    def _commit(self, batch: list[Operation]) -> None:
        try:
            with self._connection:  # one transaction
                for operation in batch:
                    self._run_one(operation)
        except sqlite3.Error as error:  # the commit failed: the disk is full, or the file is locked
            log.get().error("not written", operations=len(batch), exc_info=error)

    def _run_one(self, operation: Operation) -> None:
        try:
            operation(self._connection)
        except Exception as error:  # one failure must not end the thread, nor undo the rest of the batch
            log.get().error("not written", operations=1, exc_info=error)


def _open(data_dir: str) -> sqlite3.Connection:
    if data_dir == MEMORY:
        return sqlite3.connect(MEMORY, check_same_thread=False)
    folder = Path(data_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / FILE, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
