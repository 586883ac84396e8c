"""Stored responses of all replicas in PostgreSQL. Each is written to its replica's SQLite first, and sent from there.

What was deleted stays in PostgreSQL for a while without its text, and whoever still has it deletes it too.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

from millrace import log
from millrace.errors import MillraceError
from millrace.ports import Clock
from millrace.pruning import Pruner
from millrace.stores.archive import LOOKUP_S, RETRY_MS, SqliteArchive, read_response
from millrace.stores.database import SqliteDatabase
from millrace.stores.postgres.connection import told
from millrace.stores.queries import Queries
from millrace.types import StoredResponse

EVERY_S = 0.25  # between two looks for what is to be sent
AGAIN_S = 1.0  # after a look that failed
DELETED_S = 2.0  # between two looks for what others have deleted
PAGE = 20  # responses that are sent at once; they may be large
READ_S, SEND_S = 10.0, 30.0

# What waits is a subset of what is stored, and so has its bound.
_LOCAL = (
    """
CREATE TRIGGER IF NOT EXISTS responses_to_send AFTER INSERT ON responses BEGIN
    INSERT OR IGNORE INTO responses_unsent VALUES (NEW.tenant, NEW.id);
END
""",
    """
CREATE TRIGGER IF NOT EXISTS responses_gone AFTER DELETE ON responses BEGIN
    DELETE FROM responses_unsent WHERE tenant = OLD.tenant AND id = OLD.id;
