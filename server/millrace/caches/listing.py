"""What the semantic cache keeps, for operators: listed, searched and deleted on the disk."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from millrace.caches.table import prepare
from millrace.ports import Clock, Database
from millrace.types import CachedEntry, CachedScope, StoredAnswer

WITHIN_S = 10.0

STEP = 500  # rows deleted at once, so that other writes are not held up for long

_COLUMNS = "id, tenant, scope, question, answer, stored_at, used_at, hits, size"
_SCOPES = """
SELECT tenant, scope, count(*), sum(hits), sum(size) AS bytes, max(used_at) FROM semantic_entries
WHERE {} GROUP BY tenant, scope ORDER BY bytes DESC, scope LIMIT ?
"""

Gone = list[tuple[str, bytes]]  # id and scope of entries that were deleted


class Listing:
    """Implements `ports.SemanticEntries` on the disk. `on_gone` makes memory forget what was deleted there."""

    def __init__(
        self, database: Database, *, ttl_s: float, wall: Clock, on_gone: Callable[[Gone], Awaitable[None]]
    ) -> None:
        self._database = database
        self._ttl_s = ttl_s
        self._wall = wall
        self._on_gone = on_gone
        database.write(prepare)

    async def entries(
        self,
        tenant: str | None,
        containing: str = "",
        *,
        scope: bytes | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[CachedEntry]:
        """Return entries in the order of their ids; see the port."""
        where, values = _where(tenant=tenant, scope=scope)
        text = "AND instr(lower(question), lower(?))" if containing else ""
        select = (
            f"SELECT {_COLUMNS} FROM semantic_entries WHERE {where} {text} AND id > ? AND stored_at > ? "  # noqa: S608
            "ORDER BY id LIMIT ?"
        )
        if containing:
            values.append(containing)
        values += [after or "", self._fresh_after, limit]
        return [self._entry(row) for row in await self._read(select, values)]

    async def entry(self, tenant: str | None, entry_id: str) -> CachedEntry | None:
        """Return one entry; see the port."""
        where, values = _where(tenant=tenant, id=entry_id)
        select = f"SELECT {_COLUMNS} FROM semantic_entries WHERE {where} AND stored_at > ?"  # noqa: S608 - as above
        rows = await self._read(select, [*values, self._fresh_after])
        return self._entry(rows[0]) if rows else None

    async def scopes(self, tenant: str | None, *, limit: int = 100) -> list[CachedScope]:
        """Return the largest scopes; see the port."""
        where, values = _where(tenant=tenant)
        return [
            CachedScope(tenant=tenant, scope=scope, entries=entries, hits=hits, size=size, used_at=used_at)
            for tenant, scope, entries, hits, size, used_at in await self._read(_SCOPES.format(where), [*values, limit])
        ]

    async def delete(self, tenant: str | None, *, entry_id: str | None = None, scope: bytes | None = None) -> int:
        """Delete entries on disk and in memory, and return how many; see the port."""
        where, values = _where(tenant=tenant, id=entry_id, scope=scope)
        deleted = 0
        while gone := await self._database.commit(partial(_delete, where, values), within_s=WITHIN_S):
            await self._on_gone(gone)
            deleted += len(gone)
        return deleted

    @property
    def _fresh_after(self) -> float:
        return self._wall() - self._ttl_s

    async def _read(self, select: str, values: list[Any]) -> list[tuple[Any, ...]]:
        """Return rows, once all is written that was queued. Lookups do not wait for it."""
        await self._database.commit(lambda _: None, within_s=WITHIN_S)
        rows: list[tuple[Any, ...]] = await asyncio.to_thread(
            self._database.scan, lambda connection: connection.execute(select, values).fetchall(), within_s=WITHIN_S
        )
        return rows

    def _entry(self, row: tuple[Any, ...]) -> CachedEntry:
        id_, tenant, scope, question, answer, stored_at, used_at, hits, size = row
        return CachedEntry(
            id=id_,
            tenant=tenant,
            scope=scope,
            question=question,
            answer=msgspec.json.decode(answer, type=StoredAnswer),
            stored_at=stored_at,
            expires_at=stored_at + self._ttl_s,
            used_at=used_at,
            hits=hits,
            size=size,
        )


def _where(**columns: str | bytes | None) -> tuple[str, list[Any]]:
    """Return a condition that columns have these values, if they are given, and the values."""
    given = {name: value for name, value in columns.items() if value is not None}
    return " AND ".join(f"{name} = ?" for name in given) or "true", list(given.values())


def _delete(where: str, values: list[Any], connection: sqlite3.Connection) -> Gone:
    select = f"SELECT id, scope FROM semantic_entries WHERE {where} LIMIT {STEP}"  # noqa: S608 - names of this file
    gone: Gone = connection.execute(select, values).fetchall()
    connection.executemany("DELETE FROM semantic_entries WHERE id = ?", [(id_,) for id_, _ in gone])
    return gone
