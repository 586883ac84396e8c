"""Rollups in SQLite: one row for each time, model, tenant and tag of which requests have ended.

Each cell is there three times: by tag, for the tenant, and for all. So what is looked at most is a few rows, however
many tags clients make up. Nothing of it needs the rows of the ledger once they are added, so it outlives them.
"""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from millrace.ports.rollups import Merge
from millrace.stores.queries import Queries
from millrace.types.rollup import Cell, CellName, Grouping, Part, Span, Window, forgotten_before

ADD_S, READ_S = 10.0, 30.0
TAGS = 200  # of one tenant and day that are told apart
OTHERS = "(others)"  # the tag of what comes beyond these
STEP = 500  # cells that are deleted at once
MOST = 100  # tags or tenants of one answer

_TABLES = (
    """
CREATE TABLE IF NOT EXISTS rollups (
    grouping TEXT NOT NULL,     -- tag, tenant or all
    span INTEGER NOT NULL,      -- seconds
    tenant TEXT NOT NULL,
    at INTEGER NOT NULL,        -- Unix seconds
    model TEXT NOT NULL,
    tag TEXT NOT NULL,
    requests INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    cost_nanodollars INTEGER NOT NULL,
    baseline_nanodollars INTEGER NOT NULL,
    sums BLOB NOT NULL,         -- MessagePack (accounts/dashboard/sums.py)
    PRIMARY KEY (grouping, span, tenant, at, model, tag)
) STRICT, WITHOUT ROWID
""",
    "CREATE INDEX IF NOT EXISTS rollups_by_age ON rollups (span, at)",
    """
CREATE TABLE IF NOT EXISTS rolled_up (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,   -- of the column `sums`
    number INTEGER NOT NULL     -- of the last row of the ledger that is in it
) STRICT
""",
)
_NAME = "grouping = ? AND span = ? AND tenant = ? AND at = ? AND model = ? AND tag = ?"
_FIND = f"SELECT sums FROM rollups WHERE {_NAME}"  # noqa: S608 - names of our own, as in all of these
_INSERT = "INSERT INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE = f"""
UPDATE rollups SET requests = requests + ?, errors = errors + ?, cost_nanodollars = cost_nanodollars + ?,
    baseline_nanodollars = baseline_nanodollars + ?, sums = ?
