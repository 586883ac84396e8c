"""The rows of the ledger as what they were: requests that have ended, read back for whoever looks at many of them."""

import sqlite3
from array import array
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from millrace import log
from millrace.stores.ledger_json import Call, read_calls, read_price, read_story
from millrace.stores.ledger_rows import selected
from millrace.stores.queries import Queries
from millrace.types import NO_STORY, CacheOutcome, Past, PastCall, Selection, Status, Usage

READ_S = 60.0  # for SQLite to read some rows, or to find which there are
_FOUND = "SELECT rowid FROM entries WHERE opened_at >= ? AND status != 'open'{} ORDER BY opened_at"
_SELECT = """
SELECT rowid, request_id, tenant, opened_at, status, source, cache, strategy, failed_check, code, input_tokens,
    cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, estimated, cost_nanodollars,
    saved_nanodollars, ttft_ms, latency_ms, trimmed_tokens, key_id, end_user, tag, stored_id, baseline, calls, {story}
FROM entries WHERE"""
_ROWS = f"{_SELECT} rowid IN ({{marks}})"
_AFTER = f"{_SELECT} rowid > ? AND rowid <= ? AND status != 'open' ORDER BY rowid LIMIT ?".format(story="story")
_SEARCHED = "SELECT rowid FROM entries WHERE status != 'open' AND rowid < ? ORDER BY rowid DESC LIMIT ?"
MAX = 2**63 - 1  # above all numbers of rows
_TOP = "SELECT coalesce(max(rowid), 0) FROM entries"
T = TypeVar("T")

_STATUS = {each.value: each for each in Status}
_CACHE = {each.value: each for each in CacheOutcome}


class SqlitePast:
    """Reads what has ended. Everything raises `TimeoutError` if the disk is too slow."""

    def __init__(self, database: Queries) -> None:
        self._database = database

    async def ended(self, since: float, tenant: str | None = None) -> Sequence[int]:
        """Return the numbers of the requests that were opened since then (Unix seconds), the oldest first."""
        whose = () if tenant is None else (tenant,)
        query = _FOUND.format(" AND tenant = ?" if whose else "")

        def numbers(connection: sqlite3.Connection) -> "array[int]":  # of a million, 8 MB
            return array("q", (row[0] for row in connection.execute(query, (since, *whose))))

        return await self._scan(numbers)

    async def read(self, numbers: Sequence[int], *, stories: bool = False) -> list[Past]:
        """Return the requests of these numbers in their order; without those that are gone meanwhile."""
        marks = ", ".join("?" * len(numbers))
        query = _ROWS.format(story="story" if stories else "''", marks=marks)

        def rows(connection: sqlite3.Connection) -> list[Past]:
            found = {row[0]: row for row in connection.execute(query, [*numbers])}
            return [_past(found[number]) for number in numbers if number in found]

        return await self._scan(rows)

    async def after(self, number: int, most: int) -> tuple[list[Past], int, int]:
        """Return requests that have ended since a number, in that order, with their stories.

        Then the number to go on from, and the highest one there is.
        """

        def rows(connection: sqlite3.Connection) -> tuple[list[Past], int, int]:
            # The top comes first: an open row below it that ends between both reads gets a number above it.
            ((top,),) = connection.execute(_TOP).fetchall()
            found = connection.execute(_AFTER, (number, top, most)).fetchall() if top > number else []
            return _readable(found), found[-1][0] if len(found) == most else top, top

        return await self._scan(rows)

    async def latest(self, selection: Selection, before: float, most: int, within: int) -> tuple[list[Past], int]:
        """Return requests below a number, the latest end first, among the next `within` ended ones of all tenants.

        Then the number below which to go on; 0 if there is nothing.
        """
        where, values = selected(selection, self._database.dialect)
        query = f"{_SELECT} rowid IN (SELECT rowid FROM entries WHERE {where} AND rowid < ? AND rowid >= ?"  # noqa: S608
        query = f"{query} ORDER BY rowid DESC LIMIT ?) ORDER BY rowid DESC".format(story="story")

        def rows(connection: sqlite3.Connection) -> tuple[list[Past], int]:
            searched = connection.execute(_SEARCHED, (min(before, MAX), within)).fetchall()
            least = searched[-1][0] if searched else 0
            found = connection.execute(query, (*values, min(before, MAX), least, most)).fetchall()
            return _readable(found), least if len(searched) == within else 0

        return await self._scan(rows)

    async def _scan(self, work: Callable[[sqlite3.Connection], T]) -> T:
        found: T = await self._database.scanned(work, within_s=READ_S)
        return found


def _readable(rows: Sequence[tuple[Any, ...]]) -> list[Past]:
    """Return rows, without those that are damaged or of a later version: one of them must not hide all others."""
    found = []
    for row in rows:
        try:
            found.append(_past(row))
        except (LookupError, ValueError, msgspec.MsgspecError) as error:
            log.get().warning("row not read", id=row[1], error=str(error))
    return found


def _past(row: tuple[Any, ...]) -> Past:
    (
        _,
        request_id,
        tenant,
        opened_at,
        status,
        source,
        cache,
        strategy,
        check,
        code,
        input_tokens,
        cached,
        written,
        output_tokens,
        reasoning_tokens,
        estimated,
        cost,
        saved,
        ttft_ms,
        latency_ms,
        trimmed_tokens,
        key_id,
        user,
        tag,
        stored_id,
        baseline,
        calls,
        story,
    ) = row
    return Past(
        request_id=request_id,
        tenant=tenant,
        opened_at=opened_at,
        status=_STATUS[status],
        source=source,
        cache=_CACHE[cache],
        strategy=strategy,
        code=code,
        check=check,
        usage=Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_input_tokens=cached,
            cache_write_tokens=written,
            reasoning_tokens=reasoning_tokens,
            estimated=bool(estimated),
        ),
        cost=cost,
        saved=saved,
        latency_ms=latency_ms,
        trimmed_tokens=trimmed_tokens,
        calls=[_call(each) for each in read_calls(calls)],
        baseline=read_price(baseline),
        key_id=key_id,
        user=user,
        tag=tag,
        stored_id=stored_id,
        ttft_ms=ttft_ms,
        story=read_story(story) or NO_STORY,
    )


def _call(call: Call) -> PastCall:
    return PastCall(
        model=call.model,
        tier=call.tier,
        usage=call.usage,
        cost=call.cost_nanodollars,
        outcome=call.outcome,
        price=read_price(call.price),
        standard=read_price(call.standard),
        service_tier=call.service_tier,
    )
