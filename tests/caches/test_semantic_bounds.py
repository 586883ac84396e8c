"""The semantic cache in bytes: in memory and on disk, over many scopes and within one."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from millrace.caches.partition import EXPIRED, Partition, Stored
from millrace.caches.recent import EACH, Recent
from millrace.caches.segment import Vector
from millrace.caches.semantic import SqliteSemanticCache
from millrace.stores.database import SqliteDatabase
from millrace.types import SemanticHit
from tests.support.semantic_cache import answer, cache_of, stored
from tests.support.waiting import PATIENCE_S, until

MIB = 2**20
NAMES = [first + second for first in "bdfgklmnprst" for second in ("arn", "elm", "ock", "ull", "iver")]


class Words:
    """Embeds a question by its words, each of which has a direction of its own."""

    name, dimensions, quick, strict, threshold = "words", 256, True, True, 0.9

    def embed(self, text: str) -> Vector:
        vector = np.zeros(self.dimensions, np.float32)
        for word in text.split():
            vector[sum(word.encode()) * 31 % self.dimensions] += 1
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


@pytest.fixture
async def database() -> AsyncIterator[SqliteDatabase]:
    made = SqliteDatabase(":memory:")
    yield made
    made.close()


def scope(number: int) -> bytes:
    return number.to_bytes(32)


def question(number: int) -> str:
    return f"What is a {NAMES[number % len(NAMES)]} {NAMES[number // len(NAMES) % len(NAMES)]}?"


async def filled(database: SqliteDatabase, count: int, size: int, *, scopes: int, **bounds: Any) -> SqliteSemanticCache:
    """Store answers of so many bytes, one after the other."""
    cache = cache_of(database, Words(), **bounds)
    for number in range(count):
        cache.store(scope(number % scopes), "tenant", question(number), answer("x" * size))
        await stored(cache)
    return cache


async def rows(database: SqliteDatabase, what: str = "count(*)") -> Any:
    def query(connection: sqlite3.Connection) -> Any:
        return connection.execute(f"SELECT {what} FROM semantic_entries").fetchone()[0]  # noqa: S608 - of this test

    return await database.commit(query, within_s=PATIENCE_S)  # after all that is queued


@pytest.mark.parametrize("scopes", [1, 7, 100])
async def test_memory_is_bounded_in_bytes_however_many_scopes_there_are(database: SqliteDatabase, scopes: int) -> None:
    """The latest answer is found; what left memory is still on disk."""
    cache = await filled(database, 200, 20_000, scopes=scopes, memory_bytes=MIB)
    assert 0.3 * MIB < cache.bytes_used <= MIB
    found = await cache.find(scope(199 % scopes), question(199))
    assert isinstance(found, SemanticHit)
    assert await rows(database) == 200
    await cache.close()


async def test_disk_is_bounded_in_bytes(database: SqliteDatabase) -> None:
    """The oldest go first, down to nine tenths."""
    cache = await filled(database, 200, 20_000, scopes=5, disk_bytes=MIB)
    async with asyncio.timeout(PATIENCE_S):
        while (size := await rows(database, "sum(size)")) > MIB:
            pass  # it is pruned in steps
    assert size > 0.7 * MIB
    assert await rows(database, "count(CASE WHEN question = 'What is a barn barn?' THEN 1 END)") == 0
    await cache.close()


async def test_an_answer_that_would_push_out_too_many_others_is_not_kept(database: SqliteDatabase) -> None:
    """Neither in memory nor on disk, and what was there stays."""
    cache = await filled(database, 5, 1000, scopes=1, memory_bytes=MIB)
    before = cache.bytes_used
    cache.store(scope(0), "tenant", "What is a haystack?", answer("y" * MIB))
    cache.store(scope(0), "tenant", "What is a pitchfork?", answer('"' * (MIB // 6)))  # twice as long in JSON
    await stored(cache)
    assert cache.bytes_used <= before + 50_000
    assert await rows(database) == 5
    await cache.close()


async def test_of_a_scope_that_does_not_fit_into_memory_the_newest_entries_are_loaded(
    database: SqliteDatabase,
) -> None:
    """And no more rows are read from the disk than that."""
    now = [1000.0]
    wide = cache_of(database, Words(), wall=lambda: now[0])
    for number in range(100):
        now[0] += 0.01
        wide.store(scope(0), "tenant", question(number), answer("x" * 20_000))
        await stored(wide)
    await wide.close()
    narrow = cache_of(database, Words(), memory_bytes=MIB, wall=lambda: now[0])
    assert isinstance(await narrow.find(scope(0), question(99)), SemanticHit)
    assert not isinstance(await narrow.find(scope(0), question(3)), SemanticHit)
    assert narrow.bytes_used <= MIB
    assert len(narrow._scopes.partitions[scope(0)]) < 45
    await narrow.close()


async def test_scopes_leave_memory_when_others_need_it(database: SqliteDatabase) -> None:
    cache = await filled(database, 40, 1000, scopes=20)
    before = cache.bytes_used
    cache.give_way(before)
    await until(lambda: len(cache._scopes.partitions) == 1)
    assert cache.bytes_used < before
    assert isinstance(await cache.find(scope(0), question(0)), SemanticHit)  # from the disk
    await cache.close()


def test_a_partition_at_its_bound_drops_few_entries_at_a_time() -> None:
    """Room for more rows is no memory yet, or each compaction would be followed by the next."""
    rng = np.random.default_rng(3)
    held = Partition(384, 10**6)
    sizes = []
    for number in range(2000):
        held.put(Stored(str(number), f"question {number}", b"", 0.0), rng.normal(size=384).astype(np.float32))
        while held.size > MIB:
            held.evict()
        while held.needs_step:
            held.step()
        if number > 1000:
            sizes.append(len(held))
    assert min(sizes) > 0.6 * max(sizes)


def test_recent_results_are_bounded_by_the_length_of_their_texts() -> None:
    calls: list[str] = []

    def length(text: str) -> int:
        calls.append(text)
        return len(text)

    recent = Recent(length, 3 * (EACH + 10))
    assert [recent(text) for text in ("a" * 10, "b" * 10, "a" * 10, "c" * 10, "d" * 10, "a" * 10)] == [10] * 6
    assert calls == ["a" * 10, "b" * 10, "c" * 10, "d" * 10]
    assert (len(recent), recent.size) == (3, 330)
    assert recent("e" * 1000) == 1000
    assert (len(recent), recent.size) == (0, 0)


async def test_a_scope_that_leaves_memory_as_it_grows_is_counted_no_more(database: SqliteDatabase) -> None:
    """As when an entry of it is embedded again that no longer fits: it is the least recently used one."""
    cache = await filled(database, 6, 10_000, scopes=3, memory_bytes=100_000)
    await cache.find(scope(2), question(2))
    kept = cache._scopes
    assert list(kept.partitions) == [scope(0), scope(1), scope(2)]
    more = Stored("sem_0", "What is more?", b"x" * 5_000, 1000.0)
    work = cache._worker.submit_background(lambda: kept.add_renewed(scope(0), more, Words().embed(more.question)))
    await asyncio.wrap_future(work)
    assert list(kept.partitions) == [scope(1), scope(2)]
    assert kept.bytes_used == sum(kept.partitions[scope(number)].size for number in (1, 2))
    await cache.close()


def test_very_many_that_have_expired_go_in_parts() -> None:
    """The loop itself looks up, and must not wait until all are gone. Those that are served are looked at anyway."""
    partition = Partition(256, 10**6)
    for number in range(EXPIRED + 1):
        partition.put(Stored(str(number), "q", b"", float(number)), Words().embed("q"))
    partition.expire(1000.0)
    assert len(partition) == 1
    partition.expire(1000.0)
    assert not len(partition)