WHERE {_NAME}
"""  # noqa: S608
_DAY_TAGS = "SELECT DISTINCT tag FROM rollups WHERE grouping = 'tag' AND span = ? AND tenant = ? AND at = ?"
_STATE = "SELECT version, number FROM rolled_up"
_SET_STATE = (
    "INSERT INTO rolled_up VALUES (1, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET version = excluded.version, number = excluded.number"
)
_TOP = "SELECT coalesce(max(rowid), 0) FROM entries"
# All tenants, found one by one, so that the cells between them are not read.
_TENANTS = """tenant IN (
    WITH RECURSIVE found (name) AS (
        SELECT min(tenant) FROM rollups WHERE grouping = 'tenant' AND span = {span}
        UNION ALL SELECT (
            SELECT min(tenant) FROM rollups WHERE grouping = 'tenant' AND span = {span} AND tenant > found.name
        ) FROM found WHERE found.name IS NOT NULL
    ) SELECT name FROM found WHERE name IS NOT NULL
)"""
_PARTS = """
SELECT {name}, sum(requests), sum(errors), sum(cost_nanodollars), sum(baseline_nanodollars)
FROM rollups WHERE {where} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?
"""
_FORGET = f"""
DELETE FROM rollups WHERE (grouping, span, tenant, at, model, tag) IN (
    SELECT grouping, span, tenant, at, model, tag FROM rollups WHERE span = ? AND at < ? LIMIT {STEP}
)
"""  # noqa: S608

T = TypeVar("T")


class StoredRollups:
    """Made after the ledger, whose rows it adds up."""

    def __init__(self, database: Queries, *, tags: int = TAGS) -> None:
        self._database = database
        self._tags = tags
        self._version = 0
        self._is_forgetting = False
        database.prepare(_prepare)

    async def through(self, version: int) -> int:
        """Return the number of the last row that is in it; begin anew after another version."""
        self._version = version
        number: int = await self._database.commit(partial(_begun, version), within_s=ADD_S)
        return number

    async def add(self, cells: Sequence[Cell], after: int, through: int, merge: Merge) -> int:
        """Add cells, unless another process has added some of the same rows; return the number of the last row."""

        def add(connection: sqlite3.Connection) -> int:
            ((_, number),) = connection.execute(_STATE).fetchall()
            if number != after:
                return int(number)
            connection.execute("SAVEPOINT rolled")
            try:
                known: dict[tuple[str, int], set[str]] = {}
                for cell in cells:
                    _add(connection, self._placed(connection, cell.name, known), cell, merge)
                connection.execute(_SET_STATE, (self._version, through))
            except BaseException:  # also a cell that cannot be read: a part of them would be added once more
                # PostgreSQL undoes the whole transaction. SQLite itself has rolled back after some errors.
                if self._database.dialect == "sqlite" and connection.in_transaction:
                    connection.execute("ROLLBACK TO rolled")
                    connection.execute("RELEASE rolled")
                raise
            connection.execute("RELEASE rolled")
            return through

        added: int = await self._database.commit(add, within_s=ADD_S)
        return added

    async def cells(self, window: Window) -> list[tuple[int, str, bytes]]:
        """Return the cells of a window, whatever their model."""
        where, values = _where(window)
        query = f"SELECT at, model, sums FROM rollups WHERE {where}"  # noqa: S608
        return await self._scan(lambda connection: connection.execute(query, values).fetchall())

    async def tags(self, window: Window) -> list[Part]:
        """Return what the tags have, the most requests first, at most `MOST`."""
        return await self._parts("tag", window, Grouping.TAG)

    async def tenants(self, window: Window) -> list[Part]:
        """Return what the tenants have, the most requests first, at most `MOST`."""
        return await self._parts("tenant", window, Grouping.TENANT if window.tag is None else Grouping.TAG)

    def forget(self, now: float) -> None:
        """Queue the deletion of what is too old, in steps."""
        if not self._is_forgetting:
            self._is_forgetting = True
            self._forget(now)

    def _forget(self, now: float) -> None:
        left = 0

        def forget(connection: sqlite3.Connection) -> None:
            nonlocal left
            left = 0
            for span in Span:
                deleted = connection.execute(_FORGET, (span, int(forgotten_before(span, now)))).rowcount
                left = max(left, deleted)

        def on_written() -> None:
            self._is_forgetting = left == STEP
            if self._is_forgetting:
                self._forget(now)

        if not self._database.write(forget, droppable=True, on_written=on_written):
            self._is_forgetting = False

    async def _parts(self, name: str, window: Window, grouping: Grouping) -> list[Part]:
        where, values = _where(window if name == "tenant" else replace(window, tag=None), grouping)
        if window.model is not None:
            where, values = f"{where} AND model = ?", [*values, window.model]
        query = _PARTS.format(name=name, where=where)
        rows = await self._scan(lambda connection: connection.execute(query, (*values, MOST)).fetchall())
        return [Part(*row) for row in rows]

    def _placed(
        self, connection: sqlite3.Connection, name: CellName, known: dict[tuple[str, int], set[str]]
    ) -> CellName:
        """Return the name of a cell, under another tag where its tenant's day has too many."""
        if name.grouping is not Grouping.TAG or not name.tag:
            return name
        day = name.at // Span.DAY * Span.DAY
        tags = known.get((name.tenant, day))
        if tags is None:
            rows = connection.execute(_DAY_TAGS, (Span.DAY, name.tenant, day)).fetchall()
            tags = known[name.tenant, day] = {tag for (tag,) in rows}
        if name.tag in tags or len(tags - {OTHERS, ""}) < self._tags:
            tags.add(name.tag)
            return name
        return name._replace(tag=OTHERS)

    async def _scan(self, read: Callable[[sqlite3.Connection], list[T]]) -> list[T]:
        found: list[T] = await self._database.scanned(read, within_s=READ_S)
        return found


def _prepare(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)


def _begun(version: int, connection: sqlite3.Connection) -> int:
    rows = connection.execute(_STATE).fetchall()
    if not rows or rows[0][0] != version:
        connection.execute("DELETE FROM rollups")
        connection.execute(_SET_STATE, (version, 0))
        return 0
    ((top,),) = connection.execute(_TOP).fetchall()
    if rows[0][1] > top:  # the ledger was deleted
        connection.execute(_SET_STATE, (version, top))
    return min(int(rows[0][1]), int(top))


def _add(connection: sqlite3.Connection, name: CellName, cell: Cell, merge: Merge) -> None:
    key = (name.grouping.value, int(name.span), name.tenant, name.at, name.model, name.tag)
    numbers = (cell.requests, cell.errors, cell.cost, cell.baseline)
    before = connection.execute(_FIND, key).fetchone()
    if before is None:
        connection.execute(_INSERT, (*key, *numbers, cell.sums))
    else:
        connection.execute(_UPDATE, (*numbers, merge(before[0], cell.sums), *key))


def _where(window: Window, grouping: Grouping | None = None) -> tuple[str, list[Any]]:
    """Return the condition of a window and its values. By default the cells are those that are the fewest."""
    if grouping is None:
        fewest = Grouping.ALL if window.tenant is None else Grouping.TENANT
        grouping = fewest if window.tag is None else Grouping.TAG
    wanted: dict[str, Any] = {
        "grouping = ?": grouping.value,
        "span = ?": int(window.span),
        "at >= ?": window.since,
        "at < ?": window.until,
    }
    if window.tag is not None:
        wanted["tag = ?"] = window.tag
    if window.tenant is not None or grouping is Grouping.ALL:
        wanted["tenant = ?"] = window.tenant or ""
    else:
        return " AND ".join((*wanted, _TENANTS.format(span=int(window.span)))), [*wanted.values()]
    return " AND ".join(wanted), [*wanted.values()]
