"""Lookups in a SQLite file: one connection that only reads, on one thread. It never waits behind a write."""

import sqlite3
from concurrent.futures import Future
from typing import Any

from millrace.stores.one_by_one import OneByOne
from millrace.stores.writer import Operation


class Reader:
    """Runs lookups one after the other. One that was cancelled in time never starts."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        connection.execute("PRAGMA query_only = 1")
        self._connection = connection
        self._lookups = OneByOne(name, lambda operation: operation(connection), "the disk")

    def submit(self, operation: Operation) -> "Future[Any]":
        """Queue a lookup. Raises `TimeoutError` if too many wait."""
        return self._lookups.submit(operation)

    def close(self, within_s: float) -> None:
        """Run what is queued, then close. A lookup that hangs for longer is abandoned."""
        if self._lookups.end(within_s):
            self._connection.close()
