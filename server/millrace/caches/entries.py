"""The entries of both caches as an operator sees them: counted, searched, shown, deleted. All of it is on disk.

It works on the database of a running server and beside one, in its own process. What a deletion covers is never served
again from the moment that it is committed, or read by the server (`deletions.py`); its rows then go in steps.
"""

import asyncio
import sqlite3
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import numpy as np

from millrace.caches import deletions, exact, semantic
from millrace.caches.decision import Judge
from millrace.caches.deletions import Deletion
from millrace.ports import Clock, Database, Embedder, HitCounts
from millrace.types import (
    CachedEntry,
    CacheOutcome,
    Decision,
    Deleted,
    NearEntry,
    Served,
    StoredAnswer,
    TenantCache,
)

LOOK_S = 60.0  # for SQLite to read over all entries
COMMIT_S = 30.0  # for a step of a deletion to be on disk
STEP = 500  # rows that a step deletes, so that other writes wait for none of them long
CONSIDERED = 32  # nearest questions that the decision is asked about

_EXACT = "SELECT id, tenant, stored_at, size, answer FROM answers WHERE id = ?"
_SEMANTIC = (
    "SELECT id, tenant, scope, question, stored_at, length(question) + length(vector) + length(answer), answer"
    " FROM semantic_answers WHERE id = ?"
)
_EXACT_STATS = "SELECT tenant, count(*), sum(size), min(stored_at) FROM answers WHERE stored_at > ? GROUP BY tenant"
_SEMANTIC_STATS = """
SELECT tenant, count(*), sum(length(question) + length(vector) + length(answer)), count(DISTINCT scope), min(stored_at)
FROM semantic_answers WHERE stored_at > ? GROUP BY tenant
"""
_QUESTIONS = "SELECT id, tenant, scope, question, stored_at, vector FROM semantic_answers WHERE stored_at > ?"
_BATCH = 4096  # rows whose vectors are in memory at once


class CacheEntries:
    """What an operator asks of the caches and does to them."""

    def __init__(
        self,
        database: Database,
        judge: Judge,
        hits: HitCounts,
        heeded: Callable[[int], Awaitable[None]],  # returns once the deletion of a number is heeded wherever it must be
        *,
        ttl_s: float,
        wall: Clock,
    ) -> None:
        self._database = database
        self._judge = judge
        self._hits = hits
        self._heeded = heeded
        self._ttl_s = ttl_s
        self._wall = wall
        for prepare in (deletions.prepare, exact.prepare, semantic.prepare):
            database.write(prepare)

    async def stats(self, tenant: str | None = None) -> list[TenantCache]:
        """Return what the caches hold, and how often they have answered within the life of an entry, by tenant."""
        after = self._wall() - self._ttl_s
        found: dict[str, TenantCache] = {}
        for whose, count, size, oldest in await self._rows(_EXACT_STATS, after):
            found[whose] = TenantCache(tenant=whose, exact_entries=count, exact_bytes=size, oldest_at=oldest)
        for whose, count, size, scopes, oldest in await self._rows(_SEMANTIC_STATS, after):
            held = found.get(whose, TenantCache(tenant=whose, oldest_at=oldest))
            first = min(held.oldest_at or oldest, oldest)
            found[whose] = replace(held, semantic_entries=count, semantic_bytes=size, scopes=scopes, oldest_at=first)
        served = await self._hits.served(after, tenant)
        names = sorted(found.keys() | served.keys())
        every = [
            replace(found.get(name, TenantCache(tenant=name)), served=served.get(name, Served())) for name in names
        ]
        return [each for each in every if tenant in (None, each.tenant)]

    async def search(
        self, text: str, *, tenant: str | None = None, scope: bytes = b"", most: int = 10
    ) -> list[NearEntry]:
        """Return the stored questions nearest to a text: those that would be served first, then by cosine."""
        nearest = await asyncio.to_thread(self._nearest, text, tenant, scope)
        decisions = await self._judge.decide_all([(question, text) for _, _, _, question, _ in nearest])
        found = [
            NearEntry(
                id=id_, tenant=whose, scope=digest.hex(), question=question, stored_at=stored_at, decision=decision
            )
            for (id_, whose, digest, question, stored_at), decision in zip(nearest, decisions, strict=True)
        ]
        found.sort(key=lambda each: (each.decision.served, each.decision.cosine or 0.0), reverse=True)
        return found[:most]

    async def entry(self, entry_id: str, *, tenant: str | None = None) -> list[CachedEntry]:
        """Return an entry as each cache has it, the semantic cache's first; nothing if there is none."""
        hits = await self._hits.served_by(entry_id)
        found = [
            CachedEntry(
                id=id_,
                cache=CacheOutcome.SEMANTIC,
                tenant=whose,
                scope=digest.hex(),
                question=question,
                stored_at=stored_at,
                size=size,
                answer=msgspec.json.decode(answer, type=StoredAnswer),
                hits=hits,
            )
            for id_, whose, digest, question, stored_at, size, answer in await self._rows(_SEMANTIC, entry_id)
        ]
        found += [
            CachedEntry(
                id=id_,
                cache=CacheOutcome.EXACT,
                tenant=whose,
                stored_at=stored_at,
                size=size,
                answer=msgspec.json.decode(answer, type=StoredAnswer),
                hits=hits,
            )
            for id_, whose, stored_at, size, answer in await self._rows(_EXACT, entry_id)
        ]
        return [each for each in found if tenant in (None, each.tenant)]

    async def delete(self, entry_ids: Sequence[str], *, tenant: str | None = None) -> Deleted:
        """Delete entries from both caches, also those that are still to be written. None of them is served again."""
        now = self._wall()
        wanted = [Deletion(at=now, entry_id=each, tenant=tenant) for each in dict.fromkeys(entry_ids)]
        deleted: Deleted = await self._database.commit(partial(_delete, wanted), within_s=COMMIT_S)
        await self._heeded(deleted.number)
        return deleted

    async def flush(self, *, tenant: str | None = None, scope: bytes | None = None) -> Deleted:
        """Delete all that is stored until now, of one tenant or in one scope if these are given.

        In the exact cache a scope has the answers that are in the semantic cache too. Both go in steps, after which
        the deletion holds already.
        """
        deletion = Deletion(at=self._wall(), tenant=tenant, scope=scope)
        number = await self._database.commit(
            lambda connection: deletions.add(connection, [deletion]), within_s=COMMIT_S
        )
        await self._heeded(number)
        total = Deleted(exact=0, semantic=0, number=number)
        while True:
            step: Deleted = await self._database.commit(partial(_flush, deletion), within_s=COMMIT_S)
            total = replace(total, exact=total.exact + step.exact, semantic=total.semantic + step.semantic)
            if not (step.exact or step.semantic):
                return total

    async def count(self, *, tenant: str | None = None, scope: bytes | None = None) -> Deleted:
        """Return how many entries `flush` would delete."""
        where, values = _covered(Deletion(at=self._wall(), tenant=tenant, scope=scope))
        ((semantic_count,),) = await self._rows(f"SELECT count(*) FROM semantic_answers WHERE {where}", *values)  # noqa: S608
        held = f"id IN (SELECT id FROM semantic_answers WHERE {where})" if scope is not None else where  # noqa: S608
        ((exact_count,),) = await self._rows(f"SELECT count(*) FROM answers WHERE {held}", *values)  # noqa: S608
        return Deleted(exact=exact_count, semantic=semantic_count, number=0)

    async def why(self, stored: str, asked: str) -> Decision:
        """Return what the decision says of two questions."""
        return await self._judge.decide(stored, asked)

    async def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = await asyncio.to_thread(
            self._database.scan, lambda connection: connection.execute(query, values).fetchall(), within_s=LOOK_S
        )
        return rows

    def _nearest(self, text: str, tenant: str | None, scope: bytes) -> list[tuple[str, str, bytes, str, float]]:
        """Return id, tenant, scope, question and time of the stored questions whose vectors are nearest."""
        asked = self._judge.embedder.embed(text)
        query, values = _QUESTIONS, [self._wall() - self._ttl_s]
        conditions: list[Any] = []
        if tenant is not None:
            query += " AND tenant = ?"
            conditions.append(tenant)
        if scope:
            query += " AND substr(scope, 1, ?) = ?"
            conditions += [len(scope), scope]

        def read(connection: sqlite3.Connection) -> list[tuple[float, tuple[Any, ...]]]:
            best: list[tuple[float, tuple[Any, ...]]] = []
            rows = connection.execute(query, (*values, *conditions))
            while batch := rows.fetchmany(_BATCH):
                cosines = np.stack([_vector(self._judge.embedder, row[3], row[5]) for row in batch]) @ asked
                best += [(float(cosine), row[:5]) for cosine, row in zip(cosines, batch, strict=True)]
                best = sorted(best, key=lambda each: -each[0])[:CONSIDERED]
            return best

        return [row for _, row in self._database.scan(read, within_s=LOOK_S)]


