"""How a SQLite table of stored rows is pruned: by age, then by size, least recent first. Opens nothing.

A prune goes in steps of `STEP` rows, each queued when the one before it is committed, so that it never holds up other
writes for long. Expired rows stay on disk until the next prune; every read filters by age itself.
"""

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from msgspec import Struct

PRUNE_EVERY = 256  # stores, at the latest; sooner if the table may have passed its size
STEP = 100  # rows


class Write(Protocol):
    """Queues an operation, as `ports.Database.write` does."""

    def __call__(
        self,
        operation: Callable[[sqlite3.Connection], Any],
        /,
        *,
        droppable: bool = False,
        on_written: Callable[[], object] | None = None,
    ) -> bool:
        """Return False if it was dropped."""
        ...


class _Step(Struct, frozen=True):
    """What a step left behind."""

    kept_bytes: int  # of all rows, as counted at the first step
    excess: int  # bytes still to evict
    is_last: bool
    deleted: list[tuple[Any, ...]]  # keys


class Pruner:
    """Prunes one table. It needs the columns `since` (Unix seconds) and, under `max_bytes`, `size` (bytes).

    A table that is larger than `max_bytes` is cut to nine tenths of it, or each store would evict again. Index both
    `since` and (`order`, `size`): else every prune reads the whole table.
    """

    def __init__(  # noqa: PLR0913 - most have a default
        self,
        write: Write,
        table: str,
        *,
        key: str,  # columns of the primary key
        ttl_s: float,
        wall: Callable[[], float],
        since: str = "stored_at",  # column
        order: str = "stored_at",  # column: the least go first
        size: str = "size",  # expression: bytes of a row
        max_bytes: int | None = None,  # None: rows go by age alone
        stays: str = "false",  # condition of rows that stay, however old they are
        on_deleted: Callable[[list[tuple[Any, ...]]], object] = lambda _: None,  # told keys, on the writing thread
    ) -> None:
        self.stores = 0
        self.max_bytes = max_bytes  # may change at any time
        self._write = write
        self.ttl_s = ttl_s  # may change at any time
        self._wall = wall
        self._on_deleted = on_deleted
        self._room = 0 if max_bytes is None else max_bytes // 10  # bytes to store until the next prune; then known
        self._stored_bytes = 0  # since the last prune was queued
        self._is_pruning = False
        self._step: _Step | None = None
        # SQL cannot bind names of tables and columns. They come from the code, never from a request.
        placeholders = ", ".join("?" for _ in key.split(","))
        self._expired = f"SELECT {key} FROM {table} WHERE {since} <= ? AND NOT ({stays}) LIMIT {STEP}"  # noqa: S608
        self._least = f"SELECT {size}, {key} FROM {table} ORDER BY {order} LIMIT {STEP}"  # noqa: S608
        self._total = f"SELECT coalesce(sum({size}), 0) FROM {table}"  # noqa: S608
        self._delete = f"DELETE FROM {table} WHERE ({key}) = ({placeholders})"  # noqa: S608

    def count(self, size: int) -> bool:
        """Count a store of so many bytes, which was queued before; queue a prune if one is due, and say whether."""
        self.stores += 1
        self._stored_bytes += size
        return (self._has_passed or self.stores % PRUNE_EVERY == 0) and self.prune()

    def prune(self) -> bool:
        """Queue the first step and return True, unless steps are queued already."""
        if self._is_pruning:
            return False
        self._stored_bytes = 0
        self._queue_step(None)
        return True

    @property
    def _has_passed(self) -> bool:
        """Whether the table may be larger than `max_bytes`."""
        return self.max_bytes is not None and self._stored_bytes > self._room

    def _queue_step(self, before: _Step | None) -> None:
        self._is_pruning = True  # before the write, because the step may be done before it returns
        if not self._write(partial(self._run_step, before), droppable=True, on_written=self._on_step):
            self._is_pruning = False

    def _run_step(self, before: _Step | None, connection: sqlite3.Connection) -> None:
        """Delete some rows. The operation may be repeated, so it changes nothing but `_step`."""
        expired = connection.execute(self._expired, (self._wall() - self.ttl_s,)).fetchall()
        connection.executemany(self._delete, expired)
        kept, excess = self._measure(connection) if before is None else (before.kept_bytes, before.excess)
        evicted = []
        for size, *row in connection.execute(self._least).fetchall() if excess > 0 else ():
            if excess > 0:
                evicted.append(tuple(row))
                kept, excess = kept - size, excess - size
        connection.executemany(self._delete, evicted)
        is_last = len(expired) < STEP and (excess <= 0 or not evicted)  # other rows may have gone meanwhile
        self._step = _Step(kept, excess, is_last, expired + evicted)

    def _measure(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """Return the bytes of all rows, and how many of them to evict."""
        if self.max_bytes is None:
            return 0, 0
        kept: int = connection.execute(self._total).fetchone()[0]
        return kept, kept - self.max_bytes * 9 // 10 if kept > self.max_bytes else 0

    def _on_step(self) -> None:
        step, self._step = self._step, None
        self._is_pruning = False
        if step is None:  # it failed
            return
        self._on_deleted(step.deleted)
        if self.max_bytes is not None:
            self._room = max(0, self.max_bytes - step.kept_bytes)
        if not step.is_last:
            self._queue_step(step)
        elif self._has_passed:  # so much was stored meanwhile
            self.prune()
