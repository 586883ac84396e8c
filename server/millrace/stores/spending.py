"""What accounts have spent: a table of dollars by UTC day, kept by SQLite itself from the rows of the ledger.

Its triggers add the cost of a row when that is settled, or closed as killed. So it needs no code on the way of a
request, misses no process, and keeps what it knows when rows of the ledger are pruned.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct

from millrace.pricing import NANODOLLAR
from millrace.stores.accounts import DAY_S, Today
from millrace.stores.database import SqliteDatabase
from millrace.types.budget import AccountKind, AccountName, Spent

T = TypeVar("T")
SCAN_S = 60.0  # for SQLite to add up a month of many end users
READ_S = 5.0  # for it to add up what one account has spent
KEPT_DAYS = 400

# One row for each day and mixture of names.
_TABLE = """
CREATE TABLE IF NOT EXISTS spent (
    tenant TEXT NOT NULL,
    day INTEGER NOT NULL,             -- of UTC, since 1970, on which the requests were opened
    key_id TEXT NOT NULL,
    end_user TEXT NOT NULL,
    tag TEXT NOT NULL,
    nanodollars INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, key_id, end_user, tag)
) STRICT, WITHOUT ROWID
"""
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS spent_of_users ON spent (tenant, end_user, day) WHERE end_user != ''",
    "CREATE INDEX IF NOT EXISTS spent_of_tags ON spent (tenant, tag, day) WHERE tag != ''",
)
_DAY = f"CAST(new.opened_at / {DAY_S} AS INTEGER)"
_SAME = f"tenant = new.tenant AND day = {_DAY} AND key_id = new.key_id AND end_user = new.end_user AND tag = new.tag"
# No ON CONFLICT: the conflict clause of the statement that fires a trigger would take its place.
_ADD = f"""
    INSERT INTO spent SELECT new.tenant, {_DAY}, new.key_id, new.end_user, new.tag, 0
    WHERE NOT EXISTS (SELECT 1 FROM spent WHERE {_SAME});
    UPDATE spent SET nanodollars = nanodollars + new.cost_nanodollars WHERE {_SAME};
"""  # noqa: S608 - names of our own
_TRIGGERS = (
    f"""CREATE TRIGGER IF NOT EXISTS spent_by_settled AFTER INSERT ON entries
    WHEN new.status != 'open' AND new.cost_nanodollars > 0 BEGIN {_ADD} END""",
    f"""CREATE TRIGGER IF NOT EXISTS spent_by_killed AFTER UPDATE OF status ON entries
    WHEN old.status = 'open' AND new.status != 'open' AND new.cost_nanodollars > 0 BEGIN {_ADD} END""",
)
_FILL = f"""
INSERT INTO spent SELECT tenant, CAST(opened_at / {DAY_S} AS INTEGER), key_id, end_user, tag, sum(cost_nanodollars)
FROM entries WHERE status != 'open' AND cost_nanodollars > 0 GROUP BY 1, 2, 3, 4, 5
"""  # noqa: S608 - names of our own
OF = {  # of an account; its tenant is asked for too
    AccountKind.KEY: "key_id = ?",
    AccountKind.TENANT: "'' = ?",
    AccountKind.USER: "end_user = ? AND end_user != ''",
    AccountKind.TAG: "tag = ? AND tag != ''",
}
# What is open counts as well: of other processes that live at what it has cost so far, else at its highest.
_COST = "CASE WHEN status = 'open' AND epoch IN ({living}) THEN booked_nanodollars ELSE cost_nanodollars END"
_OPEN = f"""
SELECT coalesce(sum({_COST}), 0)
FROM entries INDEXED BY entries_open WHERE status = 'open' AND tenant = ? AND {{of}}
"""  # noqa: S608 - names of our own
_SPENT = """
SELECT coalesce(sum(CASE WHEN day >= ? THEN nanodollars END), 0), coalesce(sum(nanodollars), 0)
FROM spent {by} WHERE tenant = ? AND day >= ? AND {of}
"""
# Else SQLite would look at all that the tenant has spent in the month, for each of its users.
_BY = {AccountKind.USER: "INDEXED BY spent_of_users", AccountKind.TAG: "INDEXED BY spent_of_tags"}
_OTHERS = f"""
SELECT tenant, key_id, end_user, tag, sum({_COST})
FROM entries WHERE opened_at >= ? AND epoch IN ({{others}}) GROUP BY 1, 2, 3, 4
"""  # noqa: S608 - names of our own
_FIRST_OPEN = "SELECT min(opened_at) FROM entries WHERE status = 'open' AND epoch IN ({living})"
_ALL = """
SELECT tenant, key_id, end_user, tag, sum(CASE WHEN day >= ? THEN nanodollars ELSE 0 END), sum(nanodollars)
FROM spent WHERE day >= ? GROUP BY 1, 2, 3, 4
"""
_RESERVED = """
SELECT tenant, key_id, end_user, tag, sum(cost_nanodollars) FROM entries WHERE status = 'open' GROUP BY 1, 2, 3, 4
"""

Nanodollars = dict[AccountName, int]


class Snapshot(NamedTuple):
    """What was on the disk at one moment."""

    spent: dict[AccountName, Spent]  # by the accounts that were asked for
    others: Nanodollars  # by requests of other processes, of those that were opened lately


class Others(Struct, frozen=True):
    """Other processes on the same data_dir: those that lived when this one started, and those of them that still do."""

    all: frozenset[str] = frozenset()
    living: frozenset[str] = frozenset()
    since: float = 0.0  # all that they opened before it has ended, in Unix seconds


class SqliteSpending:
    """Reads what accounts have spent. Made after the ledger, whose rows it adds up."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        database.write(_prepare)

    async def first_open(self, living: Collection[str]) -> float | None:
        """Return when the oldest request that these processes have open was opened (Unix seconds), if there is one."""
        query = _FIRST_OPEN.format(living=_question_marks(living))
        rows = await self._scanned(lambda connection: connection.execute(query, (*living,)).fetchall())
        return None if rows[0][0] is None else float(rows[0][0])

    async def snapshot(self, names: Collection[AccountName], today: Today, others: Others) -> Snapshot:
        """Return what accounts have spent, and what other processes have spent lately.

        Both are of one moment, so that no dollar is counted twice, or never. What dead processes have left open counts
        at its highest cost, closed or not.
        """

        def read(connection: sqlite3.Connection) -> Snapshot:
            with _one_moment(connection):
                spent = {name: _spent(connection, name, today, others.living) for name in names}
                return Snapshot(spent, _of_others(connection, others) if others.all else {})

        return await self._scanned(read)

    async def written(self) -> None:
        """Wait until all rows that wait are on the disk."""
        await self._database.commit(lambda _: None, within_s=READ_S)

    async def all_spent(self, today: Today) -> tuple[dict[AccountName, Spent], Nanodollars]:
        """Return what each account has spent, and what running requests have reserved for each."""

        def read(connection: sqlite3.Connection) -> tuple[dict[AccountName, Spent], Nanodollars]:
            reserved: Nanodollars = {}
            with _one_moment(connection):
                spent = all_spent(connection, today)
                for *names, cost in connection.execute(_RESERVED):
                    for name in _accounts(*names):
                        reserved[name] = reserved.get(name, 0) + cost
            return spent, reserved

        return await self._scanned(read)

    def prune(self, today: Today) -> None:
        """Delete what no budget asks for any more."""
        oldest = day_of(today.day) - KEPT_DAYS
        self._database.write(lambda connection: connection.execute("DELETE FROM spent WHERE day < ?", (oldest,)))

    async def _scanned(self, read: Callable[[sqlite3.Connection], T]) -> T:
        found: T = await self._database.scanned(read, within_s=SCAN_S)
        return found


