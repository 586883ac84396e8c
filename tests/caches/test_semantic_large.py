"""A large scope: served at once after a start, read in steps, its indexes saved and loaded, and never trusted."""

import asyncio
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from millrace.caches import scopes, segment, table
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.partition import Partition, Stored
from millrace.caches.semantic import SqliteSemanticCache
from millrace.caches.snapshots import FOLDER
from millrace.stores.database import SqliteDatabase
from millrace.types import SemanticHit, SemanticMiss
from tests.support.looks import look
from tests.support.semantic_cache import SCOPE, answer, cache_of, questions, settled, stored
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("few_are_large")

COUNT = 300
CHOICE = random.Random(1)
WORDS = ["".join(CHOICE.choices("bcdfghklmnprtvw", k=7)) + "aro" for _ in range(COUNT + 50)]


def question(number: int) -> str:
    return f"How do I paint a {WORDS[number]}?"


def opened(database: SqliteDatabase, folder: Path, **bounds: Any) -> SqliteSemanticCache:
    return cache_of(database, Hashing(), folder=folder / FOLDER, index_above=40, **bounds)


async def filled(database: SqliteDatabase, folder: Path) -> None:
    cache = opened(database, folder)
    for number in range(COUNT):
        cache.store(SCOPE, "tenant", question(number), answer(str(number)))
    await stored(cache)
    await until(lambda: len(files(folder)) == COUNT // segment.ROWS and is_saved(cache))
    await cache.close()


def is_saved(cache: SqliteSemanticCache) -> bool:
    return all(each.saved == each.rows and each.key for each in cache._scopes.partitions[SCOPE].segments)


def files(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("*.index"))


def remove_database(folder: Path) -> None:
    for path in folder.glob("millrace.sqlite3*"):
        path.unlink()


async def served(cache: SqliteSemanticCache, number: int) -> bool:
    found = await cache.find(SCOPE, f"how can I paint a {WORDS[number]}")
    return isinstance(found, SemanticHit) and found.answer.text == str(number)


async def test_after_a_start_the_latest_are_served_at_once_and_then_all(
    database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From indexes that are loaded: none is built."""
    await filled(database, tmp_path)
    await database.ready()
    monkeypatch.setattr(segment.Segment, "index_step", lambda _: pytest.fail("an index was built"))
    cache = opened(database, tmp_path)
    await cache.find(SCOPE, question(0))
    assert len(cache._scopes.partitions[SCOPE]) < COUNT
    await until(lambda: len(cache._scopes.partitions[SCOPE]) == COUNT)
    await settled(cache)
    assert all([await served(cache, number) for number in range(0, COUNT, 7)])
    assert cache._scopes.partitions[SCOPE].unindexed == 0
    await cache.close()


async def test_while_an_index_is_loaded_lookups_go_on(
    database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been read is found row by row."""
    await filled(database, tmp_path)
    cache = opened(database, tmp_path)
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    assert cache._snapshots is not None
    load = cache._snapshots.load

    def late(scope: bytes) -> object:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        return load(scope)

    monkeypatch.setattr(cache._snapshots, "load", late)
    latest = (await first_rows(cache))[0].question
    assert await served(cache, next(number for number in range(COUNT) if question(number) == latest))
    assert 0 < len(cache._scopes.partitions[SCOPE]) <= table.PAGE
    gate.set()
    await settled(cache)
    await until(lambda: len(cache._scopes.partitions[SCOPE]) == COUNT)
    await cache.close()


async def test_without_snapshots_rows_are_read_as_fast_as_indexes_are_filled(
    database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a lookup would search very many of them one by one."""
    await filled(database, tmp_path)
    for path in files(tmp_path):
        path.unlink()
    monkeypatch.setattr(scopes, "FEW_ROWS", 50)
    waiting: list[int] = []
    put = Partition.put

    def noted(held: Partition, *given: Any, **options: Any) -> None:
        put(held, *given, **options)
        waiting.append(held.unindexed)

    monkeypatch.setattr(Partition, "put", noted)
    cache = opened(database, tmp_path)
    await cache.find(SCOPE, question(0))
    await until(lambda: len(cache._scopes.partitions[SCOPE]) == COUNT)
    assert max(waiting) <= 50 + table.PAGE
    await settled(cache)
    assert all([await served(cache, number) for number in range(0, COUNT, 7)])
    await cache.close()


async def first_rows(cache: SqliteSemanticCache) -> list[Stored]:
    page = await asyncio.to_thread(cache._table.page, SCOPE, table.START, 10**9, 0)
    return [entry for entry, _ in page.entries]


@pytest.mark.parametrize("at", [0, 40, 400, -30, -3])
async def test_a_damaged_snapshot_is_built_again(database: SqliteDatabase, tmp_path: Path, at: int) -> None:
    """All are found, and there are sound ones in its place."""
    await filled(database, tmp_path)
    damaged = bytearray(files(tmp_path)[1].read_bytes())
    damaged[at] ^= 4
    files(tmp_path)[1].write_bytes(damaged)
    cache = opened(database, tmp_path)
    await cache.find(SCOPE, question(0))
    await until(lambda: len(cache._scopes.partitions[SCOPE]) == COUNT)
    await settled(cache)
    await until(lambda: len(files(tmp_path)) > 2)
    assert bytes(damaged) not in [path.read_bytes() for path in files(tmp_path)]
    assert all([await served(cache, number) for number in range(0, COUNT, 7)])
    await cache.close()


async def test_snapshots_of_another_database_find_nothing_of_it(tmp_path: Path) -> None:
    """The file of SQLite was replaced, the folder of the indexes was not."""
    first = SqliteDatabase(str(tmp_path))
    await filled(first, tmp_path)
    await asyncio.to_thread(first.close)
    remove_database(tmp_path)
    second = SqliteDatabase(str(tmp_path))
    cache = opened(second, tmp_path)
    for number in range(250, 350):
        cache.store(SCOPE, "tenant", question(number), answer(str(number)))
    await stored(cache)
    await cache.close()
    cache = opened(second, tmp_path)
    await cache.find(SCOPE, question(0))
    await until(lambda: len(cache._scopes.partitions[SCOPE]) == 100)
    await settled(cache)
    assert all([await served(cache, number) for number in range(250, 350, 7)])
    assert isinstance(await cache.find(SCOPE, f"how can I paint a {WORDS[7]}"), SemanticMiss)
    assert sum(each.live for each in cache._scopes.partitions[SCOPE].segments) == 100
    await cache.close()
    await asyncio.to_thread(second.close)


async def test_of_what_does_not_fit_the_most_used_are_loaded(database: SqliteDatabase, tmp_path: Path) -> None:
    """And memory keeps to its bound while they are, but for the copy of an index that is being saved."""
    await filled(database, tmp_path)
    cache = opened(database, tmp_path, memory_bytes=400_000)
    await cache.find(SCOPE, question(0))
    most = 0
    for _ in range(200):
        await stored(cache)
        most = max(most, cache._scopes.bytes_used - cache._scopes._copied_bytes)
    assert 100_000 < most <= 400_000
    assert 30 < len(cache._scopes.partitions[SCOPE]) < COUNT
    await cache.close()


async def test_what_is_hit_often_stays_on_disk_longer_than_what_is_newer(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    """Rows go by the time of their last use, to which hits add; what goes leaves memory too."""
    now = [1000.0]
    cache = opened(database, tmp_path, wall=lambda: now[0], ttl_s=1000.0, disk_bytes=200_000)
    cache.store(SCOPE, "tenant", question(0), answer("0"))
    await stored(cache)
    for _ in range(3):
        assert await served(cache, 0)
        await stored(cache)
    for number in range(1, COUNT):
        now[0] += 1.0
        cache.store(SCOPE, "tenant", question(number), answer(str(number)))
        if number % 20 == 0:
            await stored(cache)
    await stored(cache)
    await settled(cache)
    kept = await look(database, partial(questions, "tenant"))
    assert question(0) in kept
    assert question(1) not in kept
    assert question(COUNT - 1) in kept
    assert await served(cache, 0)
    assert not await served(cache, 1)
    await until(lambda: len(cache._scopes.partitions[SCOPE]) == len(kept))
    await cache.close()


async def test_indexes_count_as_bytes_on_disk(database: SqliteDatabase, tmp_path: Path) -> None:
    """They take from what rows may use, a quarter of all at most."""
    cache = opened(database, tmp_path, disk_bytes=2_000_000)
    for number in range(COUNT):
        cache.store(SCOPE, "tenant", question(number), answer(str(number)))
    await stored(cache)
    await until(lambda: is_saved(cache))
    used = sum(path.stat().st_size for path in files(tmp_path))
    assert 0 < used <= 500_000
    assert cache._table.pruner.max_bytes == 2_000_000 - used
    await cache.close()


async def test_a_page_of_large_answers_is_short(
    database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more of them are in memory at once than a page may have; all are read in the end."""
    monkeypatch.setattr(table, "PAGE_BYTES", 100_000)
    cache = opened(database, tmp_path)
    for number in range(20):
        cache.store(SCOPE, "tenant", question(number), answer("x" * 30_000))
    await stored(cache)
    await cache.close()
    cache = opened(database, tmp_path)
    assert len(await first_rows(cache)) == 3
    await cache.find(SCOPE, question(0))
    await until(lambda: len(cache._scopes.partitions[SCOPE]) == 20)
    await cache.close()