def _vector(embedder: Embedder, question: str, blob: bytes) -> Any:
    """Return the vector of a row as `semantic` writes it; anew if another embedder made it."""
    mark, end = zlib.crc32(embedder.name.encode()).to_bytes(4), 4 + 2 * embedder.dimensions
    if blob.startswith(mark) and len(blob) >= end:
        return np.frombuffer(blob, np.float16, embedder.dimensions, 4).astype(np.float32)
    return embedder.embed(question)


def _delete(wanted: Sequence[Deletion], connection: sqlite3.Connection) -> Deleted:
    number = deletions.add(connection, wanted)
    counts = {"semantic_answers": 0, "answers": 0}
    for each in wanted:
        for table in counts:
            whose, values = ("", ()) if each.tenant is None else (" AND tenant = ?", (each.tenant,))
            deleted = connection.execute(f"DELETE FROM {table} WHERE id = ?{whose}", (each.entry_id, *values))  # noqa: S608
            counts[table] += deleted.rowcount
    return Deleted(exact=counts["answers"], semantic=counts["semantic_answers"], number=number)


def _flush(deletion: Deletion, connection: sqlite3.Connection) -> Deleted:
    """Delete some of the rows that a deletion covers."""
    where, values = _covered(deletion)
    ids = connection.execute(f"SELECT id FROM semantic_answers WHERE {where} LIMIT {STEP}", values).fetchall()  # noqa: S608
    connection.executemany("DELETE FROM semantic_answers WHERE id = ?", ids)
    if deletion.scope is not None:
        exact_count = connection.executemany("DELETE FROM answers WHERE id = ?", ids).rowcount if ids else 0
    else:
        keys = f"SELECT key FROM answers WHERE {where} LIMIT {STEP}"  # noqa: S608
        exact_count = connection.execute(f"DELETE FROM answers WHERE key IN ({keys})", values).rowcount  # noqa: S608
    return Deleted(exact=exact_count, semantic=len(ids), number=0)


def _covered(deletion: Deletion) -> tuple[str, list[Any]]:
    """Return the condition of the rows that a deletion covers, and its values. Only the semantic cache has scopes."""
    given = (("stored_at <= ?", deletion.at), ("tenant = ?", deletion.tenant), ("scope = ?", deletion.scope))
    wanted = [(condition, value) for condition, value in given if value is not None]
    return " AND ".join(condition for condition, _ in wanted), [value for _, value in wanted]
