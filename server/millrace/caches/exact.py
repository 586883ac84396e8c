"""The exact cache: all answers in SQLite, recent ones in memory too. Both expire by age and evict by size, LRU.

A filter in memory holds the keys of all that is on disk, so that a new question does not look there in vain.
"""

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from functools import partial

import msgspec
from msgspec import Struct

from millrace import log
from millrace.beat import beat
from millrace.caches.key_filter import KeyFilter
from millrace.ports import Clock, Database
from millrace.pruning import Pruner
from millrace.types import Answer, StoredAnswer

LOOKUP_S = 0.1  # for SQLite to answer; a model says its first word after about twice that time
LEARN_S = 60.0  # to read the keys of all that is on disk, once
OVERHEAD = 500  # bytes per entry in memory beside its JSON, about
FOLLOW_S = 0.25  # between two looks at what other workers have stored
LATE_S = 5.0  # that an answer may take from there to the disk; what takes longer may be missed
TOUCH_S = 1.0  # after which another use of an answer is written down; what goes first was not used for much longer
SHARE = 4  # an answer of more than this part of the bytes allowed is not kept: it would push out too many others

_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB PRIMARY KEY,
    tenant TEXT NOT NULL,
    stored_at REAL NOT NULL,          -- Unix seconds
    used_at REAL NOT NULL,
    size INTEGER NOT NULL,            -- bytes
    answer BLOB NOT NULL,             -- JSON of a StoredAnswer
    id TEXT                           -- of the answer; NULL: stored by an earlier version
) STRICT, WITHOUT ROWID
"""
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS answers_used ON answers (used_at, size)",
    "CREATE INDEX IF NOT EXISTS answers_stored ON answers (stored_at)",
    "CREATE INDEX IF NOT EXISTS answers_id ON answers (id) WHERE id IS NOT NULL",
)
_PUT = "INSERT OR REPLACE INTO answers (key, tenant, stored_at, used_at, size, answer, id) VALUES (?, ?, ?, ?, ?, ?, ?)"
_GET = "SELECT answer FROM answers WHERE key = ? AND stored_at > ?"
_KEYS = "SELECT key FROM answers INDEXED BY answers_used"  # which has no answers to read over
_NEW_KEYS = "SELECT key FROM answers INDEXED BY answers_stored WHERE stored_at > ?"
_TOUCH = "UPDATE answers SET used_at = ? WHERE key = ?"
_DELETE = "DELETE FROM answers WHERE key = ?"


class _Hot(Struct):
    """An answer in memory."""

    answer: StoredAnswer
    size: int  # bytes, about
    used_at: float  # Unix seconds; as on disk


class SqliteExactCache:
    """Answers by the key of the whole request. The key includes the tenant."""

    def __init__(self, database: Database, *, ttl_s: float, memory_bytes: int, disk_bytes: int, wall: Clock) -> None:
        self._database = database
        self.ttl_s = ttl_s
        self._memory_bytes = memory_bytes
        self._disk_bytes = disk_bytes
        self._wall = wall
        self._hot: OrderedDict[bytes, _Hot] = OrderedDict()
        self._hot_bytes = 0
        self._forgotten = 0  # times that memory was emptied
        self._keys = KeyFilter()  # of what is on disk
        self._knows_all = False  # until then, of what this process has stored
        self._learning: asyncio.Task[None] | None = None
        self._pruner = Pruner(
            database.write, "answers", key="key", order="used_at", ttl_s=ttl_s, max_bytes=disk_bytes, wall=wall
        )
        database.write(prepare)

    def keep_for(self, ttl_s: float) -> None:
        """Serve answers for so long from now on, also those that are stored."""
        self.ttl_s = self._pruner.ttl_s = ttl_s

    def peek(self, key: bytes) -> StoredAnswer | None:
        """Look in memory."""
        cached = self._hot.get(key)
        if cached is None:
            return None
        now = self._wall()
        if cached.answer.stored_at <= now - self.ttl_s:
            self._drop(key)
            return None
        self._hot.move_to_end(key)
        if abs(now - cached.used_at) >= TOUCH_S:  # also after the clock was set back
            cached.used_at = now
            self._touch(key, now)
        return cached.answer

    def adopt(self, key: bytes, answer: StoredAnswer, size: int) -> None:
        """Keep an answer in memory that is stored elsewhere; its JSON has so many bytes."""
        self._keep(key, answer, size, self._wall())

    @property
    def bytes_used(self) -> int:
        """Bytes in memory, about."""
        return self._hot_bytes

    def give_way(self, size: int) -> None:
        """Free so many bytes: answers leave memory, the least recently used first."""
        self._shrink(self._hot_bytes - size)

    def forget(self, gone: Collection[object] | None) -> None:
        """Empty the memory with None; single answers are left, since nobody serves them any more."""
        if gone is None:
            self._forgotten += 1
            self._shrink(0)

    async def find(self, key: bytes) -> StoredAnswer | None:
        """Look in SQLite and keep a hit in memory. A database error is a miss, and so is a late answer.

        What another process stores on the same disk meanwhile may be missed, unless that is followed.
        """
        if self._knows_all and key not in self._keys:
            return None
        if self._learning is None:
            self._learning = asyncio.get_running_loop().create_task(self._learn())
        now, forgotten = self._wall(), self._forgotten
        after = now - self.ttl_s
        try:
            row = await self._database.read(
                lambda connection: connection.execute(_GET, (key, after)).fetchone(), within_s=LOOKUP_S
            )
        except (sqlite3.Error, TimeoutError):
            return None
        if row is None:
            return None
        try:
            answer = msgspec.json.decode(row[0], type=StoredAnswer)
        except msgspec.DecodeError:  # written by another version, or damaged
            self._database.write(lambda connection: connection.execute(_DELETE, (key,)), droppable=True)
            return None
        if forgotten == self._forgotten:  # else it may have been read before it was deleted
            self._keep(key, answer, len(row[0]), now)
        self._touch(key, now)
        return answer

    async def follow(self) -> None:
        """Learn of the keys that other workers store, until cancelled. Late is a miss."""
        looked_at = self._wall()
        while True:
            await beat(FOLLOW_S)
            since, looked_at = looked_at - LATE_S, self._wall()
            with suppress(sqlite3.Error, TimeoutError):
                rows = await self._database.read(partial(_stored_since, since), within_s=LOOKUP_S)
                for (key,) in rows:
                    self._keys.add(key)

    def store(self, key: bytes, tenant: str, answer: Answer) -> None:
        """Keep in memory now, in SQLite soon, or not at all if too much waits to be written."""
        stored = answer.stored(self._wall())
        self.put(key, tenant, stored, msgspec.json.encode(stored))

    def put(self, key: bytes, tenant: str, stored: StoredAnswer, row: bytes) -> None:
        """Store an answer as `store` does; `row` is its JSON."""
        now = stored.stored_at
        self._keep(key, stored, len(row), now)
        if len(row) > self._disk_bytes // SHARE:
            return
        self._keys.add(key)
        values = (key, tenant, now, now, len(row), row, stored.id)
        if self._database.write(lambda connection: connection.execute(_PUT, values), len(row), droppable=True):
            self._pruner.count(len(row))

    def prune(self) -> None:
        """Queue the deletion of what has expired, or is more than the disk may hold. Call it at a start."""
        self._pruner.prune()

    async def _learn(self) -> None:
        """Learn which keys are on disk."""
        try:
            self._keys.merge(await asyncio.to_thread(self._database.scan, _all_keys, within_s=LEARN_S))
        except (sqlite3.Error, TimeoutError) as error:  # each lookup goes to the disk then
            log.get().warning("keys of the exact cache not read", exc_info=error)
        else:
            self._knows_all = True

    def _touch(self, key: bytes, now: float) -> None:
        self._database.write(lambda connection: connection.execute(_TOUCH, (now, key)), droppable=True)

    def _keep(self, key: bytes, answer: StoredAnswer, size: int, now: float) -> None:
        self._drop(key)
        if size > self._memory_bytes // SHARE:
            return
        self._hot[key] = _Hot(answer, size + OVERHEAD, now)
        self._hot_bytes += size + OVERHEAD
        self._shrink(self._memory_bytes)

    def _shrink(self, size: int) -> None:
        while self._hot_bytes > size and self._hot:
            self._drop(next(iter(self._hot)))

    def _drop(self, key: bytes) -> None:
        if (dropped := self._hot.pop(key, None)) is not None:
            self._hot_bytes -= dropped.size


def _stored_since(since: float, connection: sqlite3.Connection) -> list[tuple[bytes]]:
    return connection.execute(_NEW_KEYS, (since,)).fetchall()


def _all_keys(connection: sqlite3.Connection) -> KeyFilter:
    found = KeyFilter()
    for (key,) in connection.execute(_KEYS):
        found.add(key)
    return found


def prepare(connection: sqlite3.Connection) -> None:
    """Make the table, or add to one of an earlier version what it lacks."""
    connection.execute(_TABLE)
    if "id" not in {row[1] for row in connection.execute("PRAGMA table_info(answers)")}:
        connection.execute("ALTER TABLE answers ADD COLUMN id TEXT")
    for index in _INDEXES:
        connection.execute(index)
