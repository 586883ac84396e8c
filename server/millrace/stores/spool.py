"""Which rows of the ledger of a data_dir are still to be sent to PostgreSQL, as its SQLite knows.

What waits stays, however old it is. It is bounded by what it takes on the disk.
"""

import asyncio
import sqlite3
from typing import NamedTuple

from millrace import log
from millrace.ports import Clock
from millrace.stores.database import SqliteDatabase

LOOK_S, AGAIN_S = 1.0, 5.0  # between two looks; after one that failed
READ_S = 60.0
ROW_BYTES = 2500  # of a row on the disk, with its indexes, about
WARN_AT = 0.5  # of what may wait

_TABLE = "CREATE TABLE IF NOT EXISTS sent (number INTEGER NOT NULL) STRICT"
_BEGIN = "INSERT INTO sent SELECT 0 WHERE NOT EXISTS (SELECT * FROM sent)"
_FORGET = "DROP TABLE IF EXISTS sent"
_EXISTS = "SELECT 1 FROM sqlite_master WHERE name = 'sent'"
_SENT = "UPDATE sent SET number = ?"
_NUMBERS = "SELECT (SELECT number FROM sent), coalesce(max(rowid), 0) FROM entries"
_COUNT = "SELECT count(*) FROM entries WHERE rowid > ? AND rowid <= ? AND status != 'open'"
_OLDEST = """
SELECT opened_at + latency_ms / 1000 FROM entries WHERE rowid > ? AND rowid <= ? AND status != 'open'
ORDER BY rowid LIMIT 1
"""
# Condition of rows that have not arrived in PostgreSQL, as far as is known here.
UNSENT = "rowid > (SELECT number FROM sent)"


def prepare(connection: sqlite3.Connection) -> None:
    """Have rows wait from now on."""
    connection.execute(_TABLE)
    connection.execute(_BEGIN)


def forget(connection: sqlite3.Connection) -> None:
    """Have none wait any more: no PostgreSQL is configured."""
    connection.execute(_FORGET)


def has_unsent(connection: sqlite3.Connection) -> bool:
    """Whether rows may wait."""
    return connection.execute(_EXISTS).fetchone() is not None


def note_sent(number: int, connection: sqlite3.Connection) -> None:
    """Note the number of the last row that has arrived."""
    connection.execute(_SENT, (number,))


class _Seen(NamedTuple):
    """What waited at one look."""

    sent: int  # the number of the last row that has arrived
    top: int  # of the last row there was
    rows: int  # that waited
    oldest_at: float | None  # when the first of them ended, in Unix seconds


class Spool:
    """Counts the rows that wait, each second. `max_bytes` of the disk are what they may take."""

    def __init__(self, database: SqliteDatabase, max_bytes: int, wall: Clock) -> None:
        self.max_bytes = max_bytes
        self._database = database
        self._wall = wall
        self._seen: _Seen | None = None
        self._has_warned = False

    @property
    def rows(self) -> int:
        """The rows that wait."""
        return 0 if self._seen is None else self._seen.rows

    @property
    def bytes(self) -> int:
        """What they take on the disk, about."""
        return self.rows * ROW_BYTES

    @property
    def oldest_s(self) -> float:
        """For how many seconds the first of them has waited; 0 if none waits."""
        at = None if self._seen is None else self._seen.oldest_at
        return 0.0 if at is None else max(0.0, self._wall() - at)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no new request should be taken: no row may be lost."""
        return self.bytes >= self.max_bytes

    async def run(self) -> None:
        """Look each second, until cancelled."""
        while True:
            try:
                await self.look()
                pause = LOOK_S
            except (sqlite3.Error, TimeoutError) as error:
                log.get().debug("rows that wait for PostgreSQL were not counted", error=str(error))
                pause = AGAIN_S
            await asyncio.sleep(pause)

    async def look(self) -> None:
        """Count what waits. Raises `TimeoutError`."""
        before = self._seen
        self._seen = await self._database.scanned(lambda connection: _looked(before, connection), within_s=READ_S)
        share = self.bytes / self.max_bytes
        if share < WARN_AT / 2:
            self._has_warned = False
        elif share >= WARN_AT and not self._has_warned:
            self._has_warned = True
            log.get().warning(
                "rows of the ledger wait for PostgreSQL; where too many do, no new requests are taken",
                rows=self.rows,
                bytes=self.bytes,
                max_bytes=self.max_bytes,
            )


def _looked(before: _Seen | None, connection: sqlite3.Connection) -> _Seen:
    """Count by what has changed since the look before: to count all that waits each time would take too long."""
    ((sent, top),) = connection.execute(_NUMBERS).fetchall()
    sent = sent or 0
    if before is None or not before.sent <= sent < before.top <= top:
        rows = _count(connection, sent, top)
    else:
        rows = before.rows - _count(connection, before.sent, sent) + _count(connection, before.top, top)
    oldest = connection.execute(_OLDEST, (sent, top)).fetchone() if rows else None
    return _Seen(sent, top, rows, None if oldest is None else float(oldest[0]))


def _count(connection: sqlite3.Connection, after: int, through: int) -> int:
    return int(connection.execute(_COUNT, (after, through)).fetchone()[0]) if through > after else 0
