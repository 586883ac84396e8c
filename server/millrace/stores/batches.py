"""Files and batches in SQLite, by tenant: what they are and how they stand. The bytes of files are beside it."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import msgspec

from millrace.errors import MillraceError
from millrace.ports import Clock
from millrace.stores.database import SqliteDatabase
from millrace.types import Batch, FilePurpose, KeptFile

T = TypeVar("T")

WITHIN_S = 5.0  # for SQLite to answer a client that waits
SCAN_S = 30.0  # to read all of it, at a start
NOTE_BYTES = 800  # of a row that waits to be written, about

_TABLES = (
    """
CREATE TABLE IF NOT EXISTS batch_files (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    purpose TEXT NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,      -- bytes
    created_at REAL NOT NULL,   -- Unix seconds
    expires_at REAL NOT NULL
) STRICT
""",
    """
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    created_at REAL NOT NULL,   -- Unix seconds
    is_final INTEGER NOT NULL,
    body BLOB NOT NULL          -- JSON: types.Batch
) STRICT
""",
    "CREATE INDEX IF NOT EXISTS batch_files_of_tenants ON batch_files (tenant, created_at, id)",
    "CREATE INDEX IF NOT EXISTS batches_of_tenants ON batches (tenant, created_at, id)",
)
_FILE = "SELECT id, tenant, purpose, name, size, created_at, expires_at FROM batch_files"
_PUT_FILE = "INSERT OR REPLACE INTO batch_files VALUES (?, ?, ?, ?, ?, ?, ?)"
_PUT = "INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?, ?)"
# What was noted late must not bring back a batch that is forgotten, nor what is final.
_NOTE = "UPDATE batches SET body = ? WHERE id = ? AND is_final = 0"
_BODY = "SELECT body FROM batches"
_PLACE = "SELECT created_at, id FROM {table} WHERE tenant = ? AND id = ?"


class SqliteBatches:
    """Keeps the rows of files and batches. It is `ports.BatchStore`."""

    def __init__(self, database: SqliteDatabase, *, wall: Clock) -> None:
        self._database = database
        self._wall = wall
        database.write(_prepare)

    async def add_file(self, file: KeptFile) -> None:
        """Keep the row of a file."""
        await self._commit(lambda connection: connection.execute(_PUT_FILE, _row(file)))

    async def file(self, tenant: str, file_id: str) -> KeptFile | None:
        """Return a file of a tenant that has not expired."""
        where = (tenant, file_id, self._wall())
        rows = await self._read(f"{_FILE} WHERE tenant = ? AND id = ? AND expires_at > ?", *where)
        return _file(rows[0]) if rows else None

    async def files(
        self, tenant: str, after: str | None, limit: int, *, oldest_first: bool, purpose: FilePurpose | None
    ) -> list[KeptFile] | None:
        """Return the files of a tenant that come after one; None if there is no such one."""
        where, values, order = await self._page("batch_files", tenant, after, oldest_first=oldest_first)
        if where is None:
            return None
        where, values = f"{where} AND expires_at > ?", [*values, self._wall()]
        if purpose is not None:
            where, values = f"{where} AND purpose = ?", [*values, purpose.value]
        return [_file(row) for row in await self._read(f"{_FILE} {where} {order} LIMIT ?", *values, limit)]

    async def delete_file(self, tenant: str, file_id: str) -> KeptFile | None:
        """Delete the row of a file and return it; None if there is none."""

        def delete(connection: sqlite3.Connection) -> Any:
            where = (tenant, file_id)
            row = connection.execute(f"{_FILE} WHERE tenant = ? AND id = ?", where).fetchone()
            connection.execute("DELETE FROM batch_files WHERE tenant = ? AND id = ?", where)
            return row

        row = await self._commit(delete)
        return None if row is None else _file(row)

    async def all_files(self) -> list[KeptFile]:
        """Return the files of all tenants, expired ones too."""
        return [_file(row) for row in await self._scan(_FILE)]

    async def forget(self, now: float, batches_before: float, in_use: Collection[str]) -> list[KeptFile]:
        """Delete the rows of files that have expired and are not in use, and of old batches; return those files."""
        kept = frozenset(in_use)

        def forget(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            connection.execute("DELETE FROM batches WHERE is_final = 1 AND created_at <= ?", (batches_before,))
            expired = connection.execute(f"{_FILE} WHERE expires_at <= ?", (now,)).fetchall()
            found = [row for row in expired if row[0] not in kept]
            connection.executemany("DELETE FROM batch_files WHERE id = ?", [row[:1] for row in found])
            return found

        return [_file(row) for row in await self._commit(forget)]

    async def put(self, batch: Batch, files: Collection[KeptFile] = ()) -> None:
        """Keep how a batch stands, and files that it has made, in one transaction."""
        body = (batch.id, batch.tenant, batch.created_at, int(batch.status.is_final), msgspec.json.encode(batch))

        def put(connection: sqlite3.Connection) -> None:
            connection.execute(_PUT, body)
            for file in files:
                connection.execute(_PUT_FILE, _row(file))

        await self._commit(put)

    def note(self, batch: Batch) -> None:
        """Keep how far a batch is."""
        values = (msgspec.json.encode(batch), batch.id)
        self._database.write(lambda connection: connection.execute(_NOTE, values), NOTE_BYTES, droppable=True)

    async def batch(self, tenant: str, batch_id: str) -> Batch | None:
        """Return a batch of a tenant."""
        rows = await self._read("SELECT body FROM batches WHERE tenant = ? AND id = ?", tenant, batch_id)
        return _batch(rows[0][0]) if rows else None

    async def batches(self, tenant: str, after: str | None, limit: int) -> list[Batch] | None:
        """Return the batches of a tenant that come after one, the newest first; None if there is no such one."""
        where, values, order = await self._page("batches", tenant, after, oldest_first=False)
        if where is None:
            return None
        rows = await self._read(f"{_BODY} {where} {order} LIMIT ?", *values, limit)
        return [_batch(body) for (body,) in rows]

    async def unfinished(self) -> list[Batch]:
        """Return the batches of all tenants that are not final, the oldest first."""
        rows = await self._scan("SELECT body FROM batches WHERE is_final = 0 ORDER BY created_at, id")
        return [_batch(body) for (body,) in rows]

    async def written(self) -> None:
        """Return once all that was queued so far is committed. It waits for a full disk, too."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        if not self._database.write(lambda _: None, on_written=lambda: loop.call_soon_threadsafe(settle)):
            raise sqlite3.ProgrammingError("the database is closed")
        await done

    async def _page(
        self, table: str, tenant: str, after: str | None, *, oldest_first: bool
    ) -> tuple[str | None, list[Any], str]:
        """Return the condition of a page, its values, and the order. The condition is None if `after` is unknown."""
        order = "ORDER BY created_at, id" if oldest_first else "ORDER BY created_at DESC, id DESC"
        if after is None:
            return "WHERE tenant = ?", [tenant], order
        places = await self._read(_PLACE.format(table=table), tenant, after)
        if not places:
            return None, [], order
        compared = ">" if oldest_first else "<"
        return f"WHERE tenant = ? AND (created_at, id) {compared} (?, ?)", [tenant, *places[0]], order

    async def _read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = await _in_time(
            self._database.read(lambda connection: connection.execute(query, values).fetchall(), within_s=WITHIN_S)
        )
        return rows

    async def _commit(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        result: T = await _in_time(self._database.commit(operation, within_s=WITHIN_S))
        return result

    async def _scan(self, query: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = await self._database.scanned(
            lambda connection: connection.execute(query).fetchall(), within_s=SCAN_S
        )
        return rows


async def _in_time(answer: Any) -> Any:
    try:
        return await answer
    except (sqlite3.Error, TimeoutError) as error:
        message = "the disk of the server does not answer; try again"
        raise MillraceError("overloaded", message, retry_after_ms=1000) from error


def _prepare(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)


def _row(file: KeptFile) -> tuple[Any, ...]:
    return (file.id, file.tenant, file.purpose.value, file.name, file.size, file.created_at, file.expires_at)


def _file(row: tuple[Any, ...]) -> KeptFile:
    file_id, tenant, purpose, name, size, created_at, expires_at = row
    return KeptFile(
        id=file_id,
        tenant=tenant,
        purpose=FilePurpose(purpose),
        name=name,
        size=size,
        created_at=created_at,
        expires_at=expires_at,
    )


def _batch(body: bytes) -> Batch:
    return msgspec.json.decode(body, type=Batch)
