"""The table of the semantic cache in SQLite. It is the truth: what is in memory is a part of it, found faster.

An entry has the same id as long as its scope and its question are the same, so a newer answer takes the place of the
older one. Entries go by age, then by rank: the time of the last use, and more for each hit, so that what is hit often
outlives what is newer and never hit.
"""

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from msgspec import Struct

from millrace.caches import decider
from millrace.caches.partition import Stored
from millrace.caches.segment import Vector
from millrace.ports import Clock, Database
from millrace.pruning import Pruner

PAGE, PAGE_BYTES = 256, 4 * 2**20  # rows that are read at once, at most
SELECT_S = 5.0  # for SQLite to read a page; after that the scope stays unloaded

_HITS = 8  # that count
_BONUS = 0.125  # of the time to live, by which an entry outlives others for each hit
_ROW_BYTES = 600  # on disk, of a row beside its texts and its vector: the key, the scope, and its places in the indexes

_TABLE = """
CREATE TABLE IF NOT EXISTS semantic_entries (
    id TEXT PRIMARY KEY,              -- of scope and question: `entry_id`
    scope BLOB NOT NULL,
    tenant TEXT NOT NULL,
    question TEXT NOT NULL,
    answer BLOB NOT NULL,             -- JSON of a StoredAnswer
    vector BLOB NOT NULL,             -- in float16, then the tokens
    mark INTEGER NOT NULL,            -- of all that vector and tokens depend on
    stored_at REAL NOT NULL,          -- Unix seconds
    used_at REAL NOT NULL,            -- Unix seconds
    hits INTEGER NOT NULL,
    rank REAL NOT NULL,               -- Unix seconds; the least goes first
    size INTEGER NOT NULL,            -- bytes, about
    untold INTEGER,                   -- 1: other replicas are still to be told of it
    came_at REAL                      -- Unix seconds: when it came from another replica; NULL: it was stored here
) STRICT
"""
_ADDED = {"untold": "INTEGER", "came_at": "REAL"}  # that tables of earlier versions lack
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS semantic_entries_rank ON semantic_entries (rank, size)",
    "CREATE INDEX IF NOT EXISTS semantic_entries_stored ON semantic_entries (stored_at)",
    "CREATE INDEX IF NOT EXISTS semantic_entries_mark ON semantic_entries (mark)",
    # Rows of a scope are read by rank, and not all of them: without this they would be sorted, answers and all.
    "CREATE INDEX IF NOT EXISTS semantic_entries_scope ON semantic_entries (scope, rank, id)",
    "CREATE INDEX IF NOT EXISTS semantic_entries_tenant ON semantic_entries (tenant, scope, size, stored_at)",
    "CREATE INDEX IF NOT EXISTS semantic_entries_untold ON semantic_entries (untold) WHERE untold IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS semantic_entries_came ON semantic_entries (came_at) WHERE came_at IS NOT NULL",
    "DROP TABLE IF EXISTS semantic_answers",  # of an earlier version; a cache may begin anew
)
PUT = f"""
INSERT INTO semantic_entries (
    id, scope, tenant, question, answer, vector, mark, stored_at, used_at, hits, rank, size, untold, came_at
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, 0, ?8, ?9, ?10, ?11)
ON CONFLICT (id) DO UPDATE SET answer = excluded.answer, vector = excluded.vector, mark = excluded.mark,
    stored_at = excluded.stored_at, used_at = excluded.used_at, size = excluded.size,
    rank = excluded.rank + ?12 * min(hits, {_HITS}), untold = excluded.untold, came_at = excluded.came_at
"""  # noqa: S608 - a number of this file
_PAGE = """
SELECT id, question, answer, stored_at, vector, rank FROM semantic_entries
WHERE scope = ? AND (rank, id) < (?, ?) AND mark = ? AND stored_at > ? ORDER BY rank DESC, id DESC LIMIT ?
"""
_NEW = """
SELECT id, scope, stored_at FROM semantic_entries INDEXED BY semantic_entries_stored WHERE stored_at > ?1 AND mark = ?2
UNION ALL
SELECT id, scope, stored_at FROM semantic_entries INDEXED BY semantic_entries_came WHERE came_at > ?1 AND mark = ?2
ORDER BY stored_at
"""
_SOME = """
SELECT scope, id, question, answer, stored_at, vector FROM semantic_entries
WHERE id IN (SELECT value FROM json_each(?))
"""
_HIT = f"""
UPDATE semantic_entries SET hits = hits + ?, used_at = max(used_at, ?), rank = ? + ? * min(hits + ?, {_HITS})
WHERE id = ?
"""  # noqa: S608 - a number of this file
_DROP = "DELETE FROM semantic_entries WHERE id = ?"
_OUTDATED = """
SELECT id, scope, question, answer, stored_at FROM semantic_entries WHERE mark < ? OR mark > ? LIMIT ?
"""
_RENEW = "UPDATE semantic_entries SET vector = ?, mark = ? WHERE id = ?"

