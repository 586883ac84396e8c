"""The ledger in SQLite: one row per request, money in whole nanodollars (1e-9 dollars)."""

import json
import sqlite3
from decimal import Decimal
from typing import Any

from millrace.pricing import NANODOLLAR
from millrace.stores.database import SqliteDatabase
from millrace.types import Charge, Entry, Status

_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    request_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    opened_at REAL NOT NULL,          -- Unix seconds
    status TEXT NOT NULL,
    source TEXT,
    cache TEXT NOT NULL,
    strategy TEXT NOT NULL,
    failed_check TEXT,
    code TEXT,
    input_tokens INTEGER NOT NULL,    -- of the answer shown
    cached_input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    cost_nanodollars INTEGER NOT NULL,
    saved_nanodollars INTEGER NOT NULL,
    ttft_ms REAL,
    latency_ms REAL NOT NULL,
    trimmed_tokens INTEGER NOT NULL,  -- cut from the prompt
    key_id TEXT NOT NULL DEFAULT '',  -- whose limits it counts against; empty: none
    calls TEXT NOT NULL               -- JSON: the upstream calls, each with usage, cost and outcome
) STRICT
"""
_ADDED = {  # columns that tables of earlier versions lack
    "trimmed_tokens": "INTEGER NOT NULL DEFAULT 0",
    "key_id": "TEXT NOT NULL DEFAULT ''",
}
_BY_TIME = "CREATE INDEX IF NOT EXISTS entries_of_keys ON entries (opened_at) WHERE key_id != ''"
_SPENT = (
    "SELECT key_id, sum(cost_nanodollars) FROM entries WHERE key_id != '' AND opened_at >= ? AND status != ?"
    " GROUP BY key_id"
)
_COLUMNS = (
    "request_id, tenant, opened_at, status, source, cache, strategy, failed_check, code, input_tokens,"
    " cached_input_tokens, output_tokens, reasoning_tokens, estimated, cost_nanodollars, saved_nanodollars,"
    " ttft_ms, latency_ms, trimmed_tokens, key_id, calls"
)
_PLACEHOLDERS = ", ".join("?" for _ in _COLUMNS.split(","))
_PUT = f"INSERT OR REPLACE INTO entries ({_COLUMNS}) VALUES ({_PLACEHOLDERS})"  # noqa: S608 - names and question marks only
_KILL = "UPDATE entries SET status = ?, estimated = 1 WHERE status = ?"


class SqliteLedger:
    """Queues entries to be written. A start closes those that a crash left open as killed, at their highest cost."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        database.write(_prepare)

    def opened(self, entry: Entry) -> None:
        """Write an open row."""
        self._put(entry)

    def settled(self, entry: Entry) -> None:
        """Write the settled row in place of the open one."""
        self._put(entry)

    async def spent_since(self, opened_at: float) -> dict[str, Decimal]:
        """Return dollars by key, of all requests opened since `opened_at` (Unix seconds) that have ended."""
        rows: list[tuple[str, int]] = await self._database.read(
            lambda connection: connection.execute(_SPENT, (opened_at, Status.OPEN)).fetchall()
        )
        return {key_id: nanodollars * NANODOLLAR for key_id, nanodollars in rows}

    def _put(self, entry: Entry) -> None:
        self._database.write(lambda connection: connection.execute(_PUT, _row(entry)))


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    columns = {row[1] for row in connection.execute("PRAGMA table_info(entries)")}
    for name, kind in _ADDED.items():
        if name not in columns:  # a table of an earlier version
            connection.execute(f"ALTER TABLE entries ADD COLUMN {name} {kind}")
    connection.execute(_BY_TIME)
    connection.execute(_KILL, (Status.KILLED, Status.OPEN))


def _row(entry: Entry) -> tuple[Any, ...]:
    statement = entry.statement
    usage = statement.usage
    return (
        entry.request_id,
        entry.tenant,
        entry.opened_at,
        entry.status,
        entry.source,
        entry.cache,
        entry.strategy,
        entry.check,
        entry.code,
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        int(usage.estimated or any(charge.usage.estimated for charge in statement.charges)),
        _nanodollars(statement.cost),
        _nanodollars(statement.saved),
        entry.ttft_ms,
        entry.latency_ms,
        entry.trimmed_tokens,
        entry.key_id,
        json.dumps([_call(charge) for charge in statement.charges]),
    )


def _call(charge: Charge) -> dict[str, Any]:
    usage = charge.usage
    return {
        "model": charge.model,
        "tier": charge.tier,
        "outcome": charge.outcome,
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "estimated": usage.estimated,
        "cost_nanodollars": _nanodollars(charge.cost),
    }


def _nanodollars(dollars: Decimal) -> int:
    return int(dollars / NANODOLLAR)
