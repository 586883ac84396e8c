"""PostgreSQL as the stores see a database: lookups, scans and commits, each on a thread and a connection of its own.

Nothing of it is on a request's way but lookups with a deadline. A lost connection is made anew by the next operation;
while that fails, operations fail at once for a while.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, NoReturn

import psycopg

from millrace import log
from millrace.stores.one_by_one import OneByOne, Operation, waited_for, within
from millrace.stores.postgres.connection import Connection, shown, told
from millrace.stores.queries import Dialect

AGAIN_S = 0.5  # after a connection that failed; until then operations fail at once


class PostgresAwayError(TimeoutError):
    """PostgreSQL does not answer, the connection broke, or it refuses: for whoever asks, a disk that is too slow.

    What was asked may or may not have been done.
    """


class PostgresDatabase:
    """The database of all replicas. `schema` is the name of the service, whose tables are in a schema of that name."""

    dialect: Dialect = "postgres"

    def __init__(self, url: str, schema: str) -> None:
        """Connect to nothing yet: PostgreSQL may be away."""
        self.address = shown(url)
        self._is_away = False
        self._lookups = _Worker(url, schema, "millrace-postgres-lookups", self._said)
        self._scans = _Worker(url, schema, "millrace-postgres-scans", self._said)
        self._writes = _Worker(url, schema, "millrace-postgres-writes", self._said)

    @property
    def is_away(self) -> bool:
        """Whether PostgreSQL did not answer when it was last asked."""
        return self._is_away

    def prepare(self, make: Operation) -> None:
        """Do nothing: its tables are made by migrations."""

    async def read(self, operation: Operation, *, within_s: float) -> Any:
        """Look something up. Raises its error, `TimeoutError`, or `PostgresAwayError`."""
        return await within(self._lookups.submit(operation), within_s)

    def scan(self, operation: Operation, *, within_s: float) -> Any:
        """Read many rows; lookups do not wait for it. Blocks, so never call it on the loop. Raises as `read` does."""
        return waited_for(self._scans.submit(operation), within_s)

    async def scanned(self, operation: Operation, *, within_s: float) -> Any:
        """Read many rows, as `scan` does, from the loop: no thread of the loop waits for it."""
        return await within(self._scans.submit(operation), within_s)

    async def commit(self, operation: Operation, *, within_s: float) -> Any:
        """Run an operation in a transaction; return its result once it is committed. Raises as `read` does.

        After `TimeoutError` it is not done, unless it had begun.
        """
        return await within(self._writes.submit(partial(_committed, operation)), within_s)

    def write(
        self,
        operation: Operation,
        _size: int = 0,
        *,
        droppable: bool = False,
        on_written: Callable[[], object] | None = None,
    ) -> bool:
        """Run an operation in a transaction, later. Never waits. It must be droppable: nothing is tried again here.

        `on_written` is called once it is committed, or has failed.
        """
        assert droppable, "what must not be lost is written to SQLite first"
        try:
            done = self._writes.submit(partial(_committed, operation))
        except TimeoutError:
            return False
        if on_written is not None:
            done.add_done_callback(lambda _: on_written())
        return True

    def close(self, within_s: float = 5.0) -> None:
        """End all threads. Blocks."""
        for worker in (self._lookups, self._scans, self._writes):
            worker.close(within_s)

    def _said(self, error: BaseException | None) -> None:
        """Take note of whether PostgreSQL answers."""
        if (error is not None) == self._is_away:
            return
        self._is_away = error is not None
        if error is None:
            log.get().info("PostgreSQL is back", address=self.address)
        else:
            message = "PostgreSQL is away; rows wait on the disk of each replica"
            log.get().warning(message, address=self.address, error=told(error))


class _Worker:
    """Runs operations one after the other on a thread. One that was cancelled in time never starts."""

    def __init__(self, url: str, schema: str, name: str, said: Callable[[BaseException | None], None]) -> None:
        self._url = url
        self._schema = schema
        self._said = said
        self._connection: Connection | None = None
        self._refused_until = 0.0
        self._refusal = ""
        self._operations = OneByOne(name, self._done, "PostgreSQL")

    def submit(self, operation: Operation) -> "Future[Any]":
        """Queue an operation. Raises `TimeoutError` if too many wait."""
        return self._operations.submit(operation)

    def close(self, within_s: float) -> None:
        """Run what is queued, then close. An operation that hangs for longer is abandoned."""
        if self._operations.end(within_s) and self._connection is not None:
            self._connection.close()

    def _done(self, operation: Operation) -> Any:
        connection = self._connected()
        try:
            result = operation(connection)
        except (psycopg.DataError, psycopg.IntegrityError):
            raise  # rows that it cannot take; it takes others
        except psycopg.Error as error:
            if not connection.is_lost:  # a role without rights, a disk that is full, a lock that was not free in time
                self._refused(error, connection)
            self._connection = None
            self._said(error)
            raise PostgresAwayError(f"PostgreSQL is away: {told(error)}") from error
        self._said(None)
        return result

    def _refused(self, error: psycopg.Error, connection: Connection) -> NoReturn:
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):  # another server may be the one that writes now
            connection.close()
        log.get().warning("PostgreSQL refuses what is asked of it", error=told(error))
        raise PostgresAwayError(f"PostgreSQL refuses: {told(error)}") from error

    def _connected(self) -> Connection:
        if self._connection is not None and not self._connection.is_lost:
            return self._connection
        if time.monotonic() < self._refused_until:
            raise PostgresAwayError(self._refusal)
        try:
            self._connection = Connection(self._url, self._schema)
        except (psycopg.Error, OSError) as error:
            self._refusal = f"PostgreSQL is away: {told(error)}"
            self._refused_until = time.monotonic() + AGAIN_S
            self._said(error)
            raise PostgresAwayError(self._refusal) from error
        return self._connection


def _committed(operation: Operation, connection: Connection) -> Any:
    with connection.transaction():
        return operation(connection)
