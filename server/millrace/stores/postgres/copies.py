"""Copies what the SQLite of a data_dir keeps to PostgreSQL, page by page, and compares both at the end.

The ledger goes as the shipper sends it, so that a server on the data_dir goes on from there. Of each other table, a
page of rows and the key of its last one arrive in one transaction: whoever dies goes on after it. What is there already
stays, but for keys, of which a revocation holds.
"""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from millrace.stores.database import SqliteDatabase
from millrace.stores.keys import COLUMNS as KEYS, PUT_NEW
from millrace.stores.postgres.database import PostgresDatabase
from millrace.stores.postgres.shipper import Shipper

PAGE = 200  # rows
READ_S = WRITE_S = 120.0

Advance = Callable[[int], object]  # told how many rows more have arrived, or were compared


class Table(NamedTuple):
    """A table that is copied by its key. It has the same columns in both databases."""

    name: str
    key: tuple[str, ...]
    columns: str
    sum: str  # expression: what is added up to compare
    put: str = ""  # else: what is there stays

    @property
    def insert(self) -> str:
        """The statement that puts a row, which may be there."""
        marks = ", ".join("?" for _ in self.columns.split(","))
        return self.put or f"INSERT INTO {self.name} ({self.columns}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608

    def page(self, *, is_first: bool) -> str:
        """Return the query of the first page, or of the one after a key."""
        names, marks = ", ".join(self.key), ", ".join("?" for _ in self.key)
        where = "" if is_first else f" WHERE ({names}) > ({marks})"
        return f"SELECT {names}, {self.columns} FROM {self.name}{where} ORDER BY {names} LIMIT {PAGE}"  # noqa: S608


TABLES = (
    Table("keys", ("id",), KEYS, "rotations", PUT_NEW),
    Table("responses", ("tenant", "id"), "tenant, id, stored_at, size, conversation, body", "size"),
    Table(
        "judged",
        ("id",),
        "id, lever, tenant, scope, request_id, taken_at, probability, entry_id, asked_id, log_odds, features, detail,"
        " opinions, prompt_features",
        "length(features)",
    ),
    Table(
        "steering_changes",
        ("tenant", "scope", "at"),
        "at, tenant, scope, strictness, is_off, reason",
        "is_off",
    ),
    Table(
        "feedback",
        ("tenant", "response_id", "key_id"),
        "tenant, response_id, key_id, rating, has_better, at",
        "has_better",
    ),
    Table(
        "router_states",
        ("tenant", "number"),
        "tenant, number, revision, began_at, saved_at, format, labels, note, sha256, state",
        "labels",
    ),
    Table("router_frozen", ("tenant",), "tenant, at", "1"),
    Table("router_promises", ("id",), "id, saved_at, sha256, state", "1"),
)

LEDGER = "entries"
_BY_NAME = {table.name: table for table in TABLES}
# What was deleted from SQLite since it was sent is not compared.
_SUMS = (
    "count(*), coalesce(sum(cost_nanodollars), 0), coalesce(sum(saved_nanodollars), 0),"
    " coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), count(DISTINCT request_id)"
)
_SINCE = "SELECT coalesce(min(opened_at), 0) FROM entries WHERE status != 'open'"
_LOCAL = f"SELECT {_SUMS} FROM entries WHERE status != 'open'"  # noqa: S608 - names of our own
_REMOTE = f"SELECT {_SUMS} FROM entries WHERE spool = ? AND opened_at >= ?"  # noqa: S608
_ARRIVED = "SELECT count(*) FROM entries WHERE status != 'open' AND rowid <= ?"
_NUMBER = "SELECT number FROM spools WHERE id = ?"
_PLACE = "SELECT place FROM copies WHERE spool = ? AND name = ?"
_SET_PLACE = (
    "INSERT INTO copies (spool, name, place) VALUES (?, ?, ?)"
    " ON CONFLICT (spool, name) DO UPDATE SET place = excluded.place"
)
_FORGET = "DELETE FROM copies WHERE spool = ?"


class Compared(NamedTuple):
    """Rows of one table, and sums over them, in both databases."""

    name: str
    local: tuple[int, ...]  # the number of rows first
    remote: tuple[int, ...]

    @property
    def is_equal(self) -> bool:
        """Whether all is there, once."""
        return self.local == self.remote


