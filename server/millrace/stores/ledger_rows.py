"""Rows of the ledger as they are read: one, the latest, those after one; and what is deleted by hand.

The order is that in which requests have ended: every row that ends is the newest one, whichever process wrote it
(`ledger.py`), so who goes on from the number that was seen last misses none.
"""

import math
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from millrace.levers import BY_CACHE, NO_MODEL
from millrace.pricing import NANODOLLAR
from millrace.stores import spool
from millrace.stores.ledger_json import Call, read_calls, read_price, read_shape, read_story
from millrace.stores.queries import Dialect, Queries
from millrace.types import (
    EMBEDDINGS,
    NO_STORY,
    CacheOutcome,
    Charge,
    Entry,
    Selection,
    Source,
    Statement,
    Status,
    Tier,
    Usage,
)

READ_S = 60.0  # for SQLite to read some rows
STEP, STEP_S = 500, 60.0  # rows that are deleted at once, and the seconds that this may take

T = TypeVar("T")

_NAMES = (
    "request_id, tenant, opened_at, status, source, cache, strategy, failed_check, code, input_tokens,"
    " cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, estimated, cost_nanodollars,"
    " saved_nanodollars, ttft_ms, latency_ms, trimmed_tokens, key_id, session, entry_id, stored_id, end_user, tag,"
    " batch, baseline, story, shape, calls"
)
# Names of our own and question marks only, in all of them.
_ROWS = f"SELECT rowid, {_NAMES} FROM entries WHERE"  # noqa: S608
_TOP = "SELECT coalesce(max(rowid), 0) FROM entries"
# The newest row stays: else its number would be given once more, and who follows the rows would miss one.
STAYS = "status = 'open' OR rowid = (SELECT max(rowid) FROM entries)"
_OLD = f"opened_at < ? AND NOT ({STAYS} OR {{unsent}})"
_COUNT_OLD = f"SELECT count(*) FROM entries WHERE {_OLD}"  # noqa: S608
_DELETE_OLD = f"DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries WHERE {_OLD} LIMIT {STEP})"  # noqa: S608

# As `levers.model_of` has it.
_MODEL_SQLITE = f"""coalesce(
    (SELECT json_extract(value, '$.model') FROM json_each(calls)
        WHERE json_extract(value, '$.outcome') = 'answered' ORDER BY key LIMIT 1),
    (SELECT json_extract(value, '$.model') FROM json_each(calls) ORDER BY key DESC LIMIT 1),
    CASE cache WHEN 'miss' THEN '{NO_MODEL}' ELSE '{BY_CACHE}' END
) = ?"""  # noqa: S608 - names of our own
_MODEL: dict[Dialect, str] = {"sqlite": _MODEL_SQLITE, "postgres": "model_of(calls, cache) = ?"}


class LedgerRows:
    """Reads the rows of a ledger, in a server or beside it."""

    def __init__(self, database: Queries) -> None:
        self._database = database

    async def find(self, request_id: str, tenant: str | None = None) -> tuple[int, Entry] | None:
        """Return the number of a row and the row, open or not; None if there is none, or it is not of this tenant."""
        query = f"{_ROWS} request_id = ? AND tenant = coalesce(?, tenant)"
        rows = await self._scan(lambda connection: _entries(connection.execute(query, (request_id, tenant))))
        return rows[0] if rows else None

    async def beginning(self, text: str) -> list[Entry]:
        """Return up to two rows whose id begins so."""
        query = f"{_ROWS} request_id >= ? AND request_id < ? ORDER BY request_id LIMIT 2"
        values = (text, text + chr(0x10FFFF))
        rows = await self._scan(lambda connection: _entries(connection.execute(query, values)))
        return [entry for _, entry in rows]

    async def latest(self, selection: Selection, most: int, before: float = math.inf) -> tuple[list[Entry], int]:
        """Return the rows that have ended last, the latest first, and the number to go on from with `after`.

        `before`: only rows with lower numbers.
        """
        where, values = selected(selection, self._database.dialect)
        query = f"{_ROWS} {where} AND rowid < ? ORDER BY rowid DESC LIMIT ?"

        def read(connection: sqlite3.Connection) -> tuple[list[tuple[int, Entry]], int]:
            ((top,),) = connection.execute(_TOP).fetchall()
            return _entries(connection.execute(query, (*values, min(top + 1, before), most))), top

        rows, top = await self._scan(read)
        return [entry for _, entry in rows], top

    async def after(self, number: int, selection: Selection, most: int) -> tuple[list[Entry], int]:
        """Return rows that have ended since a number, in that order, and the number to go on from."""
        where, values = selected(selection, self._database.dialect)
        query = f"{_ROWS} {where} AND rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?"

        def read(connection: sqlite3.Connection) -> tuple[list[tuple[int, Entry]], int]:
            # The top comes first: an open row below it that ends between both reads gets a number above it.
            ((top,),) = connection.execute(_TOP).fetchall()
            return _entries(connection.execute(query, (*values, number, top, most))), top

        rows, top = await self._scan(read)
        return [entry for _, entry in rows], rows[-1][0] if len(rows) == most else top

    async def extent(self, selection: Selection) -> tuple[int, int]:
        """Return how many rows are selected, and a number after which they all are."""
        where, values = selected(selection, self._database.dialect)
        query = f"SELECT count(*), coalesce(min(rowid), 1) - 1 FROM entries WHERE {where}"  # noqa: S608
        count, number = await self._scan(lambda connection: connection.execute(query, values).fetchone())
        return count, number

    async def count_before(self, opened_before: float) -> int:
        """Return how many rows `delete_before` would delete."""
        (count,) = await self._scan(
            lambda connection: connection.execute(self._old(_COUNT_OLD, connection), (opened_before,)).fetchone()
        )
        return int(count)

    async def delete_before(self, opened_before: float) -> int:
        """Delete some of the rows that were opened before then (Unix seconds) and have ended; return how many.

        What waits to be sent to PostgreSQL stays. None are left once it returns 0. Raises `TimeoutError` if the disk is
        too slow, or locked.
        """
        deleted: int = await self._database.commit(
            lambda connection: connection.execute(self._old(_DELETE_OLD, connection), (opened_before,)).rowcount,
            within_s=STEP_S,
        )
        return deleted

    def _old(self, query: str, connection: sqlite3.Connection) -> str:
        """Return a query of what is old, without what waits to be sent to PostgreSQL."""
        waits = self._database.dialect == "sqlite" and spool.has_unsent(connection)
        return query.format(unsent=spool.UNSENT if waits else "false")

    async def _scan(self, read: Callable[[sqlite3.Connection], T]) -> T:
        found: T = await self._database.scanned(read, within_s=READ_S)
        return found


