"""The ledger in SQLite: one row per request, money in whole nanodollars (1e-9 dollars)."""

import re
import sqlite3
import time
from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any

from millrace.ports import Clock
from millrace.pricing import NANODOLLAR
from millrace.pruning import Pruner
from millrace.stores import spool
from millrace.stores.bills import SCAN_S, Bills
from millrace.stores.database import SqliteDatabase
from millrace.stores.ledger_json import nanodollars, written_calls, written_price, written_shape, written_story
from millrace.stores.ledger_rows import STAYS, LedgerRows
from millrace.types import (
    EMBEDDINGS,
    EVIDENCE_TENANT,
    Answered,
    CacheOutcome,
    Entry,
    Status,
)

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
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    cost_nanodollars INTEGER NOT NULL,
    saved_nanodollars INTEGER NOT NULL,
    ttft_ms REAL,
    latency_ms REAL NOT NULL,
    trimmed_tokens INTEGER NOT NULL,  -- cut from the prompt
    key_id TEXT NOT NULL DEFAULT '',  -- whose limits it counts against; empty: none
    epoch TEXT NOT NULL DEFAULT '',   -- the process that it belongs to
    booked_nanodollars INTEGER NOT NULL DEFAULT 0,  -- what an open one has cost so far, if its process drains
    session TEXT NOT NULL DEFAULT '', -- of requests that belong together; empty: none, or of an earlier version
    entry_id TEXT NOT NULL DEFAULT '',-- of the stored answer that a cache gave; empty: none, or of an earlier version
    stored_id TEXT NOT NULL DEFAULT '',-- of the answer, if it may have gone into the caches
    end_user TEXT NOT NULL DEFAULT '',-- as the client names it
    tag TEXT NOT NULL DEFAULT '',     -- what its cost is put down to, as the client names it
    batch TEXT NOT NULL DEFAULT '',   -- the batch that it is a line of
    baseline TEXT NOT NULL DEFAULT '',-- JSON: the large model's price, when it began; empty: of an earlier version
    story TEXT NOT NULL DEFAULT '',   -- JSON: what each stage decided (types/story.py); empty: it has not ended
    shape TEXT NOT NULL DEFAULT '',   -- JSON: what the request looked like (types/story.py); empty: not known
    calls TEXT NOT NULL               -- JSON: the upstream calls, each with usage, cost and outcome
) STRICT
"""
_ADDED = {  # columns that tables of earlier versions lack
    "trimmed_tokens": "INTEGER NOT NULL DEFAULT 0",
    "cache_write_tokens": "INTEGER NOT NULL DEFAULT 0",
    "key_id": "TEXT NOT NULL DEFAULT ''",
    "epoch": "TEXT NOT NULL DEFAULT ''",
    "booked_nanodollars": "INTEGER NOT NULL DEFAULT 0",
    "session": "TEXT NOT NULL DEFAULT ''",
    "entry_id": "TEXT NOT NULL DEFAULT ''",
    "stored_id": "TEXT NOT NULL DEFAULT ''",
    "end_user": "TEXT NOT NULL DEFAULT ''",
    "tag": "TEXT NOT NULL DEFAULT ''",
    "batch": "TEXT NOT NULL DEFAULT ''",
    "baseline": "TEXT NOT NULL DEFAULT ''",
    "story": "TEXT NOT NULL DEFAULT ''",
    "shape": "TEXT NOT NULL DEFAULT ''",
}
_INDEXES = (
    "DROP INDEX IF EXISTS entries_of_keys",  # of earlier versions
    "CREATE INDEX IF NOT EXISTS entries_by_time ON entries (opened_at)",
    "CREATE INDEX IF NOT EXISTS entries_open ON entries (epoch) WHERE status = 'open'",
    "CREATE INDEX IF NOT EXISTS entries_of_answers ON entries (entry_id) WHERE entry_id != ''",
    "CREATE INDEX IF NOT EXISTS entries_of_batches ON entries (batch, opened_at) WHERE batch != ''",
    f"CREATE INDEX IF NOT EXISTS entries_of_evidence ON entries (opened_at) WHERE tenant = '{EVIDENCE_TENANT}'",
)
_ANSWERED = """
SELECT cache, entry_id, stored_id FROM entries
WHERE request_id = ? AND tenant = ? AND status != 'open' AND strategy != ?
"""
_BATCH_COST = """
SELECT coalesce(sum(cost_nanodollars), 0), coalesce(sum(saved_nanodollars), 0) FROM entries
WHERE batch = ? AND batch != ''
"""
_BATCHES_COST = """
SELECT coalesce(sum(cost_nanodollars), 0) FROM entries WHERE batch != '' AND opened_at >= ?
"""
COLUMNS = (
    "request_id, tenant, opened_at, status, source, cache, strategy, failed_check, code, input_tokens,"
    " cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, estimated, cost_nanodollars,"
    " saved_nanodollars, ttft_ms, latency_ms, trimmed_tokens, key_id, epoch, booked_nanodollars, session,"
    " entry_id, stored_id, end_user, tag, batch, baseline, story, shape, calls"
)
_KILLED = {"status": "'killed'", "estimated": "1", "saved_nanodollars": "-cost_nanodollars"}
_PLACEHOLDERS = ", ".join("?" for _ in COLUMNS.split(","))
_PUT = f"INSERT OR REPLACE INTO entries ({COLUMNS}) VALUES ({_PLACEHOLDERS})"  # noqa: S608 - names and question marks only
# Whatever ends becomes the newest row, so that who follows them misses none: a row that is replaced gets a new rowid.
_KILL = (
    f"INSERT OR REPLACE INTO entries ({COLUMNS})"  # noqa: S608 - names of our own
    f" SELECT {re.sub('|'.join(_KILLED), lambda name: _KILLED[name[0]], COLUMNS)}"
    " FROM entries WHERE status = 'open' AND epoch NOT IN ({living})"
)
_LOCK = "UPDATE entries SET status = status WHERE 0"  # changes nothing; from here on nobody else writes
ROW_BYTES = 1800  # of a row that waits to be written, about
ANSWERED_S = 2.0  # for SQLite to find one row, after all that waits
DAY_S = 86_400


class SqliteLedger:
    """Queues the entries of one process, the `epoch`, to be written. Only their progress may be dropped."""

    def __init__(
        self,
        database: SqliteDatabase,
        epoch: str = "",
        *,
        keep_days: int | None = None,
        wall: Clock = time.time,
        is_sent: bool = False,
    ) -> None:
        """`keep_days`: after so many days rows are deleted; None: not by this process.

        `is_sent`: all rows are sent to PostgreSQL, by what is made before this, and stay until they have arrived.
        """
        self.wants_progress = False  # set once another process may count what this one spends
        self.rows = LedgerRows(database)
        self.bills = Bills(database)
        self._database = database
        self._epoch = epoch
        self._pruner: Pruner | None = None
        if keep_days is not None:
            self._pruner = Pruner(
                database.write,
                "entries",
                key="request_id",
                since="opened_at",
                ttl_s=keep_days * DAY_S,
                wall=wall,
                stays=f"{STAYS} OR {spool.UNSENT}" if is_sent else STAYS,
            )
        database.write(_prepare)
        if keep_days is not None and not is_sent:
            database.write(spool.forget)

    def opened(self, entry: Entry) -> None:
        """Write an open row."""
        self._put(entry)

    def progressed(self, entry: Entry) -> None:
        """Write an open row again, with what it has cost so far."""
        self._put(entry, droppable=True)

    def settled(self, entry: Entry) -> None:
        """Write the settled row in place of the open one."""
        self._put(entry)
        if self._pruner is not None:
            self._pruner.count(0)

    def prune(self) -> None:
        """Queue the deletion of what is too old. Call it at a start."""
        if self._pruner is not None:
            self._pruner.prune()

    def close_left(self, living: Callable[[], Collection[str]]) -> None:
        """Close what dead processes left open as killed, at its highest cost.

        `living` returns the epochs of the others, as they are when nobody else can write: one that begins meanwhile
        has no row yet.
        """

        def close(connection: sqlite3.Connection) -> None:
            connection.execute(_LOCK)
            epochs = (self._epoch, *living()) if self._epoch else (*living(),)
            connection.execute(_KILL.format(living=_question_marks(epochs)), epochs)

        self._database.write(close)

    async def answered(self, tenant: str, response_id: str) -> Answered | None:
        """Return where the answer of a tenant's response came from, and where it went; None if none has ended.

        Looks after all that waits to be written. Raises `TimeoutError` if that takes too long.
        """
        values = (response_id, tenant, EMBEDDINGS)
        row = await self._database.commit(
            lambda connection: connection.execute(_ANSWERED, values).fetchone(), within_s=ANSWERED_S
        )
        if row is None:
            return None
        cache, *entry_ids = row
        return Answered(cache=CacheOutcome(cache), entry_ids=tuple(filter(None, entry_ids)))

    async def batch_cost(self, batch_id: str) -> tuple[Decimal, Decimal]:
        """Return what a batch has cost and saved, in dollars; what is open counts at its highest."""
        ((cost, saved),) = await self._scan(_BATCH_COST, batch_id)
        return cost * NANODOLLAR, saved * NANODOLLAR

    async def batches_cost(self, since: float) -> Decimal:
        """Return the dollars of all requests of batches that were opened since then (Unix seconds)."""
        ((cost,),) = await self._scan(_BATCHES_COST, since)
        return int(cost) * NANODOLLAR

    async def _scan(self, query: str, *values: float | str | None) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = await self._database.scanned(
            lambda connection: connection.execute(query, values).fetchall(), within_s=SCAN_S
        )
        return rows

    def _put(self, entry: Entry, *, droppable: bool = False) -> None:
        self._database.write(_Put(entry, self._epoch), ROW_BYTES, droppable=droppable)


class _Put:
    """Writes one row. It is encoded on the writer's thread, once, however often the write is tried."""

    __slots__ = ("_entry", "_epoch", "_row")

    def __init__(self, entry: Entry, epoch: str) -> None:
        self._entry: Entry | None = entry
        self._epoch = epoch
        self._row: tuple[Any, ...] = ()

    def __call__(self, connection: sqlite3.Connection) -> None:
        if self._entry is not None:
            self._row, self._entry = _row(self._entry, self._epoch), None
        connection.execute(_PUT, self._row)


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    columns = {row[1] for row in connection.execute("PRAGMA table_info(entries)")}
    for name, kind in _ADDED.items():
        if name not in columns:  # a table of an earlier version
            connection.execute(f"ALTER TABLE entries ADD COLUMN {name} {kind}")
    for index in _INDEXES:
        connection.execute(index)


def _question_marks(values: Collection[str]) -> str:
    return ", ".join("?" for _ in values)


def _row(entry: Entry, epoch: str) -> tuple[Any, ...]:
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
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        int(usage.estimated or any(charge.usage.estimated for charge in statement.charges)),
        nanodollars(statement.cost),
        nanodollars(statement.saved),
        entry.ttft_ms,
        entry.latency_ms,
        entry.trimmed_tokens,
        entry.key_id,
        epoch,
        nanodollars(entry.booked),
        entry.session,
        entry.entry_id,
        entry.stored_id,
        entry.user,
        entry.tag,
        entry.batch,
        written_price(entry.baseline),
        "" if entry.status is Status.OPEN else written_story(entry.story),
        written_shape(entry.shape),
        written_calls(statement.charges, entry.began_at),
    )
