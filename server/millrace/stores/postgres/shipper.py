"""Sends the rows of the ledger that have ended from the SQLite of one data_dir to PostgreSQL, in order, each once.

SQLite is written first, as without PostgreSQL, so a row is safe before it is sent, and what cannot be sent yet waits on
the disk. A page of rows and the number of its last one arrive in one transaction: whoever dies in between, the next
page begins after the last row that has arrived.
"""

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from millrace import log
from millrace.ports import Clock
from millrace.stores.database import SqliteDatabase
from millrace.stores.ledger import COLUMNS, DAY_S
from millrace.stores.postgres.connection import Connection, told
from millrace.stores.postgres.database import PostgresDatabase
from millrace.stores.spool import note_sent, prepare

EVERY_S = 0.5  # between two looks, once all has arrived
AGAIN_S = 1.0  # after a look that failed
PAGE = 500  # rows that are sent at once
AHEAD_S = 3600.0  # before a day begins, its partition is made
READ_S, SEND_S = 60.0, 60.0
CLOSE_S = 2.0  # for the last rows of a process to arrive; what does not is sent at the next start

SENDS = 6_511_274_210  # of the advisory locks: who sends. Rows are numbered one sender after the other
_PAGE = (
    f"SELECT rowid, {COLUMNS} FROM entries WHERE rowid > ? AND rowid <= ? AND status != 'open' ORDER BY rowid LIMIT ?"  # noqa: S608
)
_TOP = "SELECT coalesce(max(rowid), 0) FROM entries"
_NAMES = COLUMNS.replace(" ", "").split(",")
_OPENED_AT = _NAMES.index("opened_at")
# All rows of a page in one statement, as JSON: that takes a third of the time of one statement for each.
_PUT = (
    f"INSERT INTO entries (rowid, day, spool, {COLUMNS})"  # noqa: S608 - names only
    f" SELECT nextval('entry_numbers'), day, ?, {COLUMNS} FROM ("
    " SELECT * FROM json_populate_recordset(NULL::entries, ?::json) WITH ORDINALITY ORDER BY ordinality) AS page"
    " ON CONFLICT (request_id, day) DO UPDATE SET rowid = excluded.rowid, "
    + ", ".join(f"{name} = excluded.{name}" for name in _NAMES if name not in ("request_id", "opened_at"))
)
_BEGIN = "INSERT INTO spools (id, number) VALUES (?, 0) ON CONFLICT (id) DO NOTHING"
_ARRIVED = "SELECT number FROM spools WHERE id = ?"
_ARRIVES = "UPDATE spools SET number = ? WHERE id = ?"
# Its name is that of the day, so that what is too old is dropped by name.
_PARTITION = "CREATE TABLE IF NOT EXISTS entries_{day} PARTITION OF entries FOR VALUES FROM ({day}) TO ({next})"


class Shipper:
    """Sends what a ledger has. `spool` is the id of the data_dir, which no other one has."""

    def __init__(self, local: SqliteDatabase, remote: PostgresDatabase, spool: str, wall: Clock) -> None:
        self.sent = 0  # rows of the last page
        self._local = local
        self._remote = remote
        self._spool = spool
        self._wall = wall
        self._arrived: int | None = None  # the number of the last row that has; None: not known
        local.write(prepare)

    async def run(self) -> None:
        """Send rows as they end, until cancelled; then what is left, for a moment."""
        try:
            while True:
                more = await self._sent()
                await asyncio.sleep(0 if more else EVERY_S)
        finally:
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self._local.ready()
                    while await self.send():
                        pass
            except (OSError, sqlite3.Error, TimeoutError):
                log.get().warning("rows of the ledger wait for the next start to reach PostgreSQL")

    async def _sent(self) -> bool:
        """Send a page; whether more may wait."""
        try:
            return await self.send()
        except (OSError, sqlite3.Error) as error:  # also late
            self._arrived = None
            log.get().debug("rows were not sent", error=str(error))
        except Exception as error:  # a row that PostgreSQL refuses stops all that come after it, so it must be seen
            self._arrived = None
            log.get().error("rows were not sent to PostgreSQL", error=told(error))
        await asyncio.sleep(AGAIN_S)
        return False

    async def send(self) -> bool:
        """Send the next page of rows; whether it was a whole one. Raises `PostgresAwayError` or `TimeoutError`."""
        if self._arrived is None:
            arrived: int = await self._remote.commit(partial(_begin, self._spool), within_s=SEND_S)
            self._note(arrived)
            self._arrived = arrived
        page: _Page = await self._local.scanned(partial(_page, self._arrived), within_s=READ_S)
        if page.rows:
            put = partial(_put, page.rows, self._spool, self._wall() + AHEAD_S)
            await self._remote.commit(put, within_s=SEND_S)
            self._note(page.last)
        self._arrived, self.sent = page.last, len(page.rows)
        return page.is_whole

    def _note(self, number: int) -> None:
        """Note on the disk that rows have arrived, which need not stay there. It may be noted late, never early."""
        self._local.write(partial(note_sent, number), droppable=True)


class _Page(NamedTuple):
    """Rows with their numbers, and the number to go on from."""

    rows: list[tuple[Any, ...]]
    last: int

    @property
    def is_whole(self) -> bool:
        """Whether there may be more."""
        return len(self.rows) == PAGE


def _page(number: int, connection: sqlite3.Connection) -> _Page:
    """Return the rows after a number."""
    # The top comes first: an open row below it that ends between both reads gets a number above it.
    ((top,),) = connection.execute(_TOP).fetchall()
    rows = connection.execute(_PAGE, (number, top, PAGE)).fetchall() if top > number else []
    return _Page(rows, rows[-1][0] if len(rows) == PAGE else max(top, number))


def _begin(spool: str, connection: Connection) -> int:
    connection.execute(_BEGIN, (spool,))
    return int(connection.execute(_ARRIVED, (spool,)).fetchall()[0][0])


def _put(rows: Sequence[tuple[Any, ...]], spool: str, until: float, connection: Connection) -> None:
    """Put rows that have not arrived. `until` (Unix seconds): the day for which there must be a place."""
    connection.execute("SELECT pg_advisory_xact_lock(?)", (SENDS,))
    ((arrived,),) = connection.execute(_ARRIVED, (spool,)).fetchall()
    fresh = [row for row in rows if row[0] > arrived]  # another process on the data_dir may have sent some
    if fresh:
        make_days(connection, {_day(until), *(_day(row[1 + _OPENED_AT]) for row in fresh)})
        named = [dict(zip(_NAMES, _texts(row[1:]), strict=True)) for row in fresh]
        page = [{"day": _day(row["opened_at"]), **row} for row in named]
        connection.execute(_PUT, (spool, msgspec.json.encode(page).decode()))
        connection.execute(_ARRIVES, (fresh[-1][0], spool))


def make_days(connection: Connection, days: Iterable[int]) -> None:
    """Make the partitions of the ledger that some days lack."""
    for day in days:
        (found,) = connection.execute("SELECT to_regclass(?)", (f"entries_{day}",)).fetchall()
        if found[0] is None:
            connection.execute(_PARTITION.format(day=day, next=day + 1))


def _day(at: float) -> int:
    return int(at // DAY_S)


def _texts(values: Iterable[Any]) -> Iterable[Any]:
    """Return values as PostgreSQL takes them: its texts have no NUL."""
    return (value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value for value in values)
