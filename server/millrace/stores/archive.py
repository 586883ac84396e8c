"""Stored responses in SQLite, by tenant and id. They expire by age and evict by size, oldest first."""

import sqlite3

import msgspec

from millrace.ports import Clock
from millrace.pruning import Pruner
from millrace.stores.database import SqliteDatabase
from millrace.types import Message, StoredResponse

_TABLE = """
CREATE TABLE IF NOT EXISTS responses (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    stored_at REAL NOT NULL,          -- Unix seconds
    size INTEGER NOT NULL,            -- bytes
    conversation BLOB NOT NULL,       -- JSON: the messages, the answer last
    body BLOB NOT NULL,               -- JSON: the response
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID
"""
_INDEX = "CREATE INDEX IF NOT EXISTS responses_stored ON responses (stored_at, size)"
_PUT = "INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?)"
_GET = "SELECT conversation, body FROM responses WHERE tenant = ? AND id = ? AND stored_at > ?"
_DELETE = "DELETE FROM responses WHERE tenant = ? AND id = ? AND stored_at > ?"


class SqliteArchive:
    """Keeps responses for `ttl_s` seconds, and at most `disk_bytes` of them."""

    def __init__(self, database: SqliteDatabase, *, ttl_s: float, disk_bytes: int, wall: Clock) -> None:
        self._database = database
        self._ttl_s = ttl_s
        self._wall = wall
        self._pruner = Pruner(
            "responses", key="tenant, id", order="stored_at DESC, id", ttl_s=ttl_s, max_bytes=disk_bytes, wall=wall
        )
        database.write(_prepare)
        database.write(self._pruner.prune)

    def store(self, response: StoredResponse) -> None:
        """Queue a response to be written; never waits."""
        conversation = msgspec.json.encode(response.conversation)
        size = len(conversation) + len(response.body)
        row = (response.tenant, response.id, self._wall(), size, conversation, response.body)
        self._database.write(lambda connection: connection.execute(_PUT, row))
        if self._pruner.is_due():
            self._database.write(self._pruner.prune)

    async def find(self, tenant: str, response_id: str) -> StoredResponse | None:
        """Return a response; None if there is none or its row cannot be decoded."""
        parameters = (tenant, response_id, self._wall() - self._ttl_s)
        row = await self._database.read(lambda connection: connection.execute(_GET, parameters).fetchone())
        if row is None:
            return None
        try:
            conversation = msgspec.json.decode(row[0], type=tuple[Message, ...])
        except msgspec.DecodeError:  # written by another version, or damaged
            return None
        return StoredResponse(id=response_id, tenant=tenant, conversation=conversation, body=row[1])

    async def delete(self, tenant: str, response_id: str) -> bool:
        """Delete a response; False if there was none."""
        parameters = (tenant, response_id, self._wall() - self._ttl_s)
        return bool(await self._database.read(lambda connection: connection.execute(_DELETE, parameters).rowcount))


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(_INDEX)
