"""What an operator asks of both caches and does to them: counted, searched, shown, deleted. All of it is on disk.

It works on the database of a running server and beside one, in a process of its own. What is deleted is served by
nobody from the moment that all processes heed it (`deletions.py`); its rows then go in steps.

An answer has an id of its own, which is that of its row in the exact cache. In the semantic cache it stands under the
id of its question. It goes from both.
"""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from millrace.caches import deletions, exact, snapshots, table
from millrace.caches.deletions import Deletion
from millrace.caches.pairs import PairJudge
from millrace.ports import Clock, Database, HitCounts
from millrace.types import (
    CacheOutcome,
    Decision,
    Deleted,
    KeptAnswer,
    NearEntry,
    Served,
    StoredAnswer,
    TenantCache,
)

LOOK_S = 60.0  # for SQLite to read over all entries
COMMIT_S = 30.0  # for a step of a deletion to be on disk
STEP = 500  # rows that a step deletes, so that other writes wait for none of them long
CONSIDERED = 32  # nearest questions that the decision is asked about
BATCH = 4096  # rows that are read at once; other scans, as of a scope that is asked, run in between

_EXACT = "SELECT tenant, stored_at, size, answer FROM answers WHERE id = ? AND stored_at > ?"
_SEMANTIC = (
    "SELECT tenant, stored_at, size, answer, id, scope, question FROM semantic_entries WHERE {} AND stored_at > ?"
)
_BY_ID, _BY_ANSWER = "id = ?", "instr(answer, CAST(? AS BLOB))"
_EXACT_STATS = "SELECT tenant, count(*), sum(size), min(stored_at) FROM answers WHERE stored_at > ? GROUP BY tenant"
_SEMANTIC_STATS = """
SELECT tenant, count(*), sum(size), count(DISTINCT scope), min(stored_at) FROM semantic_entries WHERE stored_at > ?
GROUP BY tenant
"""
_QUESTIONS = """
SELECT id, tenant, scope, question, stored_at, mark, vector FROM semantic_entries
WHERE rowid IN (SELECT value FROM json_each(?))
"""


