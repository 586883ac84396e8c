"""The store of the semantic cache by itself: one large scope, and very many small ones. No server, no model.

`python -m tests.bench.semantic_store FOLDER` measures the small ones, which must be in the folder, in a process that
has nothing else in memory, and prints figures as JSON. `python -m tests.bench.semantic` runs it.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from pathlib import Path

import msgspec

from millrace.caches.embedders.process import MiniLMProcess
from millrace.caches.exact import SqliteExactCache
from millrace.caches.finder import Finder
from millrace.caches.partition import Stored
from millrace.caches.semantic import SqliteSemanticCache
from millrace.stores.database import SqliteDatabase
from millrace.types import Answer, SemanticHit, StoredAnswer, Usage, entry_id
from tests.bench import questions
from tests.bench.processes import rss
from tests.support.semantic_cache import MODEL
from tests.support.waiting import until

Figures = list[tuple[str, float]]

TENANT = "bench"
ROOMY = 2**31  # bytes
AT_ONCE = 2000  # rows in the queue of the disk
INDEXED_S = 1200.0
EVERY_S = 1 / 200  # a lookup
NEAR = 10  # one in so many has a near candidate
LOOKUPS = 4000
SCOPES, EACH = 10_000, 20
COLD = 2000  # scopes that are asked
ANSWER = Answer(text="So. " * 60, model=MODEL, usage=Usage(input_tokens=7, output_tokens=60), check="passed")


def scope_of(number: int) -> bytes:
    return number.to_bytes(32)


def opened(database: SqliteDatabase, folder: Path, finder: Finder, comparer: MiniLMProcess) -> SqliteSemanticCache:
    return SqliteSemanticCache(
        database,
        finder,
        finder,
        comparer,
        folder=folder / "semantic",
        ttl_s=1e6,
        wall=time.time,
        memory_bytes=ROOMY,
        disk_bytes=ROOMY,
        deadline_s=0.25,
    )


async def fill(
    database: SqliteDatabase,
    cache: SqliteSemanticCache,
    rows: Iterable[tuple[bytes, str]],
    tenant: str = TENANT,
    stored: StoredAnswer | None = None,
) -> None:
    """Write rows as the cache does, but not through memory; all with the same answer."""
    finder, answer = Finder(), msgspec.json.encode(stored or ANSWER.stored(time.time()))
    embedded = lru_cache(EACH)(finder.embed)
    for number, (scope, text) in enumerate(rows):
        entry = Stored(entry_id(scope, text), text, answer, time.time(), finder.tokens(text))
        cache._table.put(scope, tenant, entry, embedded(text))
        if number % AT_ONCE == 0:
            await database.ready()
    await database.ready()


async def large(folder: Path, stored: list[str], rewordings: list[str]) -> Figures:
    """Ask one scope, once it is loaded and indexed: at a pace, mostly for what is new. `rewordings` are near."""
    database, finder, comparer = SqliteDatabase(str(folder)), Finder(), MiniLMProcess()
    cache = opened(database, folder, finder, comparer)
    exact = SqliteExactCache(database, ttl_s=1e6, memory_bytes=2**27, disk_bytes=2**27, wall=time.time)
    await database.ready()
    await fill(database, cache, ((scope_of(0), text) for text in stored))
    new = questions.new("asked")
    began = time.perf_counter()
    await cache.find(scope_of(0), next(new))
    first = time.perf_counter() - began
    partition = cache._scopes.partitions[scope_of(0)]
    await until(lambda: len(partition) == len(stored) and not partition.needs_step, INDEXED_S)
    indexed = time.perf_counter() - began
    searched = []
    for text in islice(new, 1000):
        vector, at = finder.embed(text), time.perf_counter()
        partition.nearest(vector)
        searched.append(1000 * (time.perf_counter() - at))
    await cache.find(scope_of(0), rewordings[0])  # MiniLM starts
    exact.store(b"k" * 32, TENANT, ANSWER)
    lags, lookups, looked_up, hits = [], [], [], []

    async def look(text: str, *, is_near: bool) -> None:
        began = time.perf_counter()
        found = await cache.find(scope_of(0), text)
        if is_near:
            hits.append(isinstance(found, SemanticHit))
        lookups.append(1000 * (time.perf_counter() - began))
        began = time.perf_counter()
        await exact.find(b"k" * 32)
        looked_up.append(1000 * (time.perf_counter() - began))

    async with asyncio.TaskGroup() as group:
        due = time.perf_counter()
        for number in range(LOOKUPS):
            due += EVERY_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            lags.append(1000 * max(0.0, time.perf_counter() - due))
            is_near = number % NEAR == 0
            text = rewordings[number // NEAR % len(rewordings)] if is_near else next(new)
            group.create_task(look(text, is_near=is_near))
    await cache.close()
    comparer.close()
    await asyncio.to_thread(database.close)
    return [
        ("first lookup of the large scope, ms", 1000 * first),
        ("until it is loaded and indexed, s", indexed),
        ("the finder's search in it, p50 ms", statistics.median(searched)),
        ("exact cache beside it at 200 lookups/s, p50 ms", statistics.median(looked_up)),
        ("semantic lookups at that pace, p50 ms", statistics.median(lookups)),
        ("lag of the loop at that pace, p50 ms", statistics.median(lags)),
        ("lag of the loop at that pace, p99 ms", statistics.quantiles(lags, n=100)[-1]),
        ("near questions served then, %", 100 * sum(hits) / len(hits)),
    ]


async def fill_small(folder: Path) -> None:
    """Write very many small scopes."""
    database, finder, comparer = SqliteDatabase(str(folder)), Finder(), MiniLMProcess()
    cache = opened(database, folder, finder, comparer)
    await database.ready()
    texts = list(islice(questions.new("small"), EACH))
    await fill(database, cache, ((scope_of(number), text) for number in range(SCOPES) for text in texts))
    await cache.close()
    await asyncio.to_thread(database.close)


async def small(folder: Path) -> Figures:
    """Ask scopes that are not in memory, each once."""
    database, finder, comparer = SqliteDatabase(str(folder)), Finder(), MiniLMProcess()
    cache = opened(database, folder, finder, comparer)
    await database.ready()
    finder.load()
    text = next(questions.new("cold"))
    await cache.find(scope_of(0), text)
    await asyncio.wrap_future(comparer.compare(text, [text]))
    taken = []
    for number in range(1, COLD):
        began = time.perf_counter()
        await cache.find(scope_of(number * SCOPES // COLD), text)
        taken.append(1000 * (time.perf_counter() - began))
    used = rss(os.getpid()) + (rss(comparer._child.pid) if comparer._child else 0)
    await cache.close()
    comparer.close()
    await asyncio.to_thread(database.close)
    return [
        ("first lookup of a cold scope, p50 ms", statistics.median(taken)),
        ("first lookup of a cold scope, p99 ms", statistics.quantiles(taken, n=100)[-1]),
        ("memory with 10,000 scopes of 20, MiniLM included, MiB (RSS)", used / 1024),
    ]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(small(Path(sys.argv[1])))))
