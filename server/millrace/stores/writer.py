"""The write queue of a SQLite file: one connection on one thread. Operations run in order, and none is lost.

Operations that were queued together share a transaction. If it fails for a reason that may pass (the file is locked,
the disk is full), the whole transaction stays at the head of the queue and is tried again until it succeeds.
"""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from typing import Any

from msgspec import Struct

from millrace import log

BATCH = 500  # operations per transaction, at most
BATCH_BYTES = 4 * 2**20  # of operations per transaction, about: it bounds the write-ahead log on disk
OVERHEAD = 500  # bytes of a queued operation beside what it writes, about
LINGER_S = 0.005  # for more operations, so that they share a transaction; not if somebody waits for one
AWAKE_S = 0.01  # after the last operation the thread looks for more by itself: to wake it takes long for who must do it
FIRST_RETRY_S, LAST_RETRY_S = 0.05, 0.5

_MAY_PASS = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}

Operation = Callable[[sqlite3.Connection], Any]


class _Queued(Struct):
    """An operation that waits. It may run several times, but only once in a transaction that is committed."""

    operation: Operation
    size: int  # bytes, about
    since: float  # monotonic
    result: "Future[Any] | None"  # of whoever waits for it
    on_written: Callable[[], object] | None  # called on the writer's thread
    was_skipped: bool = False  # in the last attempt, because whoever asked had been told that it is not done

    @property
    def is_cancelled(self) -> bool:
        return self.result is not None and self.result.cancelled()