END
""",
)
_UNSENT = """
CREATE TABLE responses_unsent (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID
"""
_HAS_UNSENT = "SELECT 1 FROM sqlite_master WHERE name = 'responses_unsent'"
_ALL_UNSENT = "INSERT INTO responses_unsent SELECT tenant, id FROM responses"
_PAGE = """
SELECT tenant, id, stored_at, size, conversation, body FROM responses_unsent JOIN responses USING (tenant, id) LIMIT ?
"""
_SENT = "DELETE FROM responses_unsent WHERE tenant = ? AND id = ?"
_PUT = "INSERT INTO responses (tenant, id, stored_at, size, conversation, body) VALUES (?, ?, ?, ?, ?, ?)"
_PUT_NEW = f"{_PUT} ON CONFLICT DO NOTHING"
_EMPTY = (
    f"{_PUT} ON CONFLICT (tenant, id) DO UPDATE"
    " SET stored_at = excluded.stored_at, size = 0, conversation = excluded.conversation, body = excluded.body"
)
_GET = "SELECT size, conversation, body FROM responses WHERE tenant = ? AND id = ? AND stored_at > ?"
_SIZE = "SELECT size FROM responses WHERE tenant = ? AND id = ? AND stored_at > ? FOR UPDATE"
_DELETED = "SELECT tenant, id FROM responses WHERE size = 0 AND stored_at > ?"
_DELETE = "DELETE FROM responses WHERE tenant = ? AND id = ?"


class SharedArchive:
    """A `ports.Archive`. `own` keeps what this replica stores, in the `local` database."""

    def __init__(
        self,
        own: SqliteArchive,
        local: SqliteDatabase,
        remote: Queries,
        *,
        ttl_s: float,
        max_bytes: int,
        wall: Clock,
    ) -> None:
        self._own = own
        self._local = local
        self._remote = remote
        self.on_deleted: Callable[[str], object] = lambda _: None  # told the id of what was deleted, on the loop
        self._heeded: set[tuple[str, str]] = set()
        self._ttl_s = ttl_s
        self._wall = wall
        self._pruner = Pruner(remote.write, "responses", key="tenant, id", ttl_s=ttl_s, max_bytes=max_bytes, wall=wall)
        local.write(_prepare)

    def store(self, response: StoredResponse) -> None:
        """Store a response. Never waits; it is sent soon."""
        self._own.store(response)

    def prune(self) -> None:
        """Queue the deletion of what has expired, or is too much, here and in PostgreSQL."""
        self._own.prune()
        self._pruner.prune()

    async def find(self, tenant: str, response_id: str) -> StoredResponse | None:
        """Return a response that any replica has stored; None if there is none, or it is deleted.

        Raises `overloaded` if that is not known: PostgreSQL is away, and this replica does not have it.
        """
        values = (tenant, response_id, self._wall() - self._ttl_s)
        try:
            row = await self._remote.read(
                lambda connection: connection.execute(_GET, values).fetchone(), within_s=LOOKUP_S
            )
        except TimeoutError as error:
            found = await self._own.find(tenant, response_id)
            if found is None:
                raise _is_away("the response was not read") from error
            return found
        if row is None:
            return await self._own.find(tenant, response_id)
        size, *texts = row
        return read_response(tenant, response_id, (texts[0], texts[1])) if size else None

    async def delete(self, tenant: str, response_id: str) -> bool:
        """Delete a response; False if there was none. From now on no replica serves it. Raises `overloaded`."""
        is_here = await self._own.find(tenant, response_id) is not None
        empty = partial(_emptied, tenant, response_id, self._wall(), self._ttl_s, is_here)
        try:
            deleted: bool = await self._remote.commit(empty, within_s=LOOKUP_S)
        except TimeoutError as error:
            raise _is_away("the response was not deleted") from error
        if is_here:
            await self._own.delete(tenant, response_id)
        return deleted

    async def run(self) -> None:
        """Send what is stored, and delete what others have deleted, until cancelled."""
        looked_at = -DELETED_S
        while True:
            pause = EVERY_S
            try:
                if await self.send():
                    pause = 0.0
                now = asyncio.get_running_loop().time()
                if now - looked_at >= DELETED_S:
                    looked_at = now
                    await self.heed()
            except (sqlite3.Error, TimeoutError) as error:
                log.get().debug("responses were not sent", error=str(error))
                pause = AGAIN_S
            except Exception as error:  # one that PostgreSQL refuses stops all others, so it must be seen
                log.get().error("responses were not sent to PostgreSQL", error=told(error))
                pause = AGAIN_S
            await asyncio.sleep(pause)

    async def send(self) -> bool:
        """Send some of what waits; whether more may wait. Raises `TimeoutError`."""
        rows = await self._local.scanned(
            lambda connection: connection.execute(_PAGE, (PAGE,)).fetchall(), within_s=READ_S
        )
        if not rows:
            return False
        await self._remote.commit(lambda connection: connection.executemany(_PUT_NEW, rows), within_s=SEND_S)
        sent = [row[:2] for row in rows]
        await self._local.commit(lambda connection: connection.executemany(_SENT, sent), within_s=READ_S)
        for row in rows:
            self._pruner.count(row[3])
        return len(rows) == PAGE

    async def heed(self) -> None:
        """Delete here what others have deleted. Raises `TimeoutError`."""
        since = self._wall() - self._ttl_s
        gone: list[tuple[str, str]] = await self._remote.scanned(
            lambda connection: connection.execute(_DELETED, (since,)).fetchall(), within_s=READ_S
        )
        fresh = [place for place in gone if place not in self._heeded]
        if fresh:
            await self._local.commit(lambda connection: connection.executemany(_DELETE, fresh), within_s=READ_S)
        for _, response_id in fresh:
            self.on_deleted(response_id)
        self._heeded = set(gone)


def _emptied(tenant: str, response_id: str, now: float, ttl_s: float, is_here: bool, connection: Any) -> bool:  # noqa: FBT001
    """Take the text of a response away; whether there was one. It need not have arrived, if a replica has it."""
    row = connection.execute(_SIZE, (tenant, response_id, now - ttl_s)).fetchone()
    if row == (0,) or (row is None and not is_here):
        return False
    connection.execute(_EMPTY, (tenant, response_id, now, 0, b"", b""))
    return True


def _is_away(what: str) -> MillraceError:
    message = f"{what}, because PostgreSQL does not answer; try again"
    return MillraceError("overloaded", message, retry_after_ms=RETRY_MS)


def _prepare(connection: sqlite3.Connection) -> None:
    if connection.execute(_HAS_UNSENT).fetchone() is None:
        connection.execute(_UNSENT)
        connection.execute(_ALL_UNSENT)
    for statement in _LOCAL:
        connection.execute(statement)