class CacheEntries:
    """Implements `ports.CacheControl`."""

    def __init__(
        self,
        database: Database,
        judge: PairJudge,
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
        for prepare in (deletions.prepare, exact.prepare, table.prepare):
            database.write(prepare)

    def renew(self, ttl_s: float, threshold: float | None) -> None:
        """Look at entries of so long, and decide from this probability on, as the caches do."""
        self._ttl_s = ttl_s
        self._judge.decide_by(threshold)

    async def stats(self, tenant: str | None = None) -> list[TenantCache]:
        """Return what the caches hold, and how often they have answered within the life of an entry, by tenant."""
        found: dict[str, TenantCache] = {}
        for whose, count, size, oldest in await self._rows(_EXACT_STATS, self._fresh_after):
            found[whose] = TenantCache(tenant=whose, exact_entries=count, exact_bytes=size, oldest_at=oldest)
        for whose, count, size, scopes, oldest in await self._rows(_SEMANTIC_STATS, self._fresh_after):
            held = found.get(whose, TenantCache(tenant=whose, oldest_at=oldest))
            first = min(held.oldest_at or oldest, oldest)
            found[whose] = replace(held, semantic_entries=count, semantic_bytes=size, scopes=scopes, oldest_at=first)
        served = await self._hits.served(self._fresh_after, tenant)
        names = sorted(found.keys() | served.keys())
        every = [
            replace(found.get(name, TenantCache(tenant=name)), served=served.get(name, Served())) for name in names
        ]
        return [each for each in every if tenant in (None, each.tenant)]

    async def search(
        self, text: str, *, tenant: str | None = None, scope: bytes = b"", most: int = 10
    ) -> list[NearEntry]:
        """Return the stored questions nearest to a text: those that would be served first, then by cosine."""
        await self._judge.prepare([text])
        nearest = await asyncio.to_thread(self._nearest, text, tenant, scope)
        decisions = await self._judge.decide_all([(question, text) for _, _, _, question, _ in nearest])
        found = [
            NearEntry(id=id_, tenant=whose, scope=where, question=question, stored_at=stored_at, decision=decision)
            for (id_, whose, where, question, stored_at), decision in zip(nearest, decisions, strict=True)
        ]
        found.sort(key=lambda each: (each.decision.served, each.decision.cosine or 0.0), reverse=True)
        return found[:most]

    async def entry(self, entry_id: str, *, tenant: str | None = None) -> KeptAnswer | None:
        """Return a stored answer by its id in either cache; None if there is none."""
        semantic = [row for row in await self._semantic(entry_id) if tenant in (None, row[0])]
        answer_id = _decoded(semantic[0][3]).id if semantic else entry_id
        exact_rows = await self._rows(_EXACT, answer_id, self._fresh_after)
        rows = [*semantic, *(row for row in exact_rows if tenant in (None, row[0]))]
        if not rows:
            return None
        ids = (*(row[4] for row in semantic), *([answer_id] if len(rows) > len(semantic) else ()))
        return KeptAnswer(
            ids=ids,
            caches=(CacheOutcome.SEMANTIC,) * len(semantic) + (CacheOutcome.EXACT,) * (len(rows) - len(semantic)),
            tenant=rows[0][0],
            scope=semantic[0][5] if semantic else b"",
            question=semantic[0][6] if semantic else "",
            stored_at=rows[0][1],
            size=sum(row[2] for row in rows),
            answer=_decoded(rows[0][3]),
            hits=sum([await self._hits.served_by(each) for each in ids]),
        )

    async def delete(self, entry_ids: Sequence[str], *, tenant: str | None = None) -> Deleted:
        """Delete answers from both caches, also those that are still to be written. None of them is served again."""
        await self._database.commit(lambda _: None, within_s=COMMIT_S)  # what is on its way to the disk can be found
        now = self._wall()
        wanted: dict[str, bytes | None] = dict.fromkeys(entry_ids)  # the scope of each, if it is known
        for entry_id in entry_ids:
            for whose, _, _, answer, id_, scope, _ in await self._semantic(entry_id):
                if tenant in (None, whose):
                    wanted |= {id_: scope, _decoded(answer).id or id_: scope}
        made = [Deletion(at=now, entry_id=each, tenant=tenant, scope=scope) for each, scope in wanted.items()]
        deleted: Deleted = await self._database.commit(partial(_delete, made), within_s=COMMIT_S)
        await self._heeded(deleted.number)
        return deleted

    async def flush(self, *, tenant: str | None = None, scope: bytes | None = None) -> Deleted:
        """Delete all that is stored until now, of one tenant or in one scope if these are given.

        In the exact cache a scope has the answers that are in the semantic cache too.
        """
        made = Deletion(at=self._wall(), tenant=tenant, scope=scope)
        total = Deleted(exact=0, semantic=0, number=await self._announced(made))
        while True:
            step: Deleted = await self._database.commit(partial(_flush, made), within_s=COMMIT_S)
            total = replace(total, exact=total.exact + step.exact, semantic=total.semantic + step.semantic)
            if not (step.exact or step.semantic):
                break
        if scope is not None:  # the exact cache knows no scopes: what it has read meanwhile leaves its memory
            await self._announced(made)
        return total

    async def count(self, *, tenant: str | None = None, scope: bytes | None = None) -> Deleted:
        """Return how many answers each cache has of a tenant or in a scope, for `flush` to delete."""
        where, values = _covered(Deletion(at=self._wall(), tenant=tenant, scope=scope))
        ((semantic,),) = await self._rows(f"SELECT count(*) FROM semantic_entries WHERE {where}", *values)  # noqa: S608
        if scope is not None:
            rows = await self._rows(f"SELECT answer FROM semantic_entries WHERE {where}", *values)  # noqa: S608
            held = [await self._rows(_EXACT, _decoded(answer).id, 0.0) for (answer,) in rows]
            return Deleted(exact=sum(map(len, held)), semantic=semantic, number=0)
        ((exact_count,),) = await self._rows(f"SELECT count(*) FROM answers WHERE {where}", *values)  # noqa: S608
        return Deleted(exact=exact_count, semantic=semantic, number=0)

    async def why(self, stored: str, asked: str) -> Decision:
        """Return what the decision says of two questions."""
        return await self._judge.decide(stored, asked)

    @property
    def _fresh_after(self) -> float:
        return self._wall() - self._ttl_s

    async def _announced(self, made: Deletion) -> int:
        """Write a deletion, and return its number once it is heeded."""
        number: int = await self._database.commit(partial(deletions.add, deletions=[made]), within_s=COMMIT_S)
        await self._heeded(number)
        return number

    async def _semantic(self, entry_id: str) -> list[tuple[Any, ...]]:
        """Return the rows of an id: of a question, or of the answer in it, for which all of them are looked at."""
        rows = await self._rows(_SEMANTIC.format(_BY_ID), entry_id, self._fresh_after)
        if rows or entry_id.startswith(snapshots.PREFIX):
            return rows
        return await self._rows(_SEMANTIC.format(_BY_ANSWER), f'"id":"{entry_id}"', self._fresh_after)

    async def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return await asyncio.to_thread(self._scan, query, *values)

    def _scan(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return rows. Blocks."""
        rows: list[tuple[Any, ...]] = self._database.scan(
            lambda connection: connection.execute(query, values).fetchall(), within_s=LOOK_S
        )
        return rows

    def _nearest(self, text: str, tenant: str | None, scope: bytes) -> list[tuple[str, str, bytes, str, float]]:
        """Return id, tenant, scope, question and time of the stored questions whose vectors are nearest. Blocks."""
        asked = self._judge.embedder.embed(text)
        given: list[tuple[str, tuple[Any, ...]]] = [("stored_at > ?", (self._fresh_after,))]
        given += [("tenant = ?", (tenant,))] if tenant is not None else []
        given += [("substr(scope, 1, ?) = ?", (len(scope), scope))] if scope else []
        where = " AND ".join(condition for condition, _ in given)
        values = [value for _, those in given for value in those]
        numbers = [number for (number,) in self._scan(f"SELECT rowid FROM semantic_entries WHERE {where}", *values)]  # noqa: S608
        best: list[tuple[float, tuple[Any, ...]]] = []
        for begin in range(0, len(numbers), BATCH):
            batch = self._scan(_QUESTIONS, json.dumps(numbers[begin : begin + BATCH]))
            near = (float(vector @ asked) for vector in self._vectors(batch))
            best += [(cosine, row[:5]) for cosine, row in zip(near, batch, strict=True)]
            best = sorted(best, key=lambda each: -each[0])[:CONSIDERED]
        return [row for _, row in best]

    def _vectors(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield the vector of each row; anew if another embedder has made it, or none where that takes a call."""
        embedder, mark = self._judge.embedder, table.mark_of(self._judge.embedder.name)
        for *_, question, _, made_by, blob in rows:
            if made_by == mark and len(blob) >= 2 * embedder.dimensions:
                yield np.frombuffer(blob, np.float16, embedder.dimensions).astype(np.float32)
            else:
                yield embedder.embed(question) if embedder.quick else np.zeros(embedder.dimensions, np.float32)


def _decoded(answer: bytes) -> StoredAnswer:
    return msgspec.json.decode(answer, type=StoredAnswer)


def _delete(made: Sequence[Deletion], connection: sqlite3.Connection) -> Deleted:
    number = deletions.add(connection, made)
    counts = {"semantic_entries": 0, "answers": 0}
    for each in made:
        where, values = _covered(replace(each, scope=None))
        for name in counts:
            deleted = connection.execute(f"DELETE FROM {name} WHERE {where} AND id = ?", (*values, each.entry_id))  # noqa: S608
            counts[name] += deleted.rowcount
    return Deleted(exact=counts["answers"], semantic=counts["semantic_entries"], number=number)


def _flush(made: Deletion, connection: sqlite3.Connection) -> Deleted:
    """Delete some of the rows that a deletion covers."""
    where, values = _covered(made)
    select = f"SELECT id, answer FROM semantic_entries WHERE {where} LIMIT {STEP}"  # noqa: S608
    rows = connection.execute(select, values).fetchall()
    connection.executemany("DELETE FROM semantic_entries WHERE id = ?", [(id_,) for id_, _ in rows])
    if made.scope is not None:
        ids = [(_decoded(answer).id,) for _, answer in rows]
        exact_count = connection.executemany("DELETE FROM answers WHERE id = ?", ids).rowcount if ids else 0
    else:
        keys = f"SELECT key FROM answers WHERE {where} LIMIT {STEP}"  # noqa: S608
        exact_count = connection.execute(f"DELETE FROM answers WHERE key IN ({keys})", values).rowcount  # noqa: S608
    return Deleted(exact=exact_count, semantic=len(rows), number=0)


def _covered(made: Deletion) -> tuple[str, list[Any]]:
    """Return the condition of the rows that a deletion of all covers, and its values. Only one cache has scopes."""
    given = (("stored_at <= ?", made.at), ("tenant = ?", made.tenant), ("scope = ?", made.scope))
    wanted = [(condition, value) for condition, value in given if value is not None]
    return " AND ".join(condition for condition, _ in wanted), [value for _, value in wanted]
