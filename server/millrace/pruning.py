"""How a SQLite table of stored rows is pruned: by age, then by size, least recent first. Opens nothing.

A prune scans the table, so it runs once per `PRUNE_EVERY` stores. Between two prunes a table may exceed its size
by that many rows, and expired rows stay on disk; every read filters by age itself.
"""

import sqlite3
from collections.abc import Callable

PRUNE_EVERY = 256  # stores


class Pruner:
    """Prunes one table. It needs the columns `stored_at` (Unix seconds) and, under `max_bytes`, `size` (bytes)."""

    def __init__(
        self,
        table: str,
        *,
        ttl_s: float,
        wall: Callable[[], float],
        key: str = "",  # columns of the primary key; only `max_bytes` needs it
        order: str = "",  # ORDER BY terms: what to keep, most recent first; only `max_bytes` needs it
        size: str = "size",  # expression: bytes of a row
        max_bytes: int | None = None,  # None: rows go by age alone
    ) -> None:
        self.stores = 0
        self._stored_bytes = 0  # since the last prune
        self._ttl_s = ttl_s
        self._wall = wall
        self._max_bytes = max_bytes
        # SQL cannot bind names of tables and columns. They come from the code, never from a request.
        self._expire = f"DELETE FROM {table} WHERE stored_at <= ?"  # noqa: S608
        self._size = f"SELECT coalesce(sum({size}), 0) FROM {table}"  # noqa: S608
        if max_bytes is not None:
            self._evict = (
                f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM ("  # noqa: S608
                f"SELECT {key}, sum({size}) OVER (ORDER BY {order}) AS kept FROM {table}) WHERE kept > ?)"
            )

    def is_due(self, size: int = 0) -> bool:
        """Count a store of so many bytes; True once per `PRUNE_EVERY` stores, and once a tenth of the bound is new."""
        self.stores += 1
        self._stored_bytes += size
        passed = self._max_bytes is not None and self._stored_bytes > self._max_bytes // 10
        if not passed and self.stores % PRUNE_EVERY != 0:
            return False
        self._stored_bytes = 0
        return True

    def prune(self, connection: sqlite3.Connection) -> None:
        """Delete expired rows, then the least recent until the rest fits. An operation for `ports.Database`."""
        connection.execute(self._expire, (self._wall() - self._ttl_s,))
        if self._max_bytes is not None and connection.execute(self._size).fetchone()[0] > self._max_bytes:
            connection.execute(self._evict, (self._max_bytes * 9 // 10,))  # or the next prune would have to evict again
