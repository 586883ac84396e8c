"""Stored responses in SQLite, by tenant and id. They expire by age and evict by size, oldest first."""

import sqlite3

import msgspec

from millrace.errors import MillraceError
from millrace.ports import Clock
from millrace.pruning import Pruner
from millrace.stores.database import SqliteDatabase
from millrace.types import Message, StoredResponse

LOOKUP_S = DELETE_S = 1.0  # for SQLite to answer a client that waits
RETRY_MS = 1000

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
            database.write, "responses", key="tenant, id", ttl_s=ttl_s, max_bytes=disk_bytes, wall=wall
        )
        self._queued: dict[tuple[str, str], tuple[bytes, bytes]] = {}  # not yet on disk: conversation and body
        database.write(_prepare)

    def store(self, response: StoredResponse) -> None:
        """Queue a response to be written; never waits. It can be found at once."""
        conversation = msgspec.json.encode(response.conversation)
        size = len(conversation) + len(response.body)
        row = (response.tenant, response.id, self._wall(), size, conversation, response.body)
        place = (response.tenant, response.id)
        self._queued[place] = (conversation, response.body)
        self._database.write(
            lambda connection: connection.execute(_PUT, row), size, on_written=lambda: self._queued.pop(place, None)
        )
        self._pruner.count(size)

    def prune(self) -> None:
        """Queue the deletion of what has expired, or is more than the disk may hold. Call it at a start."""
        self._pruner.prune()

    async def find(self, tenant: str, response_id: str) -> StoredResponse | None:
        """Return a response; None if there is none or its row cannot be decoded.

        Raises `overloaded` if the disk does not answer in time.
        """
        row = self._queued.get((tenant, response_id))
        if row is None:
            parameters = (tenant, response_id, self._wall() - self._ttl_s)
            try:
                row = await self._database.read(
                    lambda connection: connection.execute(_GET, parameters).fetchone(), within_s=LOOKUP_S
                )
            except (sqlite3.Error, TimeoutError) as error:
                raise _disk_is_late("the response was not read") from error
        return None if row is None else read_response(tenant, response_id, row)

    async def delete(self, tenant: str, response_id: str) -> bool:
        """Delete a response; False if there was none. It is committed when this returns.

        Raises `overloaded` if the disk cannot be written in time; then the response may be there still.
        """
        parameters = (tenant, response_id, self._wall() - self._ttl_s)
        try:
            deleted = await self._database.commit(
                lambda connection: connection.execute(_DELETE, parameters).rowcount, within_s=DELETE_S
            )
        except (sqlite3.Error, TimeoutError) as error:
            raise _disk_is_late("the response was not deleted") from error
        return bool(deleted)


def read_response(tenant: str, response_id: str, row: tuple[bytes, bytes]) -> StoredResponse | None:
    """Return the response of a row; None if another version wrote it, or it is damaged."""
    try:
        conversation = msgspec.json.decode(row[0], type=tuple[Message, ...])
    except msgspec.DecodeError:
        return None
    return StoredResponse(id=response_id, tenant=tenant, conversation=conversation, body=row[1])


def _disk_is_late(what: str) -> MillraceError:
    return MillraceError("overloaded", f"{what}, because the disk does not answer; try again", retry_after_ms=RETRY_MS)


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(_INDEX)