def _prepare(connection: sqlite3.Connection) -> None:
    is_new = not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'spent'").fetchall()
    connection.execute(_TABLE)
    for statement in (*_INDEXES, *_TRIGGERS):
        connection.execute(statement)
    if is_new:  # what an earlier version has written
        connection.execute(_FILL)


def all_spent(connection: Any, today: Today) -> dict[AccountName, Spent]:
    """Return what each account has spent, from the table of either database."""
    days: Nanodollars = {}
    months: Nanodollars = {}
    for *names, day, month in connection.execute(_ALL, (day_of(today.day), day_of(today.month))):
        for name in _accounts(*names):
            days[name] = days.get(name, 0) + day
            months[name] = months.get(name, 0) + month
    return {name: Spent(days[name] * NANODOLLAR, months[name] * NANODOLLAR) for name in months}


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """Have several queries see the same. The connection that writes is in a transaction of its own."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def _spent(connection: sqlite3.Connection, name: AccountName, today: Today, living: frozenset[str]) -> Spent:
    of, values = OF[name.kind], (name.tenant, name.name)
    query = _SPENT.format(of=of, by=_BY.get(name.kind, ""))
    days = day_of(today.day), name.tenant, day_of(today.month), name.name
    ((of_day, of_month),) = connection.execute(query, days)
    query = _OPEN.format(of=of, living=_question_marks(living))
    ((is_open,),) = connection.execute(query, (*living, *values))
    return Spent((of_day + is_open) * NANODOLLAR, (of_month + is_open) * NANODOLLAR)


def _of_others(connection: sqlite3.Connection, others: Others) -> Nanodollars:
    found: Nanodollars = {}
    query = _OTHERS.format(living=_question_marks(others.living), others=_question_marks(others.all))
    for *names, nanodollars in connection.execute(query, (*others.living, others.since, *others.all)):
        for name in _accounts(*names):
            found[name] = found.get(name, 0) + nanodollars
    return found


def _accounts(tenant: str, key_id: str, user: str, tag: str) -> Iterator[AccountName]:
    """Yield the accounts of a row."""
    yield AccountName(AccountKind.KEY, tenant, key_id)
    yield AccountName(AccountKind.TENANT, tenant)
    if user:
        yield AccountName(AccountKind.USER, tenant, user)
    if tag:
        yield AccountName(AccountKind.TAG, tenant, tag)


def day_of(seconds: float) -> int:
    """Return the number of a UTC day, since 1970."""
    return int(seconds // DAY_S)


def _question_marks(values: Collection[str]) -> str:
    return ", ".join("?" for _ in values)