Start = tuple[float, str]
START: Start = (float("inf"), "")  # of a scope: before its first row


def kept_by(embedder: str) -> str:
    """Return the name of all that vector and tokens depend on; those of another name cannot be compared."""
    return f"{embedder} {decider.VERSION}"


def mark_of(embedder: str) -> int:
    """Return the number that stands for that name."""
    return zlib.crc32(kept_by(embedder).encode())


class Page(Struct, frozen=True):
    """Some rows of a scope, the highest rank first."""

    entries: list[tuple[Stored, Vector]]
    end: Start | None  # where the next page starts; None: there is none
    lacks_room: bool = False  # so it is shorter than it could be


class Outdated(Struct, frozen=True):
    """An entry whose vector was made by another embedder, or another version of it."""

    scope: bytes
    entry: Stored  # without tokens


class EntryTable:
    """Reads and writes entries. `on_gone` is told, on the thread that writes, which entries were deleted for good."""

    def __init__(
        self,
        database: Database,
        *,
        mark: int,
        dimensions: int,
        ttl_s: float,
        max_bytes: int,
        wall: Clock,
        on_gone: Callable[[list[tuple[str, bytes]]], object],
        is_shared: bool = False,  # other replicas are told of what is put here
    ) -> None:
        self.max_bytes = max_bytes  # of rows and indexes
        self._database = database
        self._mark = mark
        self._dimensions = dimensions
        self.ttl_s = ttl_s
        self._wall = wall
        self._untold = 1 if is_shared else None
        self.pruner = Pruner(
            database.write,
            "semantic_entries",
            key="id, scope",
            order="rank",
            ttl_s=ttl_s,
            max_bytes=max_bytes,
            wall=wall,
            on_deleted=on_gone,
        )
        database.write(prepare)

    def keep_for(self, ttl_s: float) -> None:
        """Keep entries for so long from now on."""
        self.ttl_s = self.pruner.ttl_s = ttl_s

    def values(
        self, scope: bytes, tenant: str, entry: Stored, blob: bytes, came_at: float | None = None
    ) -> tuple[Any, ...]:
        """Return what `PUT` writes of an entry. `blob`: its vector and tokens. `came_at`: from another replica."""
        untold = self._untold if came_at is None else None
        row = (entry.id, scope, tenant, entry.question, entry.answer, blob, self._mark, entry.stored_at)
        return (*row, self.size(entry), untold, came_at, self._bonus)

    def size(self, entry: Stored) -> int:
        """Return the bytes of an entry on disk, about."""
        texts = len(entry.question.encode("utf-8", "surrogatepass")) + len(entry.answer) + len(entry.tokens)
        return texts + 2 * self._dimensions + _ROW_BYTES

    def put(self, scope: bytes, tenant: str, entry: Stored, vector: Vector) -> "Future[bool]":
        """Queue an entry to be written; return what tells, from the thread that writes, whether it is committed."""
        blob = vector.astype(np.float16).tobytes() + entry.tokens
        return self._written(PUT, self.values(scope, tenant, entry, blob), self.size(entry))

    def page(self, scope: bytes, start: Start, max_bytes: int, large: int) -> Page:
        """Return the next rows of a scope that have not expired, as many as have so many bytes in memory. Blocks.

        An entry of more than `large` bytes that has no room is left out; the page ends before a smaller one. Raises
        `TimeoutError` or `sqlite3.Error`.
        """
        values = (scope, *start, self._mark, self._wall() - self.ttl_s, PAGE)
        rows, end, lacks_room = self._database.scan(
            lambda connection: self._first(connection.execute(_PAGE, values), start, max_bytes, large),
            within_s=SELECT_S,
        )
        return Page([entry for row in rows if (entry := self._read(*row)) is not None], end, lacks_room)

    async def of_others(
        self, since: float, lacks: Callable[[str, bytes, float], bool]
    ) -> list[tuple[bytes, Stored, Vector]]:
        """Return, with their scopes, entries stored since then (Unix seconds) that memory lacks.

        `lacks` is asked on another thread. Raises as `page` does.
        """

        def lacking(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            found = [row[0] for row in connection.execute(_NEW, (since, self._mark)) if lacks(*row)]
            return connection.execute(_SOME, (json.dumps(found[:PAGE]),)).fetchall() if found else []

        rows = await self._database.read(lacking, within_s=SELECT_S)
        return [(scope, *entry) for scope, *row in rows if (entry := self._read(*row)) is not None]

    def _read(
        self, id_: str, question: str, answer: bytes, stored_at: float, blob: bytes
    ) -> tuple[Stored, Vector] | None:
        found = read(id_, question, answer, stored_at, blob, self._dimensions)
        if found is None:  # damaged
            self.drop(id_)
        return found

    def _first(
        self, rows: Iterable[tuple[Any, ...]], start: Start, max_bytes: int, large: int
    ) -> tuple[list[tuple[Any, ...]], Start | None, bool]:
        """Return the first rows, as many as have so many bytes in memory, the rest as it is in `Page`.

        No other is read: an answer may have megabytes.
        """
        found: list[tuple[Any, ...]] = []
        left, page, seen = max_bytes, PAGE_BYTES, 0
        for *row, rank in rows:
            id_, question, answer, stored_at, blob = row
            size = Stored(id_, question, answer, stored_at, blob).size + 4 * self._dimensions
            if left < size <= large:
                return found, start, True
            start, seen, page = (rank, id_), seen + 1, page - size
            if size <= left:
                found.append(tuple(row))
                left -= size
            if page < 0:
                return found, start, False
        return found, None if seen < PAGE else start, False

    def count_hits(self, hits: dict[str, int]) -> None:
        """Queue the hits of entries to be written."""
        now = self._wall()
        values = [(count, now, now, self._bonus, count, id_) for id_, count in hits.items()]
        self._database.write(lambda connection: connection.executemany(_HIT, values), droppable=True)

    def drop(self, id_: str) -> None:
        """Queue the deletion of an entry."""
        self._database.write(lambda connection: connection.execute(_DROP, (id_,)), droppable=True)

    def outdated(self, limit: int) -> list[Outdated]:
        """Return some entries whose vectors cannot be compared. Blocks. Raises as `page` does."""
        values = (self._mark, self._mark, limit)
        rows = self._database.scan(
            lambda connection: connection.execute(_OUTDATED, values).fetchall(), within_s=SELECT_S
        )
        return [Outdated(scope, Stored(id_, *rest)) for id_, scope, *rest in rows]

    def renew(self, entry: Stored, vector: Vector) -> "Future[bool]":
        """Queue a new vector to be written; the result is as that of `put`."""
        blob = vector.astype(np.float16).tobytes() + entry.tokens
        return self._written(_RENEW, (blob, self._mark, entry.id), len(blob))

    def after_writes(self, call: Callable[[], object]) -> None:
        """Have something called, on the thread that writes, once all is written that was queued; not if it is full."""
        self._database.write(lambda _: None, droppable=True, on_written=call)

    @property
    def _bonus(self) -> float:
        return _BONUS * self.ttl_s

    def _written(self, statement: str, values: Sequence[Any], size: int) -> "Future[bool]":
        done: Future[bool] = Future()
        is_done = False

        def operation(connection: sqlite3.Connection) -> None:  # it may run several times before it is committed
            nonlocal is_done
            is_done = False
            connection.execute(statement, values)
            is_done = True

        if not self._database.write(operation, size, droppable=True, on_written=lambda: done.set_result(is_done)):
            done.set_result(False)
        return done


def read(
    id_: str, question: str, answer: bytes, stored_at: float, blob: bytes, dimensions: int
) -> tuple[Stored, Vector] | None:
    """Return an entry and its vector from what a row has; None if that is too short."""
    if len(blob) < 2 * dimensions:
        return None
    vector = np.frombuffer(blob, np.float16, dimensions).astype(np.float32)
    return Stored(id_, question, answer, stored_at, blob[2 * dimensions :]), vector


def prepare(connection: sqlite3.Connection) -> None:
    """Create what is missing."""
    connection.execute(_TABLE)
    has = {row[1] for row in connection.execute("PRAGMA table_info(semantic_entries)")}
    for name, kind in _ADDED.items():
        if name not in has:
            connection.execute(f"ALTER TABLE semantic_entries ADD COLUMN {name} {kind}")
    for index in _INDEXES:
        connection.execute(index)
