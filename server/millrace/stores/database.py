"""One SQLite file, one connection, one thread: everything that is kept goes through here, off the loop.

Operations run in the order they were given; those that wait together are committed together.
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
BATCH = 500

Operation = Callable[[sqlite3.Connection], Any]


class SqliteDatabase:
    """The store behind the caches and the ledger. `data_dir` is created; ":memory:" keeps nothing."""

    def __init__(self, data_dir: str) -> None:
        self._operations: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._connection = _open(data_dir)
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="millrace-sqlite", daemon=True)
        self._thread.start()

    def write(self, operation: Operation) -> None:
        """Do this soon; never waits. A failure is logged."""
        self._operations.put(operation)

    async def read(self, operation: Operation) -> Any:
        """Return what the operation returns, after all that was written before."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def ask(connection: sqlite3.Connection) -> None:
            try:
                result, error = operation(connection), None
            except Exception as caught:  # whoever waits must not wait for ever
                result, error = None, caught
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_tell, answer, result, error)

        if self._closed:
            raise sqlite3.ProgrammingError("the database is closed")
        self._operations.put(ask)
        return await answer

    def close(self) -> None:
        """Finish what is queued, then close. Blocks for as long as that takes."""
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
                    self._try(operation)
        except sqlite3.Error as error:  # the disk is full, or the file is locked
            log.get().error("not written", operations=len(batch), exc_info=error)

    def _try(self, operation: Operation) -> None:
        try:
            operation(self._connection)
        except Exception as error:  # one bad value must not end the thread, or lose its neighbours
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


def _tell(answer: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