class Copy:
    """The copy of one data_dir, on which no server runs. Everything raises `TimeoutError`, also if one is away."""

    def __init__(self, local: SqliteDatabase, remote: PostgresDatabase, spool: str, shipper: Shipper) -> None:
        self._local = local
        self._remote = remote
        self._spool = spool
        self._shipper = shipper

    async def rows(self) -> dict[str, int]:
        """Return how many rows each table has, the ledger first."""
        names = (LEDGER, *(table.name for table in TABLES))
        counted: dict[str, int] = await self._local.scanned(partial(_counted, names), within_s=READ_S)
        return counted

    async def copied(self, name: str, advance: Advance) -> None:
        """Copy one table."""
        if name == LEDGER:
            await self._ledger(advance)
        else:
            await self._table(_BY_NAME[name], advance)

    async def _ledger(self, advance: Advance) -> None:
        arrived = await self._remote.read(
            lambda connection: connection.execute(_NUMBER, (self._spool,)).fetchone(), within_s=READ_S
        )
        if arrived is not None:
            before = await self._local.scanned(
                lambda connection: connection.execute(_ARRIVED, arrived).fetchone()[0], within_s=READ_S
            )
            advance(before)
        while True:
            more = await self._shipper.send()
            advance(self._shipper.sent)
            if not more:
                return

    async def _table(self, table: Table, advance: Advance) -> None:
        place = await self._remote.read(
            lambda connection: connection.execute(_PLACE, (self._spool, table.name)).fetchone(), within_s=READ_S
        )
        after = None if place is None else msgspec.msgpack.decode(place[0], type=tuple[Any, ...])
        while rows := await self._page(table, after):
            after = rows[-1][: len(table.key)]
            await self._remote.commit(partial(_put, table, rows, self._spool), within_s=WRITE_S)
            advance(len(rows))

    async def compare(self, advance: Advance) -> list[Compared]:
        """Compare all tables. The next copy looks at all rows again, but those of the ledger that have arrived."""
        since = await self._local.scanned(lambda connection: connection.execute(_SINCE).fetchone()[0], within_s=READ_S)
        local = await self._local.scanned(lambda connection: connection.execute(_LOCAL).fetchone(), within_s=READ_S)
        remote = await self._remote.scanned(
            lambda connection: connection.execute(_REMOTE, (self._spool, since)).fetchone(), within_s=READ_S
        )
        advance(local[0])
        compared = [Compared(LEDGER, tuple(local), tuple(remote))]
        compared += [await self._compared(table, advance) for table in TABLES]
        await self._remote.commit(lambda connection: connection.execute(_FORGET, (self._spool,)), within_s=WRITE_S)
        return compared

    async def _compared(self, table: Table, advance: Advance) -> Compared:
        after: tuple[Any, ...] | None = None
        local, remote = [0, 0], [0, 0]
        while rows := await self._page(table, after):
            after = rows[-1][: len(table.key)]
            keys = [row[: len(table.key)] for row in rows]
            for sums, database in ((local, self._local), (remote, self._remote)):
                found = await database.scanned(partial(_summed, table, keys), within_s=READ_S)
                sums[:] = [before + more for before, more in zip(sums, found, strict=True)]
            advance(len(rows))
        return Compared(table.name, tuple(local), tuple(remote))

    async def _page(self, table: Table, after: tuple[Any, ...] | None) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = await self._local.scanned(partial(_page, table, after), within_s=READ_S)
        return rows


def _counted(names: Sequence[str], connection: sqlite3.Connection) -> dict[str, int]:
    counted = {}
    for name in names:
        ended = " WHERE status != 'open'" if name == LEDGER else ""
        counted[name] = connection.execute(f"SELECT count(*) FROM {name}{ended}").fetchone()[0]  # noqa: S608
    return counted


def _page(table: Table, after: tuple[Any, ...] | None, connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(table.page(is_first=after is None), after or ()).fetchall()


def _put(table: Table, rows: Sequence[tuple[Any, ...]], spool: str, connection: Any) -> None:
    width = len(table.key)
    connection.executemany(table.insert, [row[width:] for row in rows])
    connection.execute(_SET_PLACE, (spool, table.name, msgspec.msgpack.encode(rows[-1][:width])))


def _summed(table: Table, keys: Sequence[tuple[Any, ...]], connection: Any) -> tuple[int, ...]:
    """Return how many of these rows there are, and a sum over them."""
    marks = ", ".join("?" for _ in table.key)
    each = f"({marks})"
    query = (
        f"SELECT count(*), coalesce(sum({table.sum}), 0) FROM {table.name}"  # noqa: S608 - names of our own
        f" WHERE ({', '.join(table.key)}) IN (VALUES {', '.join(each for _ in keys)})"
    )
    found: tuple[int, ...] = connection.execute(query, [value for key in keys for value in key]).fetchone()
    return found
