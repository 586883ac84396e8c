"""One SQLite file for all caches and stores: a queue of writes, and connections of their own for lookups.

A lookup sees what is committed. It waits for no write, so nothing that keeps the disk from being written delays it.
"""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from millrace.stores.one_by_one import waited_for, within
from millrace.stores.queries import Dialect
from millrace.stores.reader import Reader
from millrace.stores.writer import Operation, Writer

MEMORY = ":memory:"
FILE = "millrace.sqlite3"
OPEN_LOCK_S = 10.0  # opening waits so long for another process's lock
WRITE_LOCK_S = 0.25  # a write waits so long for another process's lock before its next attempt
READ_LOCK_S = 0.05  # for the rare locks that readers wait for
CLOSE_S = 10.0
READY_S = 30.0
WAL_BYTES = 16 * 2**20  # to which the write-ahead log is cut down after it was longer

# Seven minutes of 100 requests a second, each with an open and a settled row, while nothing can be written:
# 7 * 60 * 100 * 2 rows of about ROW_BYTES (stores/ledger.py) and OVERHEAD (stores/writer.py), 2.3 kB together.
QUEUE_BYTES = 192 * 2**20


class SqliteDatabase:
    """The database in the folder `data_dir`, which is created if needed; ":memory:" writes nothing to disk."""

    dialect: Dialect = "sqlite"

    def __init__(self, data_dir: str, *, queue_bytes: int = QUEUE_BYTES) -> None:
        self.also_full: Callable[[], bool] = lambda: False  # for a reason beside what waits to be written
        self._closed = False
        self._connection = _open(data_dir)
        self._writer = Writer(self._connection, queue_bytes)
        self._lookups: Reader | None = None  # without a file there is one connection, and nothing that blocks it
        self._scans: Reader | None = None
        if data_dir != MEMORY:
            self._lookups = Reader(_connect(data_dir, READ_LOCK_S), "millrace-lookups")
            self._scans = Reader(_connect(data_dir, READ_LOCK_S), "millrace-scans")

    @property
    def queued(self) -> int:
        """The number of writes that wait."""
        return self._writer.operations

    @property
    def queued_bytes(self) -> int:
        """The bytes of all writes that wait, about."""
        return self._writer.bytes

    @property
    def oldest_s(self) -> float:
        """For how many seconds the first write has waited; 0 if none waits."""
        return self._writer.oldest_s

    @property
    def dropped(self) -> int:
        """The number of droppable writes that were dropped."""
        return self._writer.dropped

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be written that no new request should be taken."""
        return self._writer.is_full or self.also_full()

    def write(
        self,
        operation: Operation,
        size: int = 0,
        *,
        droppable: bool = False,
        on_written: Callable[[], object] | None = None,
    ) -> bool:
        """Queue an operation, which writes about `size` bytes. Never waits.

        It is tried until it is committed; then `on_written` is called, on another thread. An error that no waiting can
        mend is logged, and only this operation is skipped. A droppable one is dropped, and False returned, if half of
        the bound of the queue is in use.
        """
        return self._writer.put(operation, size, droppable=droppable, on_written=on_written)

    def prepare(self, make: Operation) -> None:
        """Queue the making of a store's tables."""
        self.write(make)

    async def commit(self, operation: Operation, *, within_s: float) -> Any:
        """Run an operation after all queued before it; return its result once it is committed, or raise its error.

        Raises `TimeoutError` after `within_s` seconds; then it is not done, unless it had begun. Raises
        `sqlite3.ProgrammingError` once the database is closed.
        """
        try:
            return await within(self._after_writes(operation), within_s)
        except TimeoutError:
            why = f": {self._writer.trouble}" if self._writer.trouble else ""
            raise TimeoutError(f"not written within {within_s:g} s{why}") from None

    async def ready(self) -> None:
        """Wait until what was queued so far is committed. Raises `TimeoutError`."""
        await self.commit(lambda _: None, within_s=READY_S)

    async def read(self, operation: Operation, *, within_s: float) -> Any:
        """Look something up in what is committed. Raises its error, or `TimeoutError` if it takes too long."""
        return await within(self._submit(self._lookups, operation), within_s)

    def scan(self, operation: Operation, *, within_s: float) -> Any:
        """Read many rows; lookups do not wait for it. Blocks, so never call it on the loop. Raises as `read` does."""
        return waited_for(self._submit(self._scans, operation), within_s)

    async def scanned(self, operation: Operation, *, within_s: float) -> Any:
        """Read many rows, as `scan` does, from the loop. While the disk hangs no thread of the loop waits for it."""
        return await within(self._submit(self._scans, operation), within_s)

    def close(self, within_s: float = CLOSE_S) -> None:
        """Write what is queued, for at most so many seconds, then close. Blocks. What is lost then is logged."""
        self._closed = True
        for reader in (self._lookups, self._scans):
            if reader is not None:
                reader.close(1.0)
        if self._writer.close(within_s):
            self._connection.close()

    def _submit(self, reader: Reader | None, operation: Operation) -> "Future[Any]":
        if reader is None:
            return self._after_writes(operation)
        self._check_open()
        return reader.submit(operation)

    def _after_writes(self, operation: Operation) -> "Future[Any]":
        self._check_open()
        result: Future[Any] = Future()
        self._writer.put(operation, 0, result=result)
        return result

    def _check_open(self) -> None:
        if self._closed:
            raise sqlite3.ProgrammingError("the database is closed")


def _open(data_dir: str) -> sqlite3.Connection:
    """Return the connection that writes."""
    if data_dir != MEMORY:
        Path(data_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = _connect(data_dir, OPEN_LOCK_S)
    if data_dir != MEMORY:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    connection.execute(f"PRAGMA busy_timeout = {WRITE_LOCK_S * 1000:.0f}")
    return connection


def _connect(data_dir: str, lock_s: float) -> sqlite3.Connection:
    file = MEMORY if data_dir == MEMORY else Path(data_dir) / FILE
    # isolation_level None: the writer begins and commits by itself, a reader has no transactions.
    return sqlite3.connect(file, check_same_thread=False, timeout=lock_s, isolation_level=None)