def selected(selection: Selection, dialect: Dialect = "sqlite") -> tuple[str, list[Any]]:
    """Return the condition and its values."""
    wanted = {
        "tenant = ?": selection.tenant,
        "end_user = ?": selection.user,
        "tag = ?": selection.tag,
        "status = ?": selection.status,
        "opened_at >= ?": selection.since,
        "opened_at < ?": selection.until,
        "coalesce(source, 'none') = ?": selection.source,
        "code = ?": selection.code,
        "strategy = ?": selection.strategy,
        _MODEL[dialect]: selection.model,
    }
    given = {condition: value for condition, value in wanted.items() if value is not None}
    return " AND ".join(("status != 'open'", *given)), list(given.values())


def _entries(rows: Iterable[tuple[Any, ...]]) -> list[tuple[int, Entry]]:
    """Return rows with their numbers. It takes some 0.1 ms a row, so it is done where they are read, off the loop."""
    return [(number, _entry(*row)) for number, *row in rows]


def _entry(*row: Any) -> Entry:
    named = dict(zip(_NAMES.replace(",", "").split(), row, strict=True))
    usage = Usage(
        input_tokens=named["input_tokens"],
        output_tokens=named["output_tokens"],
        cached_input_tokens=named["cached_input_tokens"],
        cache_write_tokens=named["cache_write_tokens"],
        reasoning_tokens=named["reasoning_tokens"],
        estimated=bool(named["estimated"]),
    )
    return Entry(
        request_id=named["request_id"],
        tenant=named["tenant"],
        opened_at=named["opened_at"],
        status=Status(named["status"]),
        source=Source(named["source"]) if named["source"] else None,
        cache=CacheOutcome(named["cache"]),
        strategy=named["strategy"],
        check=named["failed_check"],
        code=named["code"],
        statement=Statement(
            usage=usage,
            cost=named["cost_nanodollars"] * NANODOLLAR,
            saved=named["saved_nanodollars"] * NANODOLLAR,
            charges=tuple(map(_charge, read_calls(named["calls"]))),
            trimmed_tokens=named["trimmed_tokens"],
        ),
        ttft_ms=named["ttft_ms"],
        latency_ms=named["latency_ms"],
        trimmed_tokens=named["trimmed_tokens"],
        key_id=named["key_id"],
        session=named["session"],
        entry_id=named["entry_id"],
        stored_id=named["stored_id"],
        user=named["end_user"],
        tag=named["tag"],
        batch=named["batch"],
        baseline=read_price(named["baseline"]),
        story=read_story(named["story"]) or NO_STORY,
        shape=read_shape(named["shape"]),
        began_at=0.0,  # its calls have their times from then on
    )


def _charge(call: Call) -> Charge:
    lengths = (call.started_ms, call.ttft_ms, call.lasted_ms)
    began_at, first, lasted = (None if length is None else length / 1000 for length in lengths)
    return Charge(
        model=call.model,
        tier=EMBEDDINGS if call.tier == EMBEDDINGS else Tier(call.tier),
        usage=call.usage,
        cost=call.cost_nanodollars * NANODOLLAR,
        outcome=call.outcome,
        price=read_price(call.price),
        standard=read_price(call.standard),
        service_tier=call.service_tier,
        finish_word=call.finish_reason,
        deployment=call.deployment,
        began_at=began_at,
        spoke_at=None if began_at is None or first is None else began_at + first,
        ended_at=None if began_at is None or lasted is None else began_at + lasted,
    )
