"""What was deleted from the caches, by this process or by `millrace cache`: it is never served again.

An entry may be in the memory of several processes, and on its way to the disk. So a deletion is a row of its own that
every process reads within `POLL_S`, and no hit that it covers is served. That the entry also leaves disk and memory
only frees their room.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Protocol

from msgspec import Struct

from millrace import log
from millrace.beat import beat
from millrace.ports import Clock, Database, ElsewhereDeleted

POLL_S = 0.25  # seconds between two reads
HEED_S = 5.0  # for all processes to read a deletion
READ_S = 2.0  # for SQLite to read what is new
MOST_READ = 1000  # deletions at once

_TABLES = (
    """
CREATE TABLE IF NOT EXISTS cache_deletions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,           -- Unix seconds
    entry_id TEXT,              -- NULL: all that was stored until then
    tenant TEXT,                -- of whom; NULL: of all
    scope BLOB,                 -- in which scope; NULL: in all, and in the exact cache
    origin TEXT NOT NULL DEFAULT '' -- who told of it; empty: it was deleted on this data_dir
) STRICT
""",
    """
CREATE TABLE IF NOT EXISTS cache_deletions_read (
    epoch TEXT PRIMARY KEY,     -- of a process
    number INTEGER NOT NULL     -- the last one that it heeds
) STRICT
""",
)
_NEW = "SELECT number, at, entry_id, tenant, scope FROM cache_deletions WHERE number > ? ORDER BY number LIMIT ?"
_ADD = "INSERT INTO cache_deletions (at, entry_id, tenant, scope, origin) VALUES (?, ?, ?, ?, ?)"
_READ = "INSERT OR REPLACE INTO cache_deletions_read VALUES (?, ?)"
_READERS = "SELECT epoch FROM cache_deletions_read WHERE number >= ?"
_LEAVE = "DELETE FROM cache_deletions_read WHERE epoch NOT IN (SELECT value FROM json_each(?))"
_FORGET = "DELETE FROM cache_deletions WHERE at <= ?"


class Deletion(Struct, frozen=True, kw_only=True):
    """One entry, or all, that was stored until then. What is None stands for any. The scope of one entry is a hint."""

    at: float  # Unix seconds
    entry_id: str | None = None
    tenant: str | None = None
    scope: bytes | None = None


class Forgetful(Protocol):
    """A cache with entries in memory."""

    def forget(self, gone: list[tuple[str, bytes]] | None) -> None:
        """Drop entries of the semantic cache from memory, soon, by id and scope; all of both caches with None."""
        ...


class Deletions:
    """The deletions that this process heeds."""

    def __init__(
        self, database: Database, epoch: str, caches: Sequence[Forgetful], *, ttl_s: float, wall: Clock
    ) -> None:
        self._database = database
        self._epoch = epoch
        self._caches = caches
        self.ttl_s = ttl_s  # may change at any time
        self._wall = wall
        self._number = 0
        self._entries: dict[tuple[str, str | None], float] = {}  # by id and tenant: what was stored until then
        self._until: dict[
            tuple[str | None, bytes | None], float
        ] = {}  # by tenant and scope: what was stored until then
        database.write(prepare)

    def covers(self, entry_id: str, stored_at: float, tenant: str, scope: bytes | None = None) -> bool:
        """Whether an entry was deleted. `scope` is None in the exact cache."""
        if not (self._entries or self._until):
            return False
        if any(stored_at <= self._entries.get((entry_id, whose), 0.0) for whose in (None, tenant)):
            return True
        scopes = (None,) if scope is None else (None, scope)
        return any(stored_at <= self._until.get((whose, where), 0.0) for whose in (None, tenant) for where in scopes)

    async def read(self) -> None:
        """Read what is new, heed it, and say so. Raises `sqlite3.Error` or `TimeoutError`."""
        while rows := await self._database.read(
            lambda connection: connection.execute(_NEW, (self._number, MOST_READ)).fetchall(), within_s=READ_S
        ):
            self._heed(rows)

    def _heed(self, rows: Sequence[tuple[Any, ...]]) -> None:
        kept_after = self._wall() - 2 * self.ttl_s
        self._entries = {key: at for key, at in self._entries.items() if at > kept_after}
        found = [Deletion(at=at, entry_id=id_, tenant=tenant, scope=scope) for _, at, id_, tenant, scope in rows]
        for each in found:
            if each.entry_id is not None:  # those of other replicas come in any order
                entry = each.entry_id, each.tenant
                self._entries[entry] = max(each.at, self._entries.get(entry, 0.0))
            else:
                place = each.tenant, each.scope
                self._until[place] = max(each.at, self._until.get(place, 0.0))
        self._number = number = rows[-1][0]
        gone = [(each.entry_id, each.scope) for each in found if each.entry_id is not None and each.scope is not None]
        for cache in self._caches:
            cache.forget(gone if all(each.entry_id is not None for each in found) else None)
        self._database.write(lambda connection: connection.execute(_READ, (self._epoch, number)))

    async def begin(self, living: Collection[str]) -> None:
        """Read all at a start. Queue the removal of those whose entries have expired, and of the words of dead readers.

        `living` are the epochs of the other processes. A deletion is kept longer than the entries that it covers.
        """
        before, epochs = self._wall() - 2 * self.ttl_s, json.dumps([self._epoch, *living])
        self._database.write(lambda connection: connection.execute(_FORGET, (before,)))
        self._database.write(lambda connection: connection.execute(_LEAVE, (epochs,)))
        await self.read()

    async def follow(self, every_s: float = POLL_S) -> None:
        """Read what is new, again and again until cancelled. A failed read is repeated next time."""
        while True:
            await beat(every_s)
            try:
                await self.read()
            except (sqlite3.Error, TimeoutError) as error:
                log.get().error("deletions from the caches not read", exc_info=error)


def add(connection: sqlite3.Connection, deletions: Sequence[Deletion], origin: str = "") -> int:
    """Write deletions; return the number of the last one, 0 if there is none. `origin`: who told of them."""
    number = 0
    for each in deletions:
        values = (each.at, each.entry_id, each.tenant, each.scope, origin)
        number = connection.execute(_ADD, values).lastrowid or 0
    return number


async def heeded_by_all(database: Database, living: Callable[[], frozenset[str]], number: int) -> None:
    """Return once all processes heed a deletion. Raises `TimeoutError`. `living` returns their epochs."""
    try:
        async with asyncio.timeout(HEED_S):
            while await asyncio.to_thread(living) - await database.read(partial(_readers, number), within_s=READ_S):  # noqa: ASYNC110
                await asyncio.sleep(POLL_S / 5)  # another process cannot tell us
    except TimeoutError:
        raise TimeoutError(f"deleted, but a server has not read it within {HEED_S:g} s; restart it") from None


def _readers(number: int, connection: sqlite3.Connection) -> frozenset[str]:
    return frozenset(epoch for (epoch,) in connection.execute(_READERS, (number,)))


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, or add to those of an earlier version what they lack."""
    for table in _TABLES:
        connection.execute(table)
    if "origin" not in {row[1] for row in connection.execute("PRAGMA table_info(cache_deletions)")}:
        connection.execute("ALTER TABLE cache_deletions ADD COLUMN origin TEXT NOT NULL DEFAULT ''")


def add_of_others(connection: sqlite3.Connection, deleted: ElsewhereDeleted) -> None:
    """Write what another replica has deleted."""
    made = Deletion(at=deleted.at, entry_id=deleted.entry_id, tenant=deleted.tenant, scope=deleted.scope)
    add(connection, (made,), deleted.origin)