class Writer:
    """Writes to one connection. `max_bytes` bounds what may wait (see `put` and `is_full`)."""

    def __init__(self, connection: sqlite3.Connection, max_bytes: int) -> None:
        self.dropped = 0  # droppable operations
        self.trouble = ""  # why the last attempt failed; empty: it did not
        self._connection = connection
        self._max_bytes = max_bytes
        self._queue: deque[_Queued] = deque()
        self._bytes = 0
        self._awaited = 0  # operations that somebody waits for
        self._is_asleep = False
        self._changed = threading.Condition()  # guards the queue, the three after it, and `_give_up_at`
        self._give_up_at: float | None = None  # monotonic; set by `close`
        self._alone = 0  # so many operations are tried one by one, since their batch failed and one may be at fault
        self._thread = threading.Thread(target=self._work, name="millrace-sqlite", daemon=True)
        self._thread.start()

    @property
    def operations(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def bytes(self) -> int:
        """What waits, about."""
        return self._bytes

    @property
    def oldest_s(self) -> float:
        """For how many seconds the first one has waited; 0 if none waits."""
        with suppress(IndexError):
            return time.monotonic() - self._queue[0].since
        return 0.0

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no new work should be begun. What must not be lost is queued all the same."""
        return self._bytes >= self._max_bytes

    def put(
        self,
        operation: Operation,
        size: int,
        *,
        droppable: bool = False,
        result: "Future[Any] | None" = None,
        on_written: Callable[[], object] | None = None,
    ) -> bool:
        """Queue an operation; never waits. False if it is droppable and half of the bound is in use, or after `close`.

        The other half is for what must not be lost.
        """
        with self._changed:
            if self._give_up_at is not None or (droppable and self._bytes >= self._max_bytes // 2):
                self.dropped += 1
                return False
            self._queue.append(_Queued(operation, size + OVERHEAD, time.monotonic(), result, on_written))
            self._bytes += size + OVERHEAD
            self._awaited += result is not None
            if self._is_asleep or self._is_urgent:
                self._changed.notify()
        return True

    @property
    def _is_urgent(self) -> bool:
        return self._awaited > 0 or self._bytes >= BATCH_BYTES or self._give_up_at is not None

    def close(self, within_s: float) -> bool:
        """Write what is queued, for at most so many seconds; False if the thread still hangs in an operation."""
        with self._changed:
            self._give_up_at = time.monotonic() + within_s
            self._changed.notify()
        self._thread.join(within_s + LAST_RETRY_S)
        if self._queue:
            log.get().error("lost at shutdown", operations=len(self._queue), bytes=self._bytes, error=self.trouble)
        return not self._thread.is_alive()

    def _work(self) -> None:
        retry_s = FIRST_RETRY_S
        while batch := self._next():
            if self._attempt(batch):
                retry_s = FIRST_RETRY_S
            elif not self._may_go_on_after(retry_s):
                return
            else:
                retry_s = min(2 * retry_s, LAST_RETRY_S)
            del batch  # or it would live on while the thread waits

    def _next(self) -> list[_Queued]:
        """Wait for operations and return the first ones, which stay queued; none at the end."""
        with self._changed:
            awake_until = time.monotonic() + AWAKE_S
            while not self._queue and self._give_up_at is None:
                self._is_asleep = time.monotonic() > awake_until
                self._changed.wait(None if self._is_asleep else LINGER_S)
            self._is_asleep = False
            if not self._alone:
                self._changed.wait_for(lambda: self._is_urgent, LINGER_S)
            batch: list[_Queued] = []
            size = 0
            for queued in islice(self._queue, 1 if self._alone else BATCH):
                if batch and size + queued.size > BATCH_BYTES:
                    break
                batch.append(queued)
                size += queued.size
            return batch

    def _may_go_on_after(self, seconds: float) -> bool:
        """Wait before the next attempt; False if there is no time for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._give_up_at is not None, seconds)
        if self._give_up_at is None:
            return True
        time.sleep(max(0.0, min(seconds, self._give_up_at - time.monotonic())))
        return time.monotonic() < self._give_up_at

    def _attempt(self, batch: list[_Queued]) -> bool:
        """Write a batch in one transaction. False if it is to be tried again later."""
        try:
            self._connection.execute("BEGIN")  # takes the lock with the first change, if there is one
            outcomes = [self._run_one(queued) for queued in batch]
            if any(queued.is_cancelled and not queued.was_skipped for queued in batch):
                self._connection.execute("ROLLBACK")  # it must not be done after all
                return True
            self._connection.execute("COMMIT")
        except Exception as error:
            self._roll_back()
            if _may_pass(error):
                self._report(error)
                return False
            if len(batch) > 1:
                self._alone = len(batch)
                return True
            outcomes = [error]
        self.trouble = ""
        self._alone = max(0, self._alone - len(batch))
        self._remove(len(batch))
        for queued, outcome in zip(batch, outcomes, strict=True):
            _settle(queued, outcome)
        return True

    def _run_one(self, queued: _Queued) -> Any:
        """Return what an operation returned, or its error if that is no reason to repeat the batch."""
        queued.was_skipped = queued.is_cancelled
        if queued.was_skipped:
            return None
        try:
            outcome = queued.operation(self._connection)
        except Exception as error:
            if _may_pass(error) or not self._connection.in_transaction:
                raise
            outcome = error
        if not self._connection.in_transaction:  # the operations before it may be undone
            raise sqlite3.ProgrammingError("an operation ended the transaction")
        return outcome

    def _remove(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                done = self._queue.popleft()
                self._bytes -= done.size
                self._awaited -= done.result is not None

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite itself has rolled back after some errors
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _report(self, error: Exception) -> None:
        """Log that nothing is written for now; `log` leaves out what comes more than once a second."""
        self.trouble = str(error)
        log.get().warning(
            "not written yet",
            error=self.trouble,
            operations=self.operations,
            bytes=self._bytes,
            oldest_s=round(self.oldest_s, 1),
        )


def _may_pass(error: Exception) -> bool:
    """Whether the same operation may succeed later: the file is locked, the disk is full or away."""
    code = getattr(error, "sqlite_errorcode", None)  # extended: the low byte is the kind
    return isinstance(error, sqlite3.OperationalError) and code is not None and code & 0xFF in _MAY_PASS


def _settle(queued: _Queued, outcome: Any) -> None:
    """Hand on the outcome of an operation whose transaction is committed."""
    failed = isinstance(outcome, Exception)
    if queued.result is None:
        if failed:
            log.get().error("not written", exc_info=outcome)
    elif queued.result.set_running_or_notify_cancel():
        if failed:
            queued.result.set_exception(outcome)
        else:
            queued.result.set_result(outcome)
    if queued.on_written is not None:
        try:
            queued.on_written()
        except Exception as error:  # the thread must go on
            log.get().error("not followed up", exc_info=error)
